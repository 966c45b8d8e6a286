//! `GET /v1/devices?sort=S&trouble=T&prefix=P&after=A&limit=N`: the devices, a page at a time.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use rollcall_wire::{DeviceId, Slot};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::answers::answer;
use super::error::Problem;
use super::range::Parameters;
use crate::fleet::{self, FleetDevice, List, Listed, Order, Position, Trouble, Wanted};
use crate::log::{self, LogStore};
use crate::model::UnixMs;

/// How many devices a page has that does not say how many.
const LIMIT: usize = 100;

/// How many it has at most.
const LIMIT_MAX: usize = 1_000;

/// The words of `sort`.
const ORDERS: [(&str, Order); 3] =
    [("id", Order::Id), ("silence", Order::Silence), ("missing", Order::Missing)];

/// The words of `trouble`.
const TROUBLES: [(&str, Trouble); 5] = [
    ("offline", Trouble::Offline),
    ("stale", Trouble::Stale),
    ("gaps", Trouble::Gaps),
    ("never_seen", Trouble::NeverSeen),
    ("undecided", Trouble::Undecided),
];

/// A page of the list of devices.
#[derive(Serialize, ToSchema)]
#[schema(as = DeviceList)]
struct Answer {
    devices: Vec<DeviceAnswer>,
    /// What `after` of the next page is; null when this is the last.
    next: Option<String>,
    /// Everything that was acknowledged before this instant is in it, and states are those of this instant.
    #[schema(format = DateTime)]
    as_of: String,
}

/// What is said of a device wherever it is named.
#[derive(Serialize, ToSchema)]
#[schema(as = Device)]
pub(super) struct DeviceAnswer {
    device: String,
    /// `online`, `stale` (its last sample is older than one and a half periods), `offline` (it has left, or nothing came
    /// for an hour or ten periods), or `never_seen`.
    #[schema(example = "online")]
    state: &'static str,
    /// What follows is not there of a device that was never seen.
    #[serde(flatten)]
    seen: Option<SeenAnswer>,
}

/// How a device is that came.
#[derive(Serialize, ToSchema)]
#[schema(as = SeenDevice)]
struct SeenAnswer {
    /// When its first message was received.
    #[schema(format = DateTime)]
    first_seen: String,
    /// When its last message was received.
    #[schema(format = DateTime)]
    last_seen: String,
    last_sample: Option<LastSample>,
    /// The time from one sample to the next.
    period_ms: Option<u64>,
    /// How many samples there are of the boots that are listed.
    seen: u64,
    /// How many of them are missing.
    missing: u64,
    /// `seen` and `missing`.
    expected: u64,
    /// Of so many messages it is not known whether they were counted.
    undecided: u64,
}

#[derive(Serialize, ToSchema)]
struct LastSample {
    /// When it was taken.
    #[schema(format = DateTime)]
    at: String,
    status: u8,
}

impl DeviceAnswer {
    /// A device as of an instant; without a row, it never came.
    pub(super) fn new(id: DeviceId, device: Option<&FleetDevice>, as_of: UnixMs) -> Self {
        let state = device.map_or("never_seen", |device| device.state(as_of).word());
        let seen = device.map(|device| SeenAnswer {
            first_seen: device.row.first_seen.to_rfc3339(),
            last_seen: device.row.last_seen.to_rfc3339(),
            last_sample: device
                .row
                .last_sample
                .map(|(at, status)| LastSample { at: at.to_rfc3339(), status: status.get() }),
            period_ms: device.period_ms,
            seen: device.seen(),
            missing: device.missing(),
            expected: device.seen() + device.missing(),
            undecided: device.row.undecided,
        });
        Self { device: id.to_string(), state, seen }
    }
}

/// The devices, a page at a time.
#[utoipa::path(
    get,
    path = "/v1/devices",
    operation_id = "devices",
    tag = "queries",
    params(
        ("sort" = Option<String>, Query, description = "id (if it is not given), silence, or missing.", example = "silence"),
        ("trouble" = Option<String>, Query, description = "Only those that are offline, stale, never_seen or undecided, or have gaps.", example = "stale"),
        ("prefix" = Option<String>, Query, description = "Only those whose ids begin so.", example = "porch-"),
        ("after" = Option<String>, Query, description = "Only those behind this place: next of the page before, sorted the same."),
        ("limit" = Option<u64>, Query, description = "So many at most; 100 if it is not given.", minimum = 1, maximum = 1000, example = 100),
    ),
    responses((status = 200, description = "A page.", body = Answer)),
)]
pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let known = ["sort", "trouble", "prefix", "after", "limit"];
    let parameters = Parameters::parse(query.as_deref().unwrap_or_default(), &known)?;
    let order = parameters.word("sort", &ORDERS)?.unwrap_or_default();
    let trouble = parameters.word("trouble", &TROUBLES)?;
    let prefix = parameters.get("prefix").unwrap_or_default().to_owned();
    let limit = limit(&parameters)?;
    let after = parameters.get("after").map(|text| position(order, text)).transpose()?;
    let slots: Vec<_> = Slot::all().collect();
    let (store, now) = (&*api.store, UnixMs::now());
    let by_id = order == Order::Id && trouble.is_none() && prefix.is_empty();
    let (devices, as_of) = if by_id {
        let page = || fleet::page(store, after.map(|(_, id)| id), limit + 1);
        let page = log::devices::at(store, &slots, now, page).await?;
        (Some(page.value), page.as_of)
    } else {
        (None, log::devices::as_of(store, &slots, now).await?)
    };
    let mut never_seen = api.issued();
    let mut list = List::new(Wanted { prefix, trouble, order, after, limit }, as_of);
    if let Some(devices) = devices {
        // Those behind the last of a full page are on a later one, seen or not.
        let upto = devices.get(limit).map(|device| device.id);
        never_seen.retain(|id| upto.is_none_or(|upto| *id < upto));
        for device in devices {
            never_seen.remove(&device.id);
            list.take(api.with_presence(device));
        }
    } else {
        fleet::scan(store, |device| {
            never_seen.remove(&device.id);
            list.take(api.with_presence(device));
        })
        .await?;
    }
    never_seen.into_iter().for_each(|id| list.take_never_seen(id));
    let (page, next) = list.finish();
    let of_device = |((_, id), device): &Listed| DeviceAnswer::new(*id, device.as_ref(), as_of);
    Ok(answer(&Answer {
        devices: page.iter().map(of_device).collect(),
        next: next.map(|next| name(order, next)),
        as_of: as_of.to_rfc3339(),
    }))
}

fn limit(parameters: &Parameters) -> Result<usize, Problem> {
    let Some(text) = parameters.get("limit") else { return Ok(LIMIT) };
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| Problem::bad_parameter("limit", format!("limit is a number from 1 to {LIMIT_MAX}")))
}

/// A position as `after` has it: an id, and before it what the list is sorted by.
fn name(order: Order, (key, id): Position) -> String {
    if order == Order::Id { id.to_string() } else { format!("{key}:{id}") }
}

fn position(order: Order, text: &str) -> Result<Position, Problem> {
    let read = || {
        let (key, id) = if order == Order::Id { ("0", text) } else { text.split_once(':')? };
        Some((key.parse().ok()?, DeviceId::new(id).ok()?))
    };
    read().ok_or_else(|| {
        Problem::bad_parameter("after", "after is what next was of the page before, sorted the same")
    })
}
