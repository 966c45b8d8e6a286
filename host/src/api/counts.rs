//! `GET /v1/counts?start=S&end=E`: as `status_count`; with `device=ID`, once or more, how many of each status each of
//! these devices took in [start, end), which are whole minutes then; with `completeness=true` what of them is not there.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use rollcall_wire::DeviceId;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::answers::{TimeUncertain, answer, each_status};
use super::completeness::{self, Completeness};
use super::error::Problem;
use super::openapi::{CompletenessAsked, RangeAsked};
use super::range::{Parameters, seconds};
use super::status_count;
use crate::fleet::{self, Steps};
use crate::log::devices::{self, AsOf, DeviceView};
use crate::log::{LogStore, StoreError};
use crate::model::{Counts, UnixMs};

/// The most hours that are read for one answer, of all its devices together: of one device more than two years.
pub(super) const HOURS_MAX: usize = 20_000;

/// What can be asked with.
const KNOWN: [&str; 4] = ["start", "end", "device", completeness::NAME];

/// How many samples of each status single devices took.
#[derive(Serialize, ToSchema)]
#[schema(as = DeviceCounts)]
struct Answer {
    /// The range that was used, in Unix seconds.
    start: u64,
    end: u64,
    /// In the order in which they were asked for, zeros included.
    devices: Vec<Device>,
    /// Everything that was acknowledged before this instant is counted.
    #[schema(format = DateTime)]
    as_of: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = CountsOfDevice)]
struct Device {
    device: String,
    /// For every status, zeros included.
    #[serde(serialize_with = "each_status")]
    #[schema(value_type = BTreeMap<String, u64>)]
    counts: Counts,
    total: u64,
    time_uncertain: TimeUncertain<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completeness: Option<Completeness<u64>>,
}

/// Either of the two, for the document.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = AnyCounts)]
#[expect(dead_code, reason = "it is there for its schema")]
enum AnyAnswer {
    OfAll(status_count::Answer),
    OfDevices(Answer),
}

/// As status_count; with `device`, once or more, how many of each status each of these devices took.
#[utoipa::path(
    get,
    path = "/v1/counts",
    operation_id = "counts",
    tag = "queries",
    params(
        RangeAsked,
        CompletenessAsked,
        ("device" = Option<Vec<String>>, Query, description = "Whose. The range is in whole minutes then.", explode = true, example = json!(["porch"])),
    ),
    responses((status = 200, description = "The counts.", body = AnyAnswer)),
)]
pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref().unwrap_or_default(), &KNOWN)?;
    let asked = parameters.devices()?;
    let with_completeness = completeness::is_wanted(&parameters)?;
    if asked.is_empty() {
        return status_count::all(&api, parameters.range()?, with_completeness).await;
    }
    let minutes = parameters.minutes()?;
    let hours = devices::hours_of(&minutes).len() * asked.len();
    if hours > HOURS_MAX {
        let problem = format!(
            "there are {hours} hours of devices, and an answer has at most {HOURS_MAX}: ask for a shorter range, or for fewer devices at a time"
        );
        return Err(Problem::bad_parameter("end", problem));
    }
    let AsOf { value: views, as_of } = devices::read(&*api.store, &asked, &minutes, UnixMs::now()).await?;
    let range = seconds(&minutes);
    let steps = Steps::one(&range);
    let of_device = |(device, view): (DeviceId, DeviceView)| {
        let counts = view.counts(&minutes)?;
        let absent = with_completeness.then(|| fleet::absent_of(&view, &steps, as_of)).transpose()?;
        Ok(Device {
            device: device.to_string(),
            counts,
            total: counts.total(),
            time_uncertain: TimeUncertain { one_second: counts.one_second, unknown: counts.unknown },
            completeness: absent.map(|absent| Completeness::total(&counts, absent)),
        })
    };
    Ok(answer(&Answer {
        start: range.start,
        end: range.end,
        devices: asked.into_iter().zip(views).map(of_device).collect::<Result<_, StoreError>>()?,
        as_of: as_of.to_rfc3339(),
    }))
}
