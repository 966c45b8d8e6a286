//! What a store gives to be looked at as a whole, for `rollcall doctor`: the log, and what is made from it, beside
//! each other, while others go on to write.

use rollcall_wire::{DeviceId, Slot};

use super::devices::{DeviceView, DeviceWindow, Span};
use super::plan::Upto;
use super::rollup::Resolution;
use super::row::Row;
use super::start::Starts;
use super::{Checkpoint, StoreError};
use crate::model::{BySecond, Counts, Entry};
use crate::ops::check::{Reporter, Unheard};

/// Makes again what is made from the log, and compares it with what a store holds. [`crate::log`] knows stores, and
/// not how rows are made: whoever has a store looked at says by which function.
pub type Recount = fn(&mut dyn Snapshot, &mut Reporter) -> Result<(), Unheard>;

/// How far every slot is.
pub type Checkpoints = [Checkpoint; Slot::COUNT];

/// A store at one moment; or one whose windows and rows each say which entries they hold, which does as well, for the
/// log only grows. Each call may take long: it is made from a thread that may wait.
pub trait Snapshot {
    /// How far every slot is. Asked first, for what is read after it holds at least that.
    ///
    /// # Errors
    /// [`StoreError`], as of the others.
    fn checkpoints(&mut self) -> Result<Checkpoints, StoreError>;

    /// Where every log starts.
    ///
    /// # Errors
    /// [`StoreError`].
    fn starts(&mut self) -> Result<Starts, StoreError>;

    /// The windows that start at `from` or later, in order, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    fn windows(
        &mut self,
        resolution: Resolution,
        from: u64,
        limit: usize,
    ) -> Result<Vec<WindowRow>, StoreError>;

    /// As [`super::LogStore::rows`].
    ///
    /// # Errors
    /// [`StoreError`].
    fn rows(&mut self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// The windows of `slot`'s devices, those of a device in order and one after the other, from this one on, `limit` at
    /// most.
    ///
    /// # Errors
    /// [`StoreError`].
    fn device_windows(
        &mut self,
        slot: Slot,
        from: Option<(DeviceId, Span)>,
        limit: usize,
    ) -> Result<Vec<(DeviceId, DeviceWindow)>, StoreError>;

    /// The row of a device, with its closed boots, and all of its windows, read after it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn device(&mut self, device: DeviceId) -> Result<DeviceView, StoreError>;

    /// The entries of `slot` from number `from` on, in order, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&mut self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Logged>, StoreError>;
}

/// A window as a store keeps it.
#[derive(Clone, Debug)]
pub struct WindowRow {
    /// Its first Unix second.
    pub start: u64,
    /// The sum of all of it.
    pub counts: Counts,
    /// The sums of a minute's seconds, or of an hour's minutes, by the first second of each. Some stores have none of hours,
    /// and nobody has of days.
    pub parts: BySecond,
    /// Which entries it holds beyond the checkpoints; 0 where it says nothing.
    pub upto: Upto,
}

/// An entry, and what the tail is counted from while it is in it.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The entry.
    pub entry: Entry,
    /// Its counts as they are stored.
    pub counts: BySecond,
}
