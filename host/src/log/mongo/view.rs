//! What counts are made from: checkpoints, then windows, then the tail, each at least as new as the one before.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use futures_util::future;
use mongodb::ClientSession;
use mongodb::action::Find;
use mongodb::bson::{Document, doc};
use mongodb::options::ReadConcern;
use rollcall_wire::Slot;
use serde::de::DeserializeOwned;

use super::format::{StoredEntry, StoredTail, keys};
use super::windows::{StoredCheckpoint, StoredWindow, collection};
use super::{BATCH_DOCUMENTS, MongoStore, StoreError, Topology, corrupt, unavailable};
use crate::log::plan::{Plan, TailEntry, Upto, View, Window};
use crate::log::rollup::Resolution;

/// So many windows, and further entries of each slot, are asked for one by one, which takes the server half as long as ranges
/// do. Where the last of the entries is there, there may be more.
const FEW: u64 = 8;
const AHEAD: i64 = FEW as i64;

/// The checkpoints are read first: every window read later holds all that they promise, and every entry
/// beyond them is in the tail.
pub(super) async fn view(store: &MongoStore, plan: &Plan) -> Result<View, StoreError> {
    let mut session = store.session().await?;
    if store.topology == Topology::ReplicaSet {
        ask_the_primary(store, &mut session).await?;
    }
    let upto = checkpoints(store, &mut session).await?;
    let whole = |of: Resolution| plan.whole.iter().filter(move |(resolution, _)| *resolution == of);
    let whole = |of: Resolution| whole(of).map(|(_, range)| range.clone()).collect::<Vec<_>>();
    let wanted = [
        (Kind::Whole(Resolution::Day), whole(Resolution::Day)),
        (Kind::Whole(Resolution::Hour), whole(Resolution::Hour)),
        (Kind::Minutes, whole(Resolution::Minute)),
        (Kind::Edges, plan.edges.clone()),
    ];
    // Side by side: each says which entries it holds.
    let wanted = wanted.into_iter().filter(|(_, ranges)| !ranges.is_empty());
    let mut windows = Vec::new();
    let read = wanted.map(|(kind, ranges)| beside(store, &session, plan, kind, ranges));
    for (beside, mut read) in future::try_join_all(read).await? {
        follow(&mut session, &beside);
        windows.append(&mut read);
    }
    windows.sort_by_key(|window: &Window| window.range.start);
    Ok(View { windows, tail: tail(store, &mut session, upto).await? })
}

/// How a piece of the plan is put together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// From whole windows.
    Whole(Resolution),
    /// From whole minutes, as hours have them.
    Minutes,
    /// From seconds, as minutes have them.
    Edges,
}

/// What one session reads from now on is at least as new as what the other one has read.
pub(super) fn follow(session: &mut ClientSession, other: &ClientSession) {
    if let Some(at) = other.operation_time() {
        session.advance_operation_time(at);
    }
}

/// A primary that was cut off does not know for some seconds that there is another one. A linearizable read
/// makes it find out, so that the answer is not older than its `as_of` says.
pub(super) async fn ask_the_primary(
    store: &MongoStore,
    session: &mut ClientSession,
) -> Result<(), StoreError> {
    let meta = store.database().collection::<Document>("meta");
    let read = meta.find_one(doc! { "_id": "format" }).read_concern(ReadConcern::linearizable());
    read.session(session).await.map_err(unavailable)?;
    Ok(())
}

/// How far every slot is rolled up.
pub(super) async fn checkpoints(store: &MongoStore, session: &mut ClientSession) -> Result<Upto, StoreError> {
    let mut upto = [0; Slot::COUNT];
    for stored in find_unordered::<StoredCheckpoint>(store, session, "checkpoints", doc! {}, doc! {}).await? {
        let (slot, next) = stored.place()?;
        upto[slot.index()] = next;
    }
    Ok(upto)
}

/// Windows, read in a session that follows this one.
async fn beside(
    store: &MongoStore,
    session: &ClientSession,
    plan: &Plan,
    kind: Kind,
    ranges: Vec<Range<u64>>,
) -> Result<(ClientSession, Vec<Window>), StoreError> {
    let mut beside = store.session().await?;
    follow(&mut beside, session);
    let windows = match kind {
        Kind::Whole(resolution) => whole(store, &mut beside, resolution, &ranges).await?,
        Kind::Minutes => minutes(store, &mut beside, &ranges).await?,
        Kind::Edges => edges(store, &mut beside, plan, &ranges).await?,
    };
    Ok((beside, windows))
}

async fn whole(
    store: &MongoStore,
    session: &mut ClientSession,
    resolution: Resolution,
    ranges: &[Range<u64>],
) -> Result<Vec<Window>, StoreError> {
    let stored = stored(store, session, resolution, ranges, false).await?;
    stored.iter().map(|window| window.part(resolution, window.range(resolution))).collect()
}

