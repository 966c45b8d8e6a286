//! The log: per partition an append-only run of entries, numbered from 0 without gaps; one entry holds one
//! flush of messages. Appending entry n succeeds once, whoever tries: the commit point, and the fence
//! between two workers that both think they own the partition.
//!
//! [`LogStore`] is what a store must give; `tests/store_contract.rs` is the same for all of them.

mod codec;
mod late;
mod memory;
#[cfg(feature = "mongodb")]
pub mod mongo;
mod redb;

use std::future::Future;

use rollcall_wire::{DeviceId, SampleId, Slot, Status};

pub use self::late::LateStore;
pub use self::memory::{Fault, MemoryStore};
pub use self::redb::{OpenError, RedbStore};
use crate::counts::{Plan, View};
use crate::rollup::{BySecond, Chunk};
use crate::time::UnixMs;

/// A stored sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who took it.
    pub device: DeviceId,
    /// `None` for a bare message, which is counted as often as it arrives.
    pub id: Option<SampleId>,
    /// What was sampled.
    pub status: Status,
    /// When it was taken, by the host's clock.
    pub sampled_at: UnixMs,
    /// How far off `sampled_at` may be because a broker tells waiting times in whole seconds:
    /// [`TimeError::Exact`] when nothing was waited.
    pub time_error: TimeError,
    /// When the host received it.
    pub received_at: UnixMs,
}

/// How exactly the time of a sample is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeError {
    /// To the millisecond and the time of flight.
    Exact,
    /// To a second: the message waited in a broker.
    OneSecond,
}

/// One flush of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub slot: Slot,
    /// Its place in the partition's log.
    pub number: u64,
    /// When the flush began.
    pub received_at: UnixMs,
    /// The samples of the flush. Those of one device and boot keep their order; devices may change theirs.
    pub records: Vec<Record>,
}

impl Entry {
    /// The samples by the second in which they were taken.
    pub fn counts(&self) -> BySecond {
        let mut counts = BySecond::new();
        for record in &self.records {
            counts.entry(record.sampled_at.second()).or_default().count(record.status);
        }
        counts
    }
}

/// Where a partition's rollups end and what was deduplicated until then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every entry below this number is in the windows.
    pub next: u64,
    /// [`Chunk::dedupe`] of the last chunk; empty at the start of a log.
    pub dedupe: Vec<u8>,
}

/// Why a store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, written or read now; what was asked may have been done or not.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The store holds what this version of Rollcall did not write: an operator has to look.
    #[error("store not readable: {0}")]
    Corrupt(String),
}

/// A place for logs, windows and checkpoints.
///
/// Each call is atomic as its text says; none may be left half done by dropping its future.
pub trait LogStore: Send + Sync + 'static {
    /// Appends `entries`, one a partition, each only if its number is still free. When this returns `Ok`,
    /// the entries are durable, save those of the slots it names: another entry has their number.
    ///
    /// # Errors
    /// After an error each of the entries may be in the log or not: [`LogStore::read`] tells.
    fn append(&self, entries: &[Entry]) -> impl Future<Output = Result<Vec<Slot>, StoreError>> + Send;

    /// The entries of `slot` from number `from` on, in order, `limit` at most. All of them are durable: what
    /// is told here may be acknowledged.
    fn read(
        &self,
        slot: Slot,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;

    /// How far the rollups of `slot` are.
    fn checkpoint(&self, slot: Slot) -> impl Future<Output = Result<Checkpoint, StoreError>> + Send;

    /// Adds chunks to the windows and moves the checkpoints on. A chunk below its checkpoint changes
    /// nothing; a chunk beyond its checkpoint is [`StoreError::Corrupt`]. It needs no durability of its own:
    /// what is lost is made again from the log.
    fn apply(&self, chunks: &[Chunk]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What the store holds of a plan.
    fn view(&self, plan: &Plan) -> impl Future<Output = Result<View, StoreError>> + Send;

    /// Can the store be reached?
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Is `chunk` the one to roll up at a checkpoint, or was it rolled up before?
fn is_next(chunk: &Chunk, checkpoint: u64) -> Result<bool, StoreError> {
    if chunk.entries.start > checkpoint {
        let (slot, start) = (chunk.slot, chunk.entries.start);
        return Err(StoreError::Corrupt(format!(
            "slot {slot} is rolled up to {checkpoint}, not yet to {start}"
        )));
    }
    Ok(chunk.entries.start == checkpoint)
}
