//! The rows of devices: one document a device, `{_id: "3/device", upto: 128, state: …, sealed: …, closed: …}`. The slot
//! stands in front, so that the rows of a slot lie together.

use std::collections::BTreeMap;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use rollcall_wire::{DeviceId, Slot};
use serde::Deserialize;

use super::windows::StoredCheckpoint;
use super::{MongoStore, Topology, format, view};
use crate::log::StoreError;
use crate::log::row::Row;
use crate::model::UnixMs;

/// The collection.
pub(super) const COLLECTION: &str = "devices";

#[derive(Debug, Deserialize)]
pub(super) struct StoredRow {
    #[serde(rename = "_id")]
    id: String,
    upto: i64,
    state: Binary,
    /// Absent when nothing is.
    sealed: Option<Binary>,
    closed: Option<Binary>,
}

fn id(slot: Slot, device: &str) -> String {
    format!("{slot}/{device}")
}

/// The rows of a slot after that of `after`.
pub(super) fn filter(slot: Slot, after: Option<DeviceId>) -> Document {
    let after = id(slot, after.as_ref().map_or("", DeviceId::as_str));
    // In the order of characters, the slash is followed by 0.
    doc! { "_id": { "$gt": after, "$lt": format!("{slot}0") } }
}

/// The rows of these devices.
pub(super) fn filter_some(devices: &[DeviceId]) -> Document {
    let ids: Vec<_> = devices.iter().map(|device| id(Slot::of(device), device.as_str())).collect();
    doc! { "_id": { "$in": ids } }
}

/// The statement that stores a row, unless the one that is there is as far or further.
pub(super) fn update(slot: Slot, row: &Row) -> Document {
    let binary = |bytes: &[u8]| Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() };
    let upto = row.upto.cast_signed();
    let mut set = doc! { "upto": upto, "state": binary(&row.state) };
    if let Some(closed) = &row.closed {
        set.insert("closed", binary(closed));
    }
    let mut update = Document::new();
    if row.sealed.is_empty() {
        update.insert("$unset", doc! { "sealed": "" });
    } else {
        let sealed = postcard::to_allocvec(&row.sealed).expect("plain data always serialises into memory");
        set.insert("sealed", binary(&sealed));
    }
    update.insert("$set", set);
    doc! {
        "q": { "_id": id(slot, row.device.as_str()), "upto": { "$not": { "$gte": upto } } },
        "u": update,
        "upsert": true,
    }
}

impl StoredRow {
    pub(super) fn row(self) -> Result<Row, StoreError> {
        let device = self.id.split_once('/').and_then(|(_, device)| DeviceId::new(device).ok());
        let device = device.ok_or_else(|| StoreError::Corrupt(format!("the device row {}", self.id)))?;
        let sealed = self.sealed.map_or(Ok(Vec::new()), |sealed| postcard::from_bytes(&sealed.bytes));
        let sealed = sealed.map_err(|_| StoreError::Corrupt(format!("the device row {}", self.id)))?;
        let closed = self.closed.map(|closed| closed.bytes);
        Ok(Row { device, upto: self.upto.cast_unsigned(), sealed, state: self.state.bytes, closed })
    }
}

#[derive(Debug, Deserialize)]
struct StoredReceived {
    received_at: DateTime,
}

/// When the first entry of these slots was received that is beyond the rows' checkpoints.
pub(super) async fn beyond(store: &MongoStore, slots: &[Slot]) -> Result<Option<UnixMs>, StoreError> {
    let mut session = store.session().await?;
    if store.topology == Topology::ReplicaSet {
        view::ask_the_primary(store, &mut session).await?;
    }
    let mut next: BTreeMap<Slot, u64> = slots.iter().map(|slot| (*slot, 0)).collect();
    let checkpoints: Vec<StoredCheckpoint> =
        view::find(store, &mut session, "checkpoints", doc! {}, doc! { "rows": 1 }).await?;
    for stored in checkpoints {
        let (slot, _) = stored.place()?;
        next.entry(slot).and_modify(|next| *next = stored.checkpoint().rows);
    }
    let keys: Vec<_> = next.into_iter().map(|(slot, next)| format::keys(slot, next).start).collect();
    let filter = doc! { "_id": { "$in": keys } };
    let beyond: Vec<StoredReceived> =
        view::find(store, &mut session, "entries", filter, doc! { "received_at": 1 }).await?;
    let received = |stored: &StoredReceived| UnixMs(stored.received_at.timestamp_millis().cast_unsigned());
    Ok(beyond.iter().map(received).min())
}
