//! `GET /status_count?start=S&end=E`: how many of each status were taken in [start, end).

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::{Serialize, Serializer};

use super::Api;
use super::counts::{TimeUncertain, answer, by_status, sums};
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
    #[serde(serialize_with = "each")]
    counts: Counts,
    total: u64,
    time_uncertain: TimeUncertain<u64>,
    /// Everything that was acknowledged before this instant is counted.
    as_of: String,
}

fn each<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    by_status(serializer, |status| counts.statuses[status])
}

pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let range = parse_query(query.as_deref().unwrap_or_default())?;
    let (counts, as_of) = sums(&api, Plan::new(range.clone()), plan::total).await?;
    let time_uncertain = TimeUncertain { one_second: counts.one_second, unknown: counts.unknown };
    let total = counts.total();
    Ok(answer(&Answer { start: range.start, end: range.end, counts, total, time_uncertain, as_of }))
}
