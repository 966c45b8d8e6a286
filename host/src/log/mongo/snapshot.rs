//! The store beside those that write it, to be looked at as a whole. Windows and rows say which entries they hold; in
//! one session, what is read later is at least as new as what was read before.

use std::future::Future;

use mongodb::ClientSession;
use mongodb::bson::{Document, RawDocument, doc};
use mongodb::error::Error;
use rollcall_wire::{DeviceId, Slot};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use super::device_windows::{self, StoredDeviceWindow};
use super::format::{StoredEntry, keys};
use super::windows::{StoredCheckpoint, StoredWindow, collection};
use super::{
    BATCH_DOCUMENTS, MongoStore, StoreError, corrupt, in_time, rows, starts, unavailable, unreadable_entry,
};
use crate::log::devices::{DeviceView, DeviceWindow, Span};
use crate::log::rollup::Resolution;
use crate::log::row::Row;
use crate::log::start::Starts;
use crate::log::{Checkpoints, Logged, Snapshot, WindowRow};

const ENTRIES: &str = "entries";

/// See the module. Its calls wait for the server: from a thread of the runtime that may.
pub(super) struct MongoSnapshot {
    store: MongoStore,
    session: ClientSession,
    runtime: Handle,
}

impl MongoSnapshot {
    pub(super) async fn new(store: MongoStore) -> Result<Self, StoreError> {
        let session = store.session().await?;
        Ok(Self { store, session, runtime: Handle::current() })
    }

    fn find<T: DeserializeOwned + Send + Sync>(
        &mut self,
        name: &str,
        filter: Document,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let Self { store, session, runtime } = self;
        wait(runtime, async move {
            let collection = store.database().collection::<T>(name);
            let find = collection.find(filter).sort(doc! { "_id": 1 }).limit(limit);
            let find = find.batch_size(BATCH_DOCUMENTS);
            let mut cursor = find.session(&mut *session).await.map_err(unavailable)?;
            let mut found = Vec::new();
            while cursor.advance(session).await.map_err(unavailable)? {
                let stored = cursor.deserialize_current();
                found.push(stored.map_err(|error| unreadable(name, cursor.current(), error))?);
            }
            Ok(found)
        })
    }
}

/// Which document is not as it was written.
fn unreadable(collection: &str, document: &RawDocument, error: Error) -> StoreError {
    if collection == ENTRIES {
        return unreadable_entry(document, error);
    }
    let id = document.get_i64("_id").map(|id| id.to_string());
    let id = id.or_else(|_| document.get_str("_id").map(str::to_owned)).unwrap_or_default();
    corrupt(format!("{id} of {collection}: {error}"))
}

fn wait<T>(runtime: &Handle, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    runtime.block_on(in_time(work))
}

impl Snapshot for MongoSnapshot {
    fn starts(&mut self) -> Result<Starts, StoreError> {
        let Self { store, session, runtime } = self;
        wait(runtime, starts::all(store, session))
    }

    fn checkpoints(&mut self) -> Result<Checkpoints, StoreError> {
        let mut checkpoints = Checkpoints::default();
        for stored in self.find::<StoredCheckpoint>("checkpoints", doc! {}, usize::MAX)? {
            let (slot, _) = stored.place()?;
            checkpoints[slot.index()] = stored.checkpoint();
        }
        Ok(checkpoints)
    }

    fn windows(
        &mut self,
        resolution: Resolution,
        from: u64,
        limit: usize,
    ) -> Result<Vec<WindowRow>, StoreError> {
        let filter = doc! { "_id": { "$gte": from.cast_signed() } };
        let stored = self.find::<StoredWindow>(collection(resolution), filter, limit)?;
        stored.iter().map(|window| window.row(resolution)).collect()
    }

    fn rows(&mut self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let Self { store, session, runtime } = self;
        wait(runtime, rows::read(store, session, slot, after, limit))
    }

    fn device_windows(
        &mut self,
        slot: Slot,
        from: Option<(DeviceId, Span)>,
        limit: usize,
    ) -> Result<Vec<(DeviceId, DeviceWindow)>, StoreError> {
        let filter = device_windows::filter_from(slot, from);
        let stored = self.find::<StoredDeviceWindow>(device_windows::COLLECTION, filter, limit)?;
        stored.iter().map(StoredDeviceWindow::window).collect()
    }

    fn device(&mut self, device: DeviceId) -> Result<DeviceView, StoreError> {
        let Self { store, session, runtime } = self;
        let row = wait(runtime, rows::some(store, session, &[(Slot::of(&device), device)]))?.remove(&device);
        let filter = device_windows::filter(device);
        let stored = self.find::<StoredDeviceWindow>(device_windows::COLLECTION, filter, usize::MAX)?;
        let windows = stored.iter().map(|stored| Ok(stored.window()?.1));
        Ok(DeviceView { row, windows: windows.collect::<Result<_, StoreError>>()? })
    }

    fn read(&mut self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let keys = keys(slot, from);
        let filter = doc! { "_id": { "$gte": keys.start, "$lt": keys.end } };
        let stored = self.find::<StoredEntry<'static>>(ENTRIES, filter, limit)?;
        stored.into_iter().map(StoredEntry::logged).collect()
    }
}
