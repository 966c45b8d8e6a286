//! `GET /v1/counts?start=S&end=E`: as `status_count`; with `device=ID`, once or more, how many of each status each of
//! these devices took in [start, end), which are whole minutes then.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use rollcall_wire::DeviceId;
use serde::Serialize;

use super::Api;
use super::answers::{TimeUncertain, answer, each_status};
use super::error::Problem;
use super::range::{Parameters, seconds};
use super::status_count;
use crate::log::LogStore;
use crate::log::devices;
use crate::model::{Counts, UnixMs};

/// The most hours that are read for one answer, of all its devices together: of one device more than two years.
pub(super) const HOURS_MAX: usize = 20_000;

#[derive(Serialize)]
struct Answer {
    start: u64,
    end: u64,
    /// In the order in which they were asked for, zeros included.
    devices: Vec<Device>,
    /// Everything that was acknowledged before this instant is counted.
    as_of: String,
}

#[derive(Serialize)]
struct Device {
    device: String,
    #[serde(serialize_with = "each_status")]
    counts: Counts,
    total: u64,
    time_uncertain: TimeUncertain<u64>,
}

pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref().unwrap_or_default(), &["start", "end", "device"])?;
    let asked = parameters.devices()?;
    if asked.is_empty() {
        return status_count::all(&api, parameters.range()?).await;
    }
    let minutes = parameters.minutes()?;
    let hours = devices::hours_of(&minutes).len() * asked.len();
    if hours > HOURS_MAX {
        let problem = format!(
            "there are {hours} hours of devices, and an answer has at most {HOURS_MAX}: ask for a shorter range, or for fewer devices at a time"
        );
        return Err(Problem::bad_parameter("end", problem));
    }
    let counted = devices::counts(&*api.store, &asked, minutes.clone(), UnixMs::now()).await?;
    let of_device = |(device, counts): (DeviceId, Counts)| Device {
        device: device.to_string(),
        counts,
        total: counts.total(),
        time_uncertain: TimeUncertain { one_second: counts.one_second, unknown: counts.unknown },
    };
    let range = seconds(&minutes);
    Ok(answer(&Answer {
        start: range.start,
        end: range.end,
        devices: asked.into_iter().zip(counted.value).map(of_device).collect(),
        as_of: counted.as_of.to_rfc3339(),
    }))
}
