//! `GET /v1/differs?start=S&end=E`: what is different in [start, end), in whole minutes, from the same length before:
//! statuses and devices, those that differ most first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use rollcall_wire::DeviceId;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::answers::{answer, each_status, sums};
use super::error::Problem;
use super::openapi::RangeAsked;
use super::range::{Parameters, seconds};
use crate::fleet;
use crate::log::LogStore;
use crate::log::devices;
use crate::log::plan::{self, Plan};
use crate::model::{Counts, UnixMs};

/// The longest range: of every device twice as many hours are read.
const MINUTES_MAX: u32 = 24 * 60;

/// So many devices are named.
const NAMED: usize = 20;

/// So many devices are read at a time.
const READ_DEVICES: usize = 256;

/// What is different in a range from the same length before.
#[derive(Serialize, ToSchema)]
#[schema(as = Differences)]
struct Answer {
    start: u64,
    end: u64,
    /// Where the range begins that it is compared with; it ends at `start`.
    before: u64,
    /// All statuses.
    statuses: Vec<Status>,
    /// Those that differ most, as far as they differ.
    devices: Vec<Device>,
    /// So many devices differ.
    devices_differing: usize,
    /// Everything that was acknowledged before this instant is counted.
    #[schema(format = DateTime)]
    as_of: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatusDifference)]
struct Status {
    status: usize,
    before: u64,
    here: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeviceDifference)]
struct Device {
    device: String,
    /// By how many samples the statuses differ, added up.
    difference: u64,
    #[serde(serialize_with = "each_status")]
    #[schema(value_type = BTreeMap<String, u64>)]
    before: Counts,
    #[serde(serialize_with = "each_status")]
    #[schema(value_type = BTreeMap<String, u64>)]
    here: Counts,
}

/// What is different in [start, end), in whole minutes and at most a day, from the same length before: those that differ most
/// first.
#[utoipa::path(
    get,
    path = "/v1/differs",
    operation_id = "differs",
    tag = "queries",
    params(RangeAsked),
    responses((status = 200, description = "The differences.", body = Answer)),
)]
pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let here = Parameters::parse(query.as_deref().unwrap_or_default(), &["start", "end"])?.minutes()?;
    let length = here.end - here.start;
    if length > MINUTES_MAX {
        let problem = format!("there are {length} minutes, and at most {MINUTES_MAX}, a day, are compared");
        return Err(Problem::bad_parameter("end", problem));
    }
    let Some(before) = here.start.checked_sub(length) else {
        return Err(Problem::bad_parameter("start", "what comes before it begins before 1970"));
    };
    let before = before..here.start;
    let (counts_before, as_of) = sums(&api, Plan::new(seconds(&before)), plan::total).await?;
    let (counts_here, _) = sums(&api, Plan::new(seconds(&here)), plan::total).await?;
    let status = |status: usize| {
        let of = |counts: &Counts| counts.statuses[status];
        Status { status, before: of(&counts_before), here: of(&counts_here) }
    };
    let mut statuses: Vec<_> = (0..counts_here.statuses.len()).map(status).collect();
    statuses.sort_by_key(|status| Reverse(status.before.abs_diff(status.here)));
    let (ranked, devices_differing, devices_as_of) = ranked(&api, &before, &here).await?;
    let named = |((Reverse(difference), device), (before, here))| {
        let device: DeviceId = device;
        Device { device: device.to_string(), difference, before, here }
    };
    Ok(answer(&Answer {
        start: seconds(&here).start,
        end: seconds(&here).end,
        before: seconds(&before).start,
        statuses,
        devices: ranked.into_iter().map(named).collect(),
        devices_differing,
        // What is asked later holds at least what the first answer does.
        as_of: as_of.min(devices_as_of).to_rfc3339(),
    }))
}

/// By how much a device differs, the most first; equal ones by id.
type Ranked = BTreeMap<(Reverse<u64>, DeviceId), (Counts, Counts)>;

/// The devices that differ most, how many differ, and as of when.
async fn ranked<S: LogStore>(
    api: &Api<S>,
    before: &Range<u32>,
    here: &Range<u32>,
) -> Result<(Ranked, usize, UnixMs), Problem> {
    let mut ids = Vec::new();
    fleet::scan(&*api.store, |device| ids.push(device.id)).await?;
    let (mut ranked, mut differing, mut as_of) = (Ranked::new(), 0, UnixMs::now());
    for some in ids.chunks(READ_DEVICES) {
        let read = devices::read(&*api.store, some, &(before.start..here.end), as_of).await?;
        as_of = read.as_of;
        for (device, view) in some.iter().zip(read.value) {
            let (mut sum_before, mut sum_here) = (Counts::default(), Counts::default());
            for (minute, counts) in view.minutes()? {
                if before.contains(&minute) {
                    sum_before += counts;
                } else if here.contains(&minute) {
                    sum_here += counts;
                }
            }
            let both = sum_before.statuses.iter().zip(sum_here.statuses);
            let difference: u64 = both.map(|(before, here)| before.abs_diff(here)).sum();
            if difference > 0 {
                differing += 1;
                ranked.insert((Reverse(difference), *device), (sum_before, sum_here));
                if ranked.len() > NAMED {
                    ranked.pop_last();
                }
            }
        }
        tokio::task::yield_now().await;
    }
    Ok((ranked, differing, as_of))
}