/// Whole minutes: those of hours, which are a sixtieth as many documents, unless not all of them are there.
async fn minutes(
    store: &MongoStore,
    session: &mut ClientSession,
    ranges: &[Range<u64>],
) -> Result<Vec<Window>, StoreError> {
    let (mut windows, mut others) = (Vec::new(), Vec::new());
    for hour in stored(store, session, Resolution::Hour, ranges, true).await? {
        for clipped in clipped(&hour.range(Resolution::Hour), ranges) {
            match hour.minutes_in(clipped.clone())? {
                Some(minutes) => windows.extend(minutes),
                None => others.push(clipped),
            }
        }
    }
    if !others.is_empty() {
        windows.extend(whole(store, session, Resolution::Minute, &others).await?);
    }
    Ok(windows)
}

async fn edges(
    store: &MongoStore,
    session: &mut ClientSession,
    plan: &Plan,
    ranges: &[Range<u64>],
) -> Result<Vec<Window>, StoreError> {
    let mut windows = Vec::new();
    for minute in stored(store, session, Resolution::Minute, ranges, true).await? {
        // Two edges may lie in the same minute.
        for clipped in clipped(&minute.range(Resolution::Minute), ranges) {
            for part in plan.cut(clipped) {
                windows.push(minute.part(Resolution::Minute, part)?);
            }
        }
    }
    Ok(windows)
}

/// What of these ranges lies in a window.
fn clipped(all: &Range<u64>, ranges: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> {
    let clipped = ranges.iter().map(|range| range.start.max(all.start)..range.end.min(all.end));
    clipped.filter(|clipped| !clipped.is_empty())
}

/// The windows that these ranges touch, with or without their parts.
async fn stored(
    store: &MongoStore,
    session: &mut ClientSession,
    resolution: Resolution,
    ranges: &[Range<u64>],
    with_parts: bool,
) -> Result<Vec<StoredWindow>, StoreError> {
    let first = |range: &Range<u64>| resolution.window_start(range.start);
    let count = |range: &Range<u64>| (range.end - first(range)).div_ceil(resolution.seconds());
    let filter = if ranges.iter().map(count).sum::<u64>() <= FEW {
        let starts =
            ranges.iter().flat_map(|range| (first(range)..range.end).step_by(resolution.seconds() as usize));
        doc! { "_id": { "$in": starts.map(u64::cast_signed).collect::<Vec<_>>() } }
    } else {
        let of_range = |range: &Range<u64>| {
            doc! { "_id": { "$gte": first(range).cast_signed(), "$lt": range.end.cast_signed() } }
        };
        doc! { "$or": ranges.iter().map(of_range).collect::<Vec<_>>() }
    };
    let fields = if with_parts {
        doc! {}
    } else {
        doc! { "upto": 1, "counts": 1 }
    };
    find_unordered(store, session, collection(resolution), filter, fields).await
}

async fn tail(
    store: &MongoStore,
    session: &mut ClientSession,
    upto: Upto,
) -> Result<Vec<Arc<TailEntry>>, StoreError> {
    let kept = || store.tail.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut tail, further) = kept().known(&upto);
    let next = |slot: Slot| keys(slot, further[slot.index()]).start;
    let ahead: Vec<_> = Slot::all().flat_map(|slot| next(slot)..next(slot) + AHEAD).collect();
    let mut stored = entries(store, session, doc! { "_id": { "$in": ahead } }).await?;
    let last = |slot: &Slot| stored.iter().any(|stored| stored.key == next(*slot) + AHEAD - 1);
    let more = Slot::all().filter(last).map(|slot| {
        doc! { "_id": { "$gte": next(slot) + AHEAD, "$lt": keys(slot, 0).end } }
    });
    let more: Vec<_> = more.collect();
    if !more.is_empty() {
        stored.extend(entries(store, session, doc! { "$or": more }).await?);
    }
    let (stored, older): (Vec<_>, Vec<_>) = stored.into_iter().partition(StoredTail::has_all_counts);
    let mut read = older_tail(store, session, &older).await?;
    for stored in stored {
        read.push(Arc::new(stored.entry()?));
    }
    kept().keep(&read);
    tail.append(&mut read);
    Ok(tail)
}

async fn entries(
    store: &MongoStore,
    session: &mut ClientSession,
    filter: Document,
) -> Result<Vec<StoredTail>, StoreError> {
    find(store, session, "entries", filter, doc! { "version": 1, "seconds": 1 }).await
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
    let collection = store.database().collection::<T>(collection);
    read(collection.find(filter).projection(fields).sort(doc! { "_id": 1 }), session).await
}

/// The same in any order, which takes the server less. Of a small collection all are asked for so: what documents are looked up
/// by costs more than they do.
pub(super) async fn find_unordered<T>(
    store: &MongoStore,
    session: &mut ClientSession,
    collection: &str,
    filter: Document,
    fields: Document,
) -> Result<Vec<T>, StoreError>
where
    T: DeserializeOwned + Send + Sync,
{
    read(store.database().collection::<T>(collection).find(filter).projection(fields), session).await
}

/// What is found.
pub(super) async fn read<T>(find: Find<'_, T>, session: &mut ClientSession) -> Result<Vec<T>, StoreError>
where
    T: DeserializeOwned + Send + Sync,
{
    let find = find.batch_size(BATCH_DOCUMENTS).session(&mut *session);
    let mut cursor = find.await.map_err(unavailable)?;
    let mut found = Vec::new();
    while cursor.advance(session).await.map_err(unavailable)? {
        found.push(cursor.deserialize_current().map_err(corrupt)?);
    }
    Ok(found)
}
