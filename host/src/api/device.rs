//! `GET /v1/devices/ID`: one device, with its boots and what of each is missing.

use axum::extract::{Path, State};
use axum::response::Response;
use rollcall_wire::{DeviceId, Slot};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::answers::answer;
use super::devices::DeviceAnswer;
use super::error::Problem;
use crate::fleet::{self, Gap, gaps, period_ms};
use crate::log::devices::{self, AsOf};
use crate::log::{LogStore, row};
use crate::model::UnixMs;

/// A device with its boots.
#[derive(Serialize, ToSchema)]
#[schema(as = DeviceWithBoots)]
struct Answer {
    #[serde(flatten)]
    device: DeviceAnswer,
    /// Those that can get more samples; that of the last sample stands last.
    boots: Vec<Boot>,
    /// Everything that was acknowledged before this instant is in it.
    #[schema(format = DateTime)]
    as_of: String,
}

/// What is known of one boot of a device.
#[derive(Serialize, ToSchema)]
struct Boot {
    boot: String,
    /// Of sequences below this one nothing more is known than what `gaps` and `first_seq` say.
    known_from: u64,
    first_seq: u64,
    last_seq: u64,
    /// When the first sample was taken.
    #[schema(format = DateTime)]
    first_at: String,
    /// When the last sample was taken.
    #[schema(format = DateTime)]
    last_at: String,
    period_ms: Option<u64>,
    seen: u64,
    missing: u64,
    /// In order.
    gaps: Vec<GapAnswer>,
}

/// Samples that are missing.
#[derive(Serialize, ToSchema)]
#[schema(as = Gap)]
struct GapAnswer {
    first_seq: u64,
    last_seq: u64,
    missing: u64,
    /// When the sample before them was taken.
    #[schema(format = DateTime)]
    after: String,
    /// When the sample behind them was taken.
    #[schema(format = DateTime)]
    before: String,
}

impl From<Gap> for GapAnswer {
    fn from(gap: Gap) -> Self {
        Self {
            first_seq: gap.first,
            last_seq: gap.last,
            missing: gap.missing(),
            after: gap.after.to_rfc3339(),
            before: gap.before.to_rfc3339(),
        }
    }
}

impl Boot {
    /// `None` when nothing of it is in the log, which is none of a row's.
    fn new(boot: &row::Boot) -> Option<Self> {
        let (first, last) = (boot.ranges.first()?, boot.ranges.last()?);
        Some(Self {
            boot: format!("{:016x}", boot.id.0),
            known_from: boot.open_from,
            first_seq: first.first,
            last_seq: last.last,
            first_at: first.first_at.to_rfc3339(),
            last_at: last.last_at.to_rfc3339(),
            period_ms: period_ms(boot),
            seen: boot.ranges.iter().map(|range| range.last - range.first + 1).sum(),
            missing: gaps(boot).map(|gap| gap.missing()).sum(),
            gaps: gaps(boot).map(GapAnswer::from).collect(),
        })
    }
}

/// One device, with its boots and what of each is missing.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}",
    operation_id = "device",
    tag = "queries",
    params(("id" = String, Path, description = "Which one.", example = "porch")),
    responses((status = 200, description = "The device.", body = Answer)),
)]
pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let nowhere = || Problem::not_found(format!("no device {id:?} was ever seen, and none was issued"));
    let device = DeviceId::new(&id).map_err(|_| nowhere())?;
    let slots = [Slot::of(&device)];
    let found = devices::at(&*api.store, &slots, UnixMs::now(), || fleet::one(&*api.store, device));
    let AsOf { value: found, as_of } = found.await?;
    let found = found.map(|device| api.with_presence(device));
    if found.is_none() && !api.is_issued(&device) {
        return Err(nowhere());
    }
    let boots = found.iter().flat_map(|device| &device.row.boots).filter_map(Boot::new).collect();
    let device = DeviceAnswer::new(device, found.as_ref(), as_of);
    Ok(answer(&Answer { device, boots, as_of: as_of.to_rfc3339() }))
}
