//! The log: per partition an append-only run of entries, numbered from 0 without gaps; one entry holds one
//! flush of messages. Appending entry n succeeds once, whoever tries: the commit point, and the fence
//! between two workers that both think they own the partition.
//!
//! [`LogStore`] is what a store must give; `tests/store_contract/` is the same for all of them.

mod any;
mod codec;
pub mod devices;
mod key;
mod late;
#[cfg(feature = "testing")]
mod memory;
mod merge;
pub mod messages;
pub mod minutes;
#[cfg(feature = "mongodb")]
pub mod mongo;
pub mod plan;
mod rebuild;
pub mod redb;
pub mod rollup;
pub mod row;
mod run;
mod snapshot;
pub mod start;
mod varint;

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use rollcall_wire::{DeviceId, Slot};

pub use self::any::{AnyStore, CompactError, OpenError, StoreAddress, StoreAddressError};
use self::devices::DeviceView;
pub use self::late::LateStore;
#[cfg(feature = "testing")]
pub use self::memory::{Fault, MemoryStore};
use self::plan::{Plan, Upto, View};
pub use self::rebuild::{Migration, Rebuild, RebuildError};
pub use self::redb::RedbStore;
use self::rollup::Chunk;
use self::row::Row;
pub use self::snapshot::{Checkpoints, Logged, Recount, Snapshot, WindowRow};
use self::start::{Cut, Identity, Start};
use crate::model::{Entry, UnixMs};

/// How far what is made from a partition's log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every entry below this number is in the windows.
    pub windows: u64,
    /// Every entry below this number is in the rows of its devices; single rows may be further.
    pub rows: u64,
}

/// Rows of a partition's devices to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWrite {
    /// The partition.
    pub slot: Slot,
    /// The rows, in the order of their devices.
    pub rows: Vec<Row>,
    /// Where [`Checkpoint::rows`] is once these rows are stored, if it moves by them.
    pub checkpoint: Option<u64>,
}

/// What rows do not hold yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// When the first entry was received that may be missing from rows that are read from now on; `None` when there is none.
    pub first: Option<UnixMs>,
    /// Does it hold of rows too whose reading began when they were known to be so far?
    pub since_known: bool,
}

impl Beyond {
    /// What holds of rows that are read from now on.
    pub fn from_now(first: Option<UnixMs>) -> Self {
        Self { first, since_known: false }
    }

    /// The instant before which all that was acknowledged is in the rows; `now` is when the question came.
    pub fn as_of(self, now: UnixMs) -> UnixMs {
        self.first.map_or(now, |first| first.min(now))
    }
}

/// How long entries stay that were removed, where others may be reading the same log: longer than a call may take.
pub const RELEASE_AFTER: Duration = Duration::from_secs(60);

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
    /// the entries are durable, except those of the slots that it names: another entry has their number.
    ///
    /// # Errors
    /// After an error each of the entries may be in the log or not: [`LogStore::read`] shows.
    fn append(&self, entries: &[Entry]) -> impl Future<Output = Result<Vec<Slot>, StoreError>> + Send;

    /// The entries of `slot` from number `from` on, in order, `limit` at most. All of them are durable: what
    /// is returned here may be acknowledged. Those that were removed are not among them.
    fn read(
        &self,
        slot: Slot,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;

    /// How far the windows and rows of `slot` are.
    fn checkpoint(&self, slot: Slot) -> impl Future<Output = Result<Checkpoint, StoreError>> + Send;

    /// Adds chunks to the windows and moves the checkpoints on. A chunk below its checkpoint changes
    /// nothing; a chunk beyond its checkpoint is [`StoreError::Corrupt`]. It needs no durability of its own:
    /// what is lost is made again from the log.
    fn apply(&self, chunks: &[Chunk]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The rows of `slot`, in the order of their devices, those after `after` and `limit` at most.
    fn rows(
        &self,
        slot: Slot,
        after: Option<DeviceId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// The rows of all slots, in the order of their devices, those after `after` and `limit` at most. Their closed boots may
    /// be left out.
    fn first_rows(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Stores rows, each unless the one that is there is as far or further; then adds what they have sealed to
    /// windows of their own, each unless it has it; and then moves the checkpoints, never back. It needs no durability of its own, but no
    /// checkpoint and no window of a device outlives its row.
    fn write_rows(&self, writes: &[RowWrite]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What may be missing from the rows of these slots that are read after this; and does it hold of rows too whose reading
    /// began when they were `known` to be so far?
    fn beyond_rows(
        &self,
        slots: &[Slot],
        known: Option<&Upto>,
    ) -> impl Future<Output = Result<Beyond, StoreError>> + Send;

    /// How far rows are at least, as far as that is known without a question, if it is worth to read rows beside
    /// [`LogStore::beyond_rows`].
    fn known_rows(&self) -> Option<Upto> {
        None
    }

    /// What the store holds of these devices, in their order: their rows, and their rows of `hours`, counted since 1970,
    /// which are read after them.
    fn devices(
        &self,
        devices: &[DeviceId],
        hours: Range<u32>,
    ) -> impl Future<Output = Result<Vec<DeviceView>, StoreError>> + Send;

    /// What the store holds of a plan.
    fn view(&self, plan: &Plan) -> impl Future<Output = Result<View, StoreError>> + Send;

    /// Where the log of `slot` starts.
    fn start(&self, slot: Slot) -> impl Future<Output = Result<Start, StoreError>> + Send;

    /// Removes the first entries of a log, and keeps what is to be kept of them; all of it is durable then. Nothing is
    /// done, and `false` the answer, when the log does not start any more where the cut says that it does.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when not both checkpoints are beyond what is to be the first entry.
    fn cut(&self, cut: &Cut) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives back some of the room of entries below `below`, which were removed [`RELEASE_AFTER`] ago or longer; is there
    /// more to give back? Where a cut does that itself, there is never any.
    fn release(&self, slot: Slot, below: u64) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Which of these are identities of imported documents whose entries were removed?
    fn imported(&self, identities: &[Identity])
    -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Can the store be reached?
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The stored form of an entry, for tests and fuzzing.
#[cfg(feature = "testing")]
pub fn entry_bytes(entry: &Entry) -> Vec<u8> {
    codec::entry_bytes(entry, &entry.counts())
}

/// The entry of which these bytes are the stored form, for tests and fuzzing.
///
/// # Errors
/// [`StoreError::Corrupt`] when they are of none.
#[cfg(feature = "testing")]
pub fn entry_of_bytes(slot: Slot, number: u64, bytes: &[u8]) -> Result<Entry, StoreError> {
    Ok(codec::logged(slot, number, bytes)?.entry)
}

/// What goes is in windows and rows.
fn must_be_made(slot: Slot, first: u64, made: Checkpoint) -> Result<(), StoreError> {
    if first < made.windows.min(made.rows) {
        return Ok(());
    }
    let what = format!("slot {slot} is to start at {first}, and is not in windows and rows beyond that");
    Err(StoreError::Corrupt(what))
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
