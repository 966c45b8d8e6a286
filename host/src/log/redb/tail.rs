//! The counts of the entries that are not rolled up yet, in memory: a query reads them without the disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase};
use rollcall_wire::Slot;

use super::{ENTRIES, WorkError, checkpoints, codec, keys, number};
use crate::log::plan::TailEntry;
use crate::log::rollup::Chunk;

/// For each partition its entries from the checkpoint on. It never lacks a committed entry that is not in
/// the windows.
#[derive(Default)]
pub(super) struct Tail(Mutex<[VecDeque<Arc<TailEntry>>; Slot::COUNT]>);

impl Tail {
    /// Reads the tail of a store that was just opened.
    pub(super) fn load(&self, database: &Database) -> Result<(), WorkError> {
        let transaction = database.begin_read()?;
        let upto = checkpoints(&transaction)?;
        let table = transaction.open_table(ENTRIES)?;
        let mut tail = self.lock();
        for slot in Slot::all() {
            let entries = &mut tail[slot.index()];
            entries.clear();
            for row in table.range(keys(slot, upto[slot.index()]))? {
                let (key, bytes) = row?;
                let number = number(key.value());
                let counts = codec::entry_counts(slot, number, bytes.value()).map_err(WorkError::Store)?;
                entries.push_back(Arc::new(TailEntry::new(slot, number, counts)));
            }
        }
        Ok(())
    }

    /// These entries are committed. One that [`Tail::load`] has met already is not taken again.
    pub(super) fn extend(&self, entries: Vec<TailEntry>) {
        let mut tail = self.lock();
        for entry in entries {
            let entries = &mut tail[entry.slot.index()];
            if entries.back().is_none_or(|last| last.number < entry.number) {
                entries.push_back(Arc::new(entry));
            }
        }
    }

    /// These chunks are in the windows.
    pub(super) fn forget(&self, chunks: &[Chunk]) {
        let mut tail = self.lock();
        for chunk in chunks {
            let entries = &mut tail[chunk.slot.index()];
            while entries.front().is_some_and(|entry| entry.number < chunk.entries.end) {
                entries.pop_front();
            }
        }
    }

    /// All of them, as they are now.
    pub(super) fn entries(&self) -> Vec<Arc<TailEntry>> {
        self.lock().iter().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, [VecDeque<Arc<TailEntry>>; Slot::COUNT]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
