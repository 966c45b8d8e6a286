//! `GET /status_count?start=S&end=E`: how many of each status were taken in [start, end).

use std::ops::Range;

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::Api;
use super::error::Problem;
use crate::log::LogStore;
use crate::log::plan::{self, Plan};
use crate::model::{Counts, UnixMs, parse_rfc3339_second};

/// The end of the year 9999, the last that RFC 3339 can write, in Unix seconds.
const SECOND_MAX: u64 = 253_402_300_800;

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
    let counts = plan::total(&plan, &view);
    let time_uncertain = TimeUncertain { one_second: counts.one_second, unknown: counts.unknown };
    let total = counts.total();
    let answer = Answer { start: range.start, end: range.end, counts, total, time_uncertain, as_of };
    // A struct of numbers and strings always serialises.
    let body = serde_json::to_string(&answer).expect("plain data always serialises");
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// Reads `start=S&end=E`, each once and nothing else.
///
/// A `+` stands for itself, so that an offset can be written as it is.
///
/// # Errors
/// The [`Problem`] names the parameter; any text is read or refused, never a panic.
pub fn parse_query(query: &str) -> Result<Range<u64>, Problem> {
    let (mut start, mut end) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        let slot = match name.as_str() {
            "start" => &mut start,
            "end" => &mut end,
            _ => return Err(Problem::bad_parameter(&name, "only start and end are known")),
        };
        if slot.replace(second(&name, &value)?).is_some() {
            return Err(Problem::bad_parameter(&name, format!("{name} is given more than once")));
        }
    }
    let missing = |name: &str| {
        Problem::bad_parameter(name, format!("{name} is missing; ask for /status_count?start=S&end=E"))
    };
    let range = start.ok_or_else(|| missing("start"))?..end.ok_or_else(|| missing("end"))?;
    if range.start > range.end {
        return Err(Problem::bad_parameter("start", "start is after end"));
    }
    Ok(range)
}

fn decoded(text: &str) -> Result<String, Problem> {
    let bytes = percent_decode_str(text).decode_utf8();
    bytes.map(Into::into).map_err(|_| Problem::bad_parameter(text, "not UTF-8 after percent-decoding"))
}

/// Whole Unix seconds or RFC 3339.
fn second(name: &str, value: &str) -> Result<u64, Problem> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let second = if digits { value.parse().ok() } else { parse_rfc3339_second(value) };
    match second {
        Some(second) if second <= SECOND_MAX => Ok(second),
        _ if digits => Err(Problem::bad_parameter(name, format!("{name} is after the year 9999"))),
        _ => Err(Problem::bad_parameter(
            name,
            format!(
                "{name} is not a time: write whole Unix seconds (1721433676) or RFC 3339 with an offset and no fraction (2024-07-20T00:01:16Z)"
            ),
        )),
    }
}
