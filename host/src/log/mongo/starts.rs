//! Where logs start, `{_id: 3, first: 640, horizon: 1721433600, later: []}`, and the identities of imported documents whose
//! entries were removed, `{_id: "porch/0123456789abcdef/7"}`.
//!
//! A start moves first, and the entries below it are deleted a while later, in steps: no read gives them, and whoever was cut
//! off in between leaves them to the next one. Who appends looks afterwards whether its number is still one of the log's.

use mongodb::ClientSession;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use rollcall_wire::Slot;
use serde::Deserialize;

use super::format::{FORMAT_VERSION, FORMAT_WHOLE, keys};
use super::{DUPLICATE_KEY, MongoStore, corrupt, in_time, unavailable, view};
use crate::log::rollup::CHUNK_ENTRIES;
use crate::log::start::{Cut, Identity, Start, Starts};
use crate::log::{self, LogStore, StoreError, key};
use crate::model::Entry;

pub(super) const STARTS: &str = "starts";
pub(super) const IMPORTED: &str = "imported";

/// How many identities are kept at a time.
const KEEP_AT_ONCE: usize = 1_000;

/// How many entries are deleted at a time.
const RELEASE_ENTRIES: u64 = 16 * CHUNK_ENTRIES;

#[derive(Debug, Deserialize)]
struct StoredStart {
    #[serde(rename = "_id")]
    slot: i32,
    first: i64,
    horizon: i64,
    later: Vec<i64>,
}

#[derive(Debug, Deserialize)]
struct StoredId {
    #[serde(rename = "_id")]
    id: String,
}

impl StoredStart {
    fn start(self) -> Result<(Slot, Start), StoreError> {
        let read = || {
            let slot = u8::try_from(self.slot).ok().and_then(Slot::new)?;
            let later = self.later.iter().map(|day| day.cast_unsigned()).collect();
            Some((slot, Start::restored(self.first.cast_unsigned(), self.horizon.cast_unsigned(), later)?))
        };
        read().ok_or_else(|| StoreError::Corrupt(format!("the start of the log of slot {}", self.slot)))
    }
}

/// Where all logs start.
pub(super) async fn all(store: &MongoStore, session: &mut ClientSession) -> Result<Starts, StoreError> {
    let mut starts = Starts::default();
    for stored in view::find::<StoredStart>(store, session, STARTS, doc! {}, doc! {}).await? {
        let (slot, start) = stored.start()?;
        starts[slot.index()] = start;
    }
    Ok(starts)
}

/// Where the log of `slot` starts.
pub(super) async fn of(
    store: &MongoStore,
    session: &mut ClientSession,
    slot: Slot,
) -> Result<Start, StoreError> {
    let filter = doc! { "_id": slot.index() as i32 };
    let stored: Vec<StoredStart> = view::find(store, session, STARTS, filter, doc! {}).await?;
    stored.into_iter().next().map_or(Ok(Start::default()), |stored| Ok(stored.start()?.1))
}

/// These entries were inserted in this session: the slots of which one has a number that was removed, and is in no log. Its
/// document is deleted with those that had the number before.
///
/// Read anew each time: whoever stood still for a month, as a virtual machine does, has no clock that tells him so.
pub(super) async fn below(
    store: &MongoStore,
    session: &mut ClientSession,
    entries: &[Entry],
) -> Result<Vec<Slot>, StoreError> {
    let starts = all(store, session).await?;
    let gone = entries.iter().filter(|entry| entry.number < starts[entry.slot.index()].first);
    Ok(gone.map(|entry| entry.slot).collect())
}

/// Lets a log start later, unless it does not start where it did; was it done?
pub(super) async fn cut(store: &MongoStore, cut: &Cut) -> Result<bool, StoreError> {
    log::must_be_made(cut.slot, cut.start.first, store.checkpoint(cut.slot).await?)?;
    for identities in cut.imported.chunks(KEEP_AT_ONCE) {
        in_time(keep(store, identities)).await?;
    }
    in_time(move_start(store, cut)).await
}

