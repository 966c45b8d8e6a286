//! The windows of devices: one document each, `{_id: "3/device/0007a120", below: 128, minutes: …}`. Its number stands in
//! sixteens, so that the hours of a device lie together and in order, and its days after them.

use std::collections::BTreeMap;
use std::ops::Range;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use rollcall_wire::{DeviceId, Slot};
use serde::Deserialize;

use super::{MongoStore, rows, view};
use crate::log::devices::{self, DeviceView, DeviceWindow, Span};
use crate::log::row::Row;
use crate::log::{RowWrite, StoreError};

/// The collection.
pub(super) const COLLECTION: &str = "device_hours";

/// How many windows are read, and then written, at a time.
const WINDOWS_AT_ONCE: usize = 4096;

/// How often windows are read again that another process writes too.
const TRIES: usize = 16;

#[derive(Debug, Deserialize)]
pub(super) struct StoredDeviceWindow {
    #[serde(rename = "_id")]
    id: String,
    below: i64,
    minutes: Binary,
}

fn id(device: &DeviceId, number: u32) -> String {
    format!("{}/{device}/{number:08x}", Slot::of(device))
}

/// Each finds windows of a device in which these hours lie.
fn filters(device: DeviceId, hours: &Range<u32>) -> impl Iterator<Item = Document> {
    let range = move |numbers: Range<u32>| {
        doc! { "_id": { "$gte": id(&device, numbers.start), "$lt": id(&device, numbers.end) } }
    };
    Span::numbers(hours).into_iter().map(range)
}

/// All windows of a device.
pub(super) fn filter(device: DeviceId) -> Document {
    doc! { "$or": filters(device, &(0..u32::MAX)).collect::<Vec<_>>() }
}

/// The windows of a slot's devices, from this one on.
pub(super) fn filter_from(slot: Slot, from: Option<(DeviceId, Span)>) -> Document {
    let from = from.map_or_else(|| format!("{slot}/"), |(device, span)| id(&device, span.number()));
    // In the order of characters, the slash is followed by 0.
    doc! { "_id": { "$gte": from, "$lt": format!("{slot}0") } }
}

impl StoredDeviceWindow {
    pub(super) fn window(&self) -> Result<(DeviceId, DeviceWindow), StoreError> {
        let read = || self.place().and_then(|(device, span)| Some((device, self.of_span(span)?)));
        read().ok_or_else(|| StoreError::Corrupt(format!("the window {} of a device", self.id)))
    }

    fn place(&self) -> Option<(DeviceId, Span)> {
        let (_, place) = self.id.split_once('/')?;
        let (device, number) = place.split_once('/')?;
        let number = u32::from_str_radix(number, 16).ok()?;
        Some((DeviceId::new(device).ok()?, Span::of_number(number)))
    }

    fn of_span(&self, span: Span) -> Option<DeviceWindow> {
        DeviceWindow::new(span, self.below.cast_unsigned(), &self.minutes.bytes)
    }
}

/// Adds what rows have sealed to windows. The rows are stored.
pub(super) async fn add(store: &MongoStore, writes: &[RowWrite]) -> Result<(), StoreError> {
    let rows = writes.iter().flat_map(|write| &write.rows).filter(|row| !row.sealed.is_empty());
    let mut some = Vec::new();
    let mut windows = 0;
    for row in rows {
        windows += devices::moved(&row.sealed, |_| Ok::<_, StoreError>(None))?.len();
        some.push(row);
        if windows >= WINDOWS_AT_ONCE {
            add_some(store, &some).await?;
            (some, windows) = (Vec::new(), 0);
        }
    }
    add_some(store, &some).await
}

async fn add_some(store: &MongoStore, rows: &[&Row]) -> Result<(), StoreError> {
    let mut ids = Vec::new();
    for row in rows {
        let windows = devices::moved(&row.sealed, |_| Ok::<_, StoreError>(None))?;
        ids.extend(windows.into_iter().map(|window| id(&row.device, window.span.number())));
    }
    if ids.is_empty() {
        return Ok(());
    }
    for _ in 0..TRIES {
        let mut session = store.session().await?;
        let filter = doc! { "_id": { "$in": &ids } };
        let found: Vec<StoredDeviceWindow> =
            view::find(store, &mut session, COLLECTION, filter, doc! {}).await?;
        let mut stored = BTreeMap::new();
        for found in found {
            let Some((device, span)) = found.place() else { continue };
            let window = found.of_span(span).unwrap_or_else(|| {
                tracing::warn!(window = found.id, "it is damaged, and not added to: rollcall doctor");
                DeviceWindow::unreadable(span)
            });
            stored.insert((device, span), window);
        }
        let mut updates = Vec::new();
        for row in rows {
            let moved = devices::moved(&row.sealed, |span| {
                Ok::<_, StoreError>(stored.get(&(row.device, span)).cloned())
            })?;
            for window in moved {
                let held = stored.get(&(row.device, window.span)).map(|held| held.below);
                updates.push(update(&row.device, &window, held));
            }
        }
        if updates.is_empty() {
            return Ok(());
        }
        store.update(COLLECTION, updates).await?;
    }
    Err(StoreError::Unavailable(
        "another process writes the windows of the same devices; try again".to_owned(),
    ))
}

/// The statement that stores a window in place of the one that was read, which holds what was sealed below `held`.
fn update(device: &DeviceId, window: &DeviceWindow, held: Option<u64>) -> Document {
    let minutes = Binary { subtype: BinarySubtype::Generic, bytes: window.minutes_to_bytes() };
    let id = id(device, window.span.number());
    let query = match held {
        Some(held) => doc! { "_id": id, "below": held.cast_signed() },
        None => doc! { "_id": id, "below": { "$exists": false } },
    };
    doc! {
        "q": query,
        "u": { "$set": { "below": window.below.cast_signed(), "minutes": minutes } },
        "upsert": held.is_none(),
    }
}

/// What there is of these devices.
pub(super) async fn devices(
    store: &MongoStore,
    devices: &[DeviceId],
    hours: &Range<u32>,
) -> Result<Vec<DeviceView>, StoreError> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let mut session = store.session().await?;
    let mut views: BTreeMap<DeviceId, DeviceView> =
        devices.iter().map(|device| (*device, DeviceView::default())).collect();
    let of_slots: Vec<_> = devices.iter().map(|device| (Slot::of(device), *device)).collect();
    for (device, row) in rows::some(store, &mut session, &of_slots).await? {
        views.entry(device).and_modify(|view| view.row = Some(row));
    }
    let of_devices: Vec<_> = views.keys().flat_map(|device| filters(*device, hours)).collect();
    let filter = doc! { "$or": of_devices };
    let stored: Vec<StoredDeviceWindow> =
        view::find(store, &mut session, COLLECTION, filter, doc! {}).await?;
    for stored in stored {
        let (device, window) = stored.window()?;
        views.entry(device).and_modify(|view| view.windows.push(window));
    }
    Ok(devices.iter().map(|device| views.get(device).cloned().unwrap_or_default()).collect())
}
