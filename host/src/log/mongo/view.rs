//! What counts are made from: checkpoints, then windows, then the tail, each at least as new as the one before.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use mongodb::ClientSession;
use mongodb::bson::{Document, doc};
use mongodb::options::ReadConcern;
use rollcall_wire::Slot;
use serde::de::DeserializeOwned;

use super::format::{StoredEntry, StoredTail, keys};
use super::windows::{StoredCheckpoint, StoredWindow, collection};
use super::{BATCH_DOCUMENTS, MongoStore, StoreError, Topology, corrupt, unavailable};
use crate::log::plan::{Plan, TailEntry, Upto, View, Window};
use crate::log::rollup::Resolution;

/// The checkpoints are read first: every window read later holds all that they promise, and every entry
/// beyond them is in the tail.
pub(super) async fn view(store: &MongoStore, plan: &Plan) -> Result<View, StoreError> {
    let mut session = store.session().await?;
    if store.topology == Topology::ReplicaSet {
        ask_the_primary(store, &mut session).await?;
    }
    let upto = checkpoints(store, &mut session).await?;
    let mut windows = Vec::new();
    for resolution in [Resolution::Day, Resolution::Hour, Resolution::Minute] {
        let whole = plan.whole.iter().filter(|(of, _)| *of == resolution).map(|(_, range)| range.clone());
        add_windows(store, &mut session, plan, (resolution, Kind::Whole), whole.collect(), &mut windows)
            .await?;
    }
    let edges = (Resolution::Minute, Kind::Edge);
    add_windows(store, &mut session, plan, edges, plan.edges.clone(), &mut windows).await?;
    windows.sort_by_key(|window: &Window| window.range.start);
    Ok(View { windows, tail: tail(store, &mut session, upto).await? })
}

/// Is a piece of the plan made of whole windows?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Edge,
}

/// A primary that was cut off does not know for some seconds that there is another one. A linearizable read
/// makes it find out, so that the answer is not older than its `as_of` says.
pub(super) async fn ask_the_primary(
    store: &MongoStore,
    session: &mut ClientSession,
) -> Result<(), StoreError> {
    let meta = store.database.collection::<Document>("meta");
    let read = meta.find_one(doc! { "_id": "format" }).read_concern(ReadConcern::linearizable());
    read.session(session).await.map_err(unavailable)?;
    Ok(())
}

/// How far every slot is rolled up.
pub(super) async fn checkpoints(store: &MongoStore, session: &mut ClientSession) -> Result<Upto, StoreError> {
    let mut upto = [0; Slot::COUNT];
    let fields = doc! { "next": 1 };
    for stored in find::<StoredCheckpoint>(store, session, "checkpoints", doc! {}, fields).await? {
        let (slot, next) = stored.place()?;
        upto[slot.index()] = next;
    }
    Ok(upto)
}

async fn add_windows(
    store: &MongoStore,
    session: &mut ClientSession,
    plan: &Plan,
    (resolution, kind): (Resolution, Kind),
    ranges: Vec<Range<u64>>,
    windows: &mut Vec<Window>,
) -> Result<(), StoreError> {
    if ranges.is_empty() {
        return Ok(());
    }
    let filter: Vec<_> = ranges
        .iter()
        .map(|range| {
            let first = resolution.window_start(range.start).cast_signed();
            doc! { "_id": { "$gte": first, "$lt": range.end.cast_signed() } }
        })
        .collect();
    let fields = match kind {
        Kind::Whole => doc! { "upto": 1, "counts": 1 },
        Kind::Edge => doc! { "upto": 1, "counts": 1, "seconds": 1 },
    };
    let filter = doc! { "$or": filter };
    let stored: Vec<StoredWindow> = find(store, session, collection(resolution), filter, fields).await?;
    for window in &stored {
        // Two edges may lie in the same minute.
        for range in &ranges {
            let all = window.range(resolution);
            let clipped = range.start.max(all.start)..range.end.min(all.end);
            match kind {
                _ if clipped.is_empty() => {}
                Kind::Whole => windows.push(window.part(resolution, clipped)?),
                Kind::Edge => {
                    for part in plan.cut(clipped) {
                        windows.push(window.part(resolution, part)?);
                    }
                }
            }
        }
    }
    Ok(())
}

async fn tail(
    store: &MongoStore,
    session: &mut ClientSession,
    upto: Upto,
) -> Result<Vec<Arc<TailEntry>>, StoreError> {
    let kept = || store.tail.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut tail, further) = kept().known(&upto);
    let ranges: Vec<_> = Slot::all()
        .map(|slot| {
            let keys = keys(slot, further[slot.index()]);
            doc! { "_id": { "$gte": keys.start, "$lt": keys.end } }
        })
        .collect();
    let fields = doc! { "version": 1, "seconds": 1 };
    let stored = find::<StoredTail>(store, session, "entries", doc! { "$or": ranges }, fields).await?;
    let (stored, older): (Vec<_>, Vec<_>) = stored.into_iter().partition(StoredTail::has_all_counts);
    let mut read = older_tail(store, session, &older).await?;
    for stored in stored {
        read.push(Arc::new(stored.entry()?));
    }
    kept().keep(&read);
    tail.append(&mut read);
    Ok(tail)
}

/// What entries of older forms come to: their records are counted.
async fn older_tail(
    store: &MongoStore,
    session: &mut ClientSession,
    older: &[StoredTail],
) -> Result<Vec<Arc<TailEntry>>, StoreError> {
    if older.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<_> = older.iter().map(|stored| stored.key).collect();
    let filter = doc! { "_id": { "$in": keys } };
    let mut read = Vec::new();
    for stored in find::<StoredEntry<'_>>(store, session, "entries", filter, doc! {}).await? {
        let entry = stored.entry()?;
        read.push(Arc::new(TailEntry::new(entry.slot, entry.number, entry.counts())));
    }
    Ok(read)
}

/// The documents that a filter finds, in order.
pub(super) async fn find<T>(
    store: &MongoStore,
    session: &mut ClientSession,
    collection: &str,
    filter: Document,
    fields: Document,
) -> Result<Vec<T>, StoreError>
where
    T: DeserializeOwned + Send + Sync,
{
    let collection = store.database.collection::<T>(collection);
    let find = collection.find(filter).projection(fields).sort(doc! { "_id": 1 }).batch_size(BATCH_DOCUMENTS);
    let mut cursor = find.session(&mut *session).await.map_err(unavailable)?;
    let mut found = Vec::new();
    while cursor.advance(session).await.map_err(unavailable)? {
        found.push(cursor.deserialize_current().map_err(corrupt)?);
    }
    Ok(found)
}