/// Keeps identities of documents.
async fn keep(store: &MongoStore, identities: &[Identity]) -> Result<(), StoreError> {
    let documents = identities.iter().map(|identity| doc! { "_id": id(identity) });
    let collection = store.database().collection::<Document>(IMPORTED);
    collection.insert_many(documents).ordered(false).await.map(drop).or_else(are_there)
}

async fn move_start(store: &MongoStore, cut: &Cut) -> Result<bool, StoreError> {
    let Cut { slot, from, start, .. } = cut;
    // Before anything goes: older versions have to leave this store alone.
    let meta = store.database().collection::<Document>("meta");
    let format = doc! { "_id": "format", "version": FORMAT_WHOLE };
    meta.update_one(format, doc! { "$set": { "version": FORMAT_VERSION } }).await.map_err(unavailable)?;
    let slot = slot.index() as i32;
    let first = match from {
        0 => doc! { "$exists": false },
        from => doc! { "$eq": from.cast_signed() },
    };
    let (horizon, later) = start.days();
    let later: Vec<_> = later.iter().map(|day| day.cast_signed()).collect();
    let set = doc! { "first": start.first.cast_signed(), "horizon": horizon.cast_signed(), "later": later };
    let update = doc! { "q": { "_id": slot, "first": first }, "u": { "$set": set }, "upsert": *from == 0 };
    store.update_all(STARTS, vec![update]).await
}

/// Only documents that are there already were not inserted.
fn are_there(error: Error) -> Result<(), StoreError> {
    let are_there = match error.kind.as_ref() {
        ErrorKind::InsertMany(failure) if failure.write_concern_error.is_none() => {
            failure.write_errors.iter().flatten().all(|error| error.code == DUPLICATE_KEY)
        }
        _ => false,
    };
    if are_there { Ok(()) } else { Err(unavailable(error)) }
}

/// Deletes some entries below `below`, if the log starts there or later; is there more?
pub(super) async fn release(store: &MongoStore, slot: Slot, below: u64) -> Result<bool, StoreError> {
    let mut session = store.session().await?;
    let end = of(store, &mut session, slot).await?.first.min(below);
    if end == 0 {
        return Ok(false);
    }
    // A start that is damaged must not take what is in no window and no row.
    log::must_be_made(slot, end, store.checkpoint(slot).await?)?;
    let (start, end) = (keys(slot, 0).start, key::key(slot, end).cast_signed());
    let collection = store.database().collection::<Document>("entries");
    let first = collection.find_one(doc! { "_id": { "$gte": start, "$lt": end } }).sort(doc! { "_id": 1 });
    let found = first.projection(doc! { "_id": 1 }).session(&mut session).await.map_err(unavailable)?;
    let Some(found) = found else { return Ok(false) };
    let from = found.get_i64("_id").map_err(corrupt)?;
    let upto = end.min(from.saturating_add(RELEASE_ENTRIES.cast_signed()));
    collection.delete_many(doc! { "_id": { "$gte": from, "$lt": upto } }).await.map_err(unavailable)?;
    Ok(upto < end)
}

/// Which of these identities are kept?
pub(super) async fn imported(store: &MongoStore, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
    let ids: Vec<_> = identities.iter().map(id).collect();
    let mut session = store.session().await?;
    let filter = doc! { "_id": { "$in": &ids } };
    let found: Vec<StoredId> = view::find(store, &mut session, IMPORTED, filter, doc! {}).await?;
    let found: std::collections::BTreeSet<_> = found.into_iter().map(|stored| stored.id).collect();
    Ok(ids.iter().map(|id| found.contains(id)).collect())
}

fn id((device, id): &Identity) -> String {
    format!("{device}/{}/{}", id.boot, id.seq.get())
}
