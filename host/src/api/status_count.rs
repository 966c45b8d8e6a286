//! `GET /status_count?start=S&end=E`: how many of each status were taken in [start, end).

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::Api;
use super::error::Problem;
use super::range::parse_query;
use crate::log::LogStore;
use crate::log::plan::{self, Plan};
use crate::model::{Counts, UnixMs};

#[derive(Serialize)]
struct Answer {
    start: u64,
    end: u64,
    #[serde(serialize_with = "by_status")]
    counts: Counts,
    total: u64,
    time_uncertain: TimeUncertain,
    /// Everything that was acknowledged before this instant is counted.
    as_of: String,
}

/// How many of all may have been taken in another second than the one in which they are counted.
#[derive(Serialize)]
struct TimeUncertain {
    /// Their time is known to a second only.
    one_second: u64,
    /// Their time is not known.
    unknown: u64,
}

/// Every status in order, zeros included.
fn by_status<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(counts.statuses.len()))?;
    for (status, count) in counts.statuses.iter().enumerate() {
        map.serialize_entry(&status.to_string(), count)?;
    }
    map.end()
}

pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let range = parse_query(query.as_deref().unwrap_or_default())?;
    let as_of = UnixMs::now().to_rfc3339();
    let plan = Plan::new(range.clone());
    let view = api.store.view(&plan).await.map_err(|error| Problem::unavailable(error.to_string()))?;
    // A long tail takes its time, and other requests do not wait for it.
    let counts = tokio::task::spawn_blocking(move || plan::total(&plan, &view)).await;
    let counts = counts.map_err(|error| Problem::unavailable(error.to_string()))?;
    let time_uncertain = TimeUncertain { one_second: counts.one_second, unknown: counts.unknown };
    let total = counts.total();
    let answer = Answer { start: range.start, end: range.end, counts, total, time_uncertain, as_of };
    // A struct of numbers and strings always serialises.
    let body = serde_json::to_string(&answer).expect("plain data always serialises");
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}
