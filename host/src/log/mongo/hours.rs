//! The hour rows of devices: one document an hour, `{_id: "3/device/0007a120", below: 128, minutes: …}`. The hour stands
//! in sixteens, so that the hours of a device lie together and in order.

use std::collections::BTreeMap;
use std::ops::Range;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use rollcall_wire::{DeviceId, Slot};
use serde::Deserialize;

use super::{MongoStore, rows, view};
use crate::log::devices::{self, DeviceView, HourRow};
use crate::log::row::Row;
use crate::log::{RowWrite, StoreError};

/// The collection.
pub(super) const COLLECTION: &str = "device_hours";

/// How many hour rows are read, and then written, at a time.
const HOURS_AT_ONCE: usize = 4096;

/// How often hour rows are read again that another process writes too.
const TRIES: usize = 16;

#[derive(Debug, Deserialize)]
pub(super) struct StoredHour {
    #[serde(rename = "_id")]
    id: String,
    below: i64,
    minutes: Binary,
}

fn id(device: &DeviceId, hour: u32) -> String {
    format!("{}/{device}/{hour:08x}", Slot::of(device))
}

/// The hours of a device.
pub(super) fn filter(device: &DeviceId, hours: &Range<u32>) -> Document {
    doc! { "_id": { "$gte": id(device, hours.start), "$lt": id(device, hours.end) } }
}

/// The hours of a slot's devices, from this one on.
pub(super) fn filter_from(slot: Slot, from: Option<(DeviceId, u32)>) -> Document {
    let from = from.map_or_else(|| format!("{slot}/"), |(device, hour)| id(&device, hour));
    // In the order of characters, the slash is followed by 0.
    doc! { "_id": { "$gte": from, "$lt": format!("{slot}0") } }
}

impl StoredHour {
    pub(super) fn hour(&self) -> Result<(DeviceId, HourRow), StoreError> {
        let read = || self.place().and_then(|(device, hour)| Some((device, self.row(hour)?)));
        read().ok_or_else(|| StoreError::Corrupt(format!("the hour {} of a device", self.id)))
    }

    fn place(&self) -> Option<(DeviceId, u32)> {
        let (_, place) = self.id.split_once('/')?;
        let (device, hour) = place.split_once('/')?;
        Some((DeviceId::new(device).ok()?, u32::from_str_radix(hour, 16).ok()?))
    }

    fn row(&self, hour: u32) -> Option<HourRow> {
        HourRow::new(hour, self.below.cast_unsigned(), &self.minutes.bytes)
    }
}

/// Adds what rows have sealed to hour rows. The rows are stored.
pub(super) async fn add(store: &MongoStore, writes: &[RowWrite]) -> Result<(), StoreError> {
    let rows = writes.iter().flat_map(|write| &write.rows).filter(|row| !row.sealed.is_empty());
    let mut some = Vec::new();
    let mut hours = 0;
    for row in rows {
        hours += devices::moved(&row.sealed, |_| Ok::<_, StoreError>(None))?.len();
        some.push(row);
        if hours >= HOURS_AT_ONCE {
            add_some(store, &some).await?;
            (some, hours) = (Vec::new(), 0);
        }
    }
    add_some(store, &some).await
}

async fn add_some(store: &MongoStore, rows: &[&Row]) -> Result<(), StoreError> {
    let mut ids = Vec::new();
    for row in rows {
        let hours = devices::moved(&row.sealed, |_| Ok::<_, StoreError>(None))?;
        ids.extend(hours.into_iter().map(|hour| id(&row.device, hour.hour)));
    }
    if ids.is_empty() {
        return Ok(());
    }
    for _ in 0..TRIES {
        let mut session = store.session().await?;
        let filter = doc! { "_id": { "$in": &ids } };
        let found: Vec<StoredHour> = view::find(store, &mut session, COLLECTION, filter, doc! {}).await?;
        let mut stored = BTreeMap::new();
        for hour in found {
            let Some((device, number)) = hour.place() else { continue };
            let row = hour.row(number).unwrap_or_else(|| {
                tracing::warn!(hour = hour.id, "it is damaged, and not added to: rollcall doctor");
                HourRow::unreadable(number)
            });
            stored.insert((device, number), row);
        }
        let mut updates = Vec::new();
        for row in rows {
            let moved = devices::moved(&row.sealed, |hour| {
                Ok::<_, StoreError>(stored.get(&(row.device, hour)).cloned())
            })?;
            for hour in moved {
                let held = stored.get(&(row.device, hour.hour)).map(|held| held.below);
                updates.push(update(&row.device, &hour, held));
            }
        }
        if updates.is_empty() {
            return Ok(());
        }
        store.update(COLLECTION, updates).await?;
    }
    Err(StoreError::Unavailable("another process writes the hours of the same devices; try again".to_owned()))
}

/// The statement that stores an hour row in place of the one that was read, which holds what was sealed below `held`.
fn update(device: &DeviceId, hour: &HourRow, held: Option<u64>) -> Document {
    let minutes = Binary { subtype: BinarySubtype::Generic, bytes: hour.minutes.as_bytes().to_vec() };
    let id = id(device, hour.hour);
    let query = match held {
        Some(held) => doc! { "_id": id, "below": held.cast_signed() },
        None => doc! { "_id": id, "below": { "$exists": false } },
    };
    doc! {
        "q": query,
        "u": { "$set": { "below": hour.below.cast_signed(), "minutes": minutes } },
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
    let of_devices: Vec<_> = views.keys().map(|device| self::filter(device, hours)).collect();
    let filter = doc! { "$or": of_devices };
    let stored: Vec<StoredHour> = view::find(store, &mut session, COLLECTION, filter, doc! {}).await?;
    for stored in stored {
        let (device, hour) = stored.hour()?;
        views.entry(device).and_modify(|view| view.hours.push(hour));
    }
    Ok(devices.iter().map(|device| views.get(device).cloned().unwrap_or_default()).collect())
}
