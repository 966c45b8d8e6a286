//! `GET /status_count?start=S&end=E`: how many of each status were taken in [start, end).

use std::ops::Range;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;

use super::Api;
use super::answers::{TimeUncertain, answer, each_status, sums};
use super::error::Problem;
use super::range::parse_query;
use crate::log::LogStore;
use crate::log::plan::{self, Plan};
use crate::model::Counts;

#[derive(Serialize)]
struct Answer {
    start: u64,
    end: u64,
    /// Zeros included.
    #[serde(serialize_with = "each_status")]
    counts: Counts,
    total: u64,
    time_uncertain: TimeUncertain<u64>,
    /// Everything that was acknowledged before this instant is counted.
    as_of: String,
}

pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    all(&api, parse_query(query.as_deref().unwrap_or_default())?).await
}

/// The counts of all devices.
///
/// # Errors
/// 503 when the store does not answer.
pub(super) async fn all<S: LogStore>(api: &Api<S>, range: Range<u64>) -> Result<Response, Problem> {
    let (counts, as_of) = sums(api, Plan::new(range.clone()), plan::total).await?;
    let time_uncertain = TimeUncertain { one_second: counts.one_second, unknown: counts.unknown };
    let total = counts.total();
    Ok(answer(&Answer {
        start: range.start,
        end: range.end,
        counts,
        total,
        time_uncertain,
        as_of: as_of.to_rfc3339(),
    }))
}
