//! How far what is made from each log is, and how much of it there is: so that a row that is gone is noticed.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use rollcall_wire::Slot;
use serde::{Deserialize, Serialize};

use super::{WorkError, damage, packed, sealed};
use crate::log::Checkpoint;
use crate::log::codec::{self, Numbers};
use crate::log::plan::Upto;
use crate::model::Counts;

/// slot → its progress.
pub(super) const CHECKPOINTS: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("progress");

/// What is made from a slot's log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct MadeFromLog {
    /// [`Checkpoint::windows`].
    pub(super) windows: u64,
    /// [`Checkpoint::rows`].
    pub(super) rows: u64,
    /// How many rows there are of its devices.
    pub(super) devices: u64,
    /// How many of its devices have closed boots.
    pub(super) closed: u64,
    /// The samples in the windows: the sum over all days.
    counts: Numbers,
    /// How many windows there are of its devices.
    pub(super) device_windows: u64,
}

/// Makes the table, so that readers find it.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(CHECKPOINTS)?;
    Ok(())
}

/// Changes a slot's progress in a transaction.
pub(super) fn update<T>(
    transaction: &WriteTransaction,
    slot: Slot,
    change: impl FnOnce(&mut MadeFromLog) -> Result<T, WorkError>,
) -> Result<T, WorkError> {
    let mut table = transaction.open_table(CHECKPOINTS)?;
    let mut progress = of(&table, slot)?;
    let changed = change(&mut progress)?;
    let bytes = postcard::to_allocvec(&progress).expect("plain data always serialises into memory");
    let index = slot.index() as u8;
    table.insert(index, sealed::seal("progress", &[index], bytes).as_slice())?;
    Ok(changed)
}

/// A slot's progress.
pub(super) fn read(transaction: &ReadTransaction, slot: Slot) -> Result<MadeFromLog, WorkError> {
    of(&transaction.open_table(CHECKPOINTS)?, slot)
}

fn of(table: &impl ReadableTable<u8, &'static [u8]>, slot: Slot) -> Result<MadeFromLog, WorkError> {
    let index = slot.index() as u8;
    let Some(stored) = table.get(index)? else { return Ok(MadeFromLog::default()) };
    let bytes = sealed::open("progress", &[index], stored.value());
    let progress = bytes.and_then(|bytes| postcard::from_bytes(bytes).ok());
    progress.ok_or_else(|| damage(format!("the checkpoint of slot {slot}")))
}

/// How far the windows of every slot are.
pub(super) fn windows(transaction: &ReadTransaction) -> Result<Upto, WorkError> {
    let table = transaction.open_table(CHECKPOINTS)?;
    let mut upto = [0; Slot::COUNT];
    for slot in Slot::all() {
        upto[slot.index()] = of(&table, slot)?.windows;
    }
    Ok(upto)
}

/// Are the windows where a chunk's entries are packed? They are rolled up and packed in one transaction.
pub(super) fn check(transaction: &ReadTransaction, slot: Slot) -> Result<(), WorkError> {
    if read(transaction, slot)?.windows == packed::upto(transaction, slot)? {
        return Ok(());
    }
    Err(damage(format!("the checkpoint of slot {slot}")))
}

impl MadeFromLog {
    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { windows: self.windows, rows: self.rows }
    }

    pub(super) fn counts(&self) -> Counts {
        codec::counts(&self.counts)
    }

    /// More samples are in the windows.
    pub(super) fn count(&mut self, more: Counts) {
        let mut counts = self.counts();
        counts += more;
        self.counts = codec::numbers(&counts);
    }
}
