//! What the rows of devices do not hold yet.

use mongodb::ClientSession;
use mongodb::bson::{DateTime, doc};
use rollcall_wire::Slot;
use serde::Deserialize;

use crate::log::mongo::windows::StoredCheckpoint;
use crate::log::mongo::{MongoStore, Topology, format, view};
use crate::log::plan::Upto;
use crate::log::{Beyond, StoreError};
use crate::model::UnixMs;

#[derive(Debug, Deserialize)]
struct StoredReceived {
    received_at: DateTime,
}

/// How far rows are at least; `None` of several servers: the one that rows are read from beside may be cut off and behind.
pub(in crate::log::mongo) fn known(store: &MongoStore) -> Option<Upto> {
    (store.topology == Topology::Standalone).then(|| *store.directory.checkpoints())
}

/// When the first entry of these slots was received that is beyond the rows' checkpoints.
pub(in crate::log::mongo) async fn beyond(
    store: &MongoStore,
    slots: &[Slot],
    known: Option<&Upto>,
) -> Result<Beyond, StoreError> {
    let mut session = store.session().await?;
    if store.topology == Topology::ReplicaSet {
        view::ask_the_primary(store, &mut session).await?;
    }
    let assumed = known.copied().unwrap_or_else(|| *store.directory.checkpoints());
    // Side by side: mostly the checkpoints are where they were. An entry that is not there now was not there when the
    // question came, and rows are read after both.
    let mut beside = store.session().await?;
    view::follow(&mut beside, &session);
    let (checkpoints, first) = tokio::try_join!(
        view::find_unordered::<StoredCheckpoint>(store, &mut session, "checkpoints", doc! {}, doc! {}),
        first_received(store, &mut beside, slots, &assumed),
    )?;
    let mut next = [0; Slot::COUNT];
    for stored in checkpoints {
        let (slot, _) = stored.place()?;
        next[slot.index()] = stored.checkpoint().rows;
    }
    *store.directory.checkpoints() = next;
    if slots.iter().all(|slot| next[slot.index()] == assumed[slot.index()]) {
        return Ok(Beyond { first, since_known: known.is_some() });
    }
    Ok(Beyond::from_now(first_received(store, &mut session, slots, &next).await?))
}

/// When the first of the entries with these numbers was received.
async fn first_received(
    store: &MongoStore,
    session: &mut ClientSession,
    slots: &[Slot],
    next: &Upto,
) -> Result<Option<UnixMs>, StoreError> {
    let keys: Vec<_> = slots.iter().map(|slot| format::keys(*slot, next[slot.index()]).start).collect();
    let filter = doc! { "_id": { "$in": keys } };
    let first: Vec<StoredReceived> =
        view::find_unordered(store, session, "entries", filter, doc! { "received_at": 1 }).await?;
    let received = |stored: &StoredReceived| UnixMs(stored.received_at.timestamp_millis().cast_unsigned());
    Ok(first.iter().map(received).min())
}
