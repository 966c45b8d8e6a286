//! The store as one read transaction sees it, to be looked at as a whole.

use redb::ReadTransaction;
use rollcall_wire::{DeviceId, Slot};

use super::{WorkError, checkpoints, device_windows, guarded, packed, rows, starts, windows};
use crate::log::devices::{DeviceView, DeviceWindow, Span};
use crate::log::rollup::Resolution;
use crate::log::row::Row;
use crate::log::start::Starts;
use crate::log::{Checkpoints, Logged, Snapshot, StoreError, WindowRow, codec};

/// See the module. It ends with an error when the store is no longer in use: after an I/O error it is opened anew,
/// which is possible only once all have let go of it.
pub(super) struct RedbSnapshot<'a> {
    pub(super) transaction: &'a ReadTransaction,
    pub(super) in_use: &'a dyn Fn() -> bool,
}

impl RedbSnapshot<'_> {
    /// Reads something; what cannot be read ends nothing but this.
    pub(super) fn run<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, WorkError>,
    ) -> Result<T, StoreError> {
        if !(self.in_use)() {
            return Err(StoreError::Unavailable("it was closed after an I/O error; try again".to_owned()));
        }
        let done = guarded(|| work(self.transaction));
        done.map_err(|error| error.damage().map_or_else(|error| error, StoreError::Corrupt))
    }
}

impl Snapshot for RedbSnapshot<'_> {
    fn starts(&mut self) -> Result<Starts, StoreError> {
        self.run(starts::all)
    }

    fn checkpoints(&mut self) -> Result<Checkpoints, StoreError> {
        self.run(|transaction| {
            let mut checkpoints = Checkpoints::default();
            for slot in Slot::all() {
                checkpoints[slot.index()] = checkpoints::read(transaction, slot)?.checkpoint();
            }
            Ok(checkpoints)
        })
    }

    fn windows(
        &mut self,
        resolution: Resolution,
        from: u64,
        limit: usize,
    ) -> Result<Vec<WindowRow>, StoreError> {
        self.run(|transaction| windows::list(transaction, resolution, from, limit))
    }

    fn rows(&mut self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.run(|transaction| rows::read(transaction, slot, after, limit))
    }

    fn device_windows(
        &mut self,
        slot: Slot,
        from: Option<(DeviceId, Span)>,
        limit: usize,
    ) -> Result<Vec<(DeviceId, DeviceWindow)>, StoreError> {
        self.run(|transaction| device_windows::list(transaction, slot, from, limit))
    }

    fn device(&mut self, device: DeviceId) -> Result<DeviceView, StoreError> {
        self.run(|transaction| {
            let mut view = device_windows::device(transaction, device, 0..u32::MAX)?;
            if let Some(row) = &mut view.row {
                row.closed = rows::closed(transaction, device)?;
            }
            Ok(view)
        })
    }

    fn read(&mut self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        self.run(|transaction| packed::read(transaction, slot, from, limit, codec::logged))
    }
}
