//! Rows as documents of their own: `{_id: "3/device", upto: 128, state: …, sealed: …, closed: …}`. The slot stands in
//! front, so that the rows of a slot lie together.

use std::sync::atomic::Ordering;

use mongodb::ClientSession;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongodb::options::Hint;
use rollcall_wire::{DeviceId, Slot};
use serde::Deserialize;

use super::{ALONE, id};
use crate::log::StoreError;
use crate::log::mongo::{MongoStore, view};
use crate::log::row::Row;

/// So many rows are few.
const FEW: usize = 64;

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

/// Those of a slot after that of `after`, in order and `limit` at most.
pub(super) async fn after(
    store: &MongoStore,
    session: &mut ClientSession,
    slot: Slot,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let after = id(slot, after.as_ref().map_or("", DeviceId::as_str));
    // In the order of characters, the slash is followed by 0.
    let filter = doc! { "_id": { "$gt": after, "$lt": format!("{slot}0") } };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let collection = store.database().collection::<StoredRow>(ALONE);
    let find = collection.find(filter).sort(doc! { "_id": 1 }).limit(limit);
    view::read(find, session).await?.into_iter().map(StoredRow::row).collect()
}

/// Those of all slots after `after` up to `last`, without their closed boots; `None` when there are `limit` or more.
///
/// Where few stand alone at all, all are asked for, which takes the server a third as long as a range of each slot does.
pub(super) async fn between(
    store: &MongoStore,
    session: &mut ClientSession,
    after: &str,
    last: Option<&str>,
    limit: usize,
) -> Result<Option<Vec<Row>>, StoreError> {
    let stored = match few(store, session).await? {
        Some(all) => all,
        None => ranges(store, session, after, last, limit).await?,
    };
    if stored.len() >= limit {
        return Ok(None);
    }
    let rows = stored.into_iter().map(StoredRow::row).collect::<Result<Vec<_>, _>>()?;
    let is_between = |device: &str| device > after && last.is_none_or(|last| device <= last);
    Ok(Some(rows.into_iter().filter(|row| is_between(row.device.as_str())).collect()))
}

/// All rows that stand alone, unless more than a few do now or did before.
async fn few(store: &MongoStore, session: &mut ClientSession) -> Result<Option<Vec<StoredRow>>, StoreError> {
    let many = &store.directory.many_alone;
    if many.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let collection = store.database().collection::<StoredRow>(ALONE);
    let find = collection.find(doc! {}).projection(doc! { "closed": 0 }).limit(FEW as i64 + 1);
    let all = view::read(find, session).await?;
    many.store(all.len() > FEW, Ordering::Relaxed);
    Ok((all.len() <= FEW).then_some(all))
}

async fn ranges(
    store: &MongoStore,
    session: &mut ClientSession,
    after: &str,
    last: Option<&str>,
    limit: usize,
) -> Result<Vec<StoredRow>, StoreError> {
    let range = |slot| {
        let end = last.map_or(doc! { "$lt": format!("{slot}0") }, |last| doc! { "$lte": id(slot, last) });
        let mut range = doc! { "$gt": id(slot, after) };
        range.extend(end);
        doc! { "_id": range }
    };
    let filter = doc! { "$or": Slot::all().map(range).collect::<Vec<_>>() };
    let collection = store.database().collection::<StoredRow>(ALONE);
    // Without the hint, a plan is made for each of the ranges.
    let find = collection.find(filter).projection(doc! { "closed": 0 }).hint(Hint::Name("_id_".to_owned()));
    view::read(find.limit(limit as i64), session).await
}

/// Those of these devices, without their closed boots.
pub(super) async fn some(
    store: &MongoStore,
    session: &mut ClientSession,
    devices: &[(Slot, DeviceId)],
) -> Result<Vec<Row>, StoreError> {
    let ids: Vec<_> = devices.iter().map(|(slot, device)| id(*slot, device.as_str())).collect();
    let filter = doc! { "_id": { "$in": ids } };
    let rows: Vec<StoredRow> =
        view::find_unordered(store, session, ALONE, filter, doc! { "closed": 0 }).await?;
    rows.into_iter().map(StoredRow::row).collect()
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
