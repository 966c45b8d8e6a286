//! `GET /status_count?start=S&end=E`: how many of each status were taken in [start, end).

use std::ops::Range;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::answers::{TimeUncertain, answer, each_status, sums};
use super::completeness::{self, Completeness};
use super::error::Problem;
use super::openapi::RangeAsked;
use super::range::parse_query;
use crate::fleet::Steps;
use crate::log::LogStore;
use crate::log::plan::{self, Plan};
use crate::model::Counts;

/// How many samples of each status were taken.
#[derive(Serialize, ToSchema)]
#[schema(as = Counts)]
pub(super) struct Answer {
    /// The range that was used, in Unix seconds.
    #[schema(example = 1_795_401_950)]
    start: u64,
    #[schema(example = 1_795_402_000)]
    end: u64,
    /// For every status, zeros included.
    #[schema(value_type = BTreeMap<String, u64>, example = json!({"0": 0, "1": 0, "2": 0, "3": 0, "4": 0, "5": 2, "6": 1}))]
    #[serde(serialize_with = "each_status")]
    counts: Counts,
    /// All statuses together.
    #[schema(example = 3)]
    total: u64,
    time_uncertain: TimeUncertain<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completeness: Option<Completeness<u64>>,
    /// Everything that was acknowledged before this instant is counted.
    #[schema(format = DateTime, example = "2026-11-23T02:46:40.254Z")]
    as_of: String,
}

/// How many of each status were taken in [start, end).
#[utoipa::path(
    get,
    path = "/status_count",
    operation_id = "status_count",
    tag = "queries",
    params(RangeAsked),
    responses((status = 200, description = "The counts.", body = Answer)),
)]
pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    all(&api, parse_query(query.as_deref().unwrap_or_default())?, false).await
}

/// The counts of all devices, and what of them is not there, if that is asked for.
///
/// # Errors
/// 503 when the store does not answer.
pub(super) async fn all<S: LogStore>(
    api: &Api<S>,
    range: Range<u64>,
    with_completeness: bool,
) -> Result<Response, Problem> {
    // First, so that whatever is not missing any more is counted.
    let absent = completeness::of_fleet(api, with_completeness.then(|| Steps::one(&range))).await?;
    let (counts, mut as_of) = sums(api, Plan::new(range.clone()), plan::total).await?;
    let completeness = absent.map(|absent| {
        as_of = as_of.min(absent.as_of);
        Completeness::total(&counts, absent.value)
    });
    let time_uncertain = TimeUncertain { one_second: counts.one_second, unknown: counts.unknown };
    let total = counts.total();
    Ok(answer(&Answer {
        start: range.start,
        end: range.end,
        counts,
        total,
        time_uncertain,
        completeness,
        as_of: as_of.to_rfc3339(),
    }))
}
