//! A store that may not be there yet: until it is, every call says so, and nobody has to wait for it to start.

use std::ops::Range;
use std::sync::OnceLock;

use rollcall_wire::{DeviceId, Slot};

use super::devices::DeviceView;
use super::plan::{Plan, Upto, View};
use super::rollup::Chunk;
use super::row::Row;
use super::start::{Cut, Identity, Start};
use super::{Beyond, Checkpoint, LogStore, RowWrite, StoreError};
use crate::model::Entry;

/// See the module.
#[derive(Debug)]
pub struct LateStore<S>(OnceLock<S>);

impl<S> Default for LateStore<S> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<S> LateStore<S> {
    /// The store is there now. Only the first one counts.
    pub fn arrive(&self, store: S) {
        let _ = self.0.set(store);
    }

    fn there(&self) -> Result<&S, StoreError> {
        self.0.get().ok_or_else(|| StoreError::Unavailable("it is not there yet".to_owned()))
    }
}

impl<S: LogStore> LogStore for LateStore<S> {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        self.there()?.append(entries).await
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.there()?.read(slot, from, limit).await
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        self.there()?.checkpoint(slot).await
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        self.there()?.apply(chunks).await
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.there()?.rows(slot, after, limit).await
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.there()?.first_rows(after, limit).await
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        self.there()?.write_rows(writes).await
    }

    async fn beyond_rows(&self, slots: &[Slot], known: Option<&Upto>) -> Result<Beyond, StoreError> {
        self.there()?.beyond_rows(slots, known).await
    }

    fn known_rows(&self) -> Option<Upto> {
        self.there().ok()?.known_rows()
    }

    async fn devices(&self, devices: &[DeviceId], hours: Range<u32>) -> Result<Vec<DeviceView>, StoreError> {
        self.there()?.devices(devices, hours).await
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        self.there()?.view(plan).await
    }

    async fn start(&self, slot: Slot) -> Result<Start, StoreError> {
        self.there()?.start(slot).await
    }

    async fn cut(&self, cut: &Cut) -> Result<bool, StoreError> {
        self.there()?.cut(cut).await
    }

    async fn release(&self, slot: Slot, below: u64) -> Result<bool, StoreError> {
        self.there()?.release(slot, below).await
    }

    async fn imported(&self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
        self.there()?.imported(identities).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.there()?.ping().await
    }
}
