//! What an ingest knows of a partition, out of a store.

use rollcall_wire::Slot;

use super::partition::Partition;
use crate::log::{Checkpoint, LogStore, StoreError};

/// How many rows are read back at a time.
const READ_ROWS: usize = 4096;

/// A partition at a checkpoint, with the rows that the store has.
pub(super) async fn restored<S: LogStore>(
    store: &S,
    slot: Slot,
    checkpoint: Checkpoint,
) -> Result<Partition, StoreError> {
    let mut partition = Partition::restore(slot, checkpoint);
    let first = store.start(slot).await?.first;
    if partition.next() < first {
        let made = store.checkpoint(slot).await?;
        if made.windows.min(made.rows) < first {
            return Err(StoreError::Corrupt(format!("the log of slot {slot} starts beyond its checkpoints")));
        }
        let reason = format!("old messages of slot {slot} went while it was opened; it is opened again");
        return Err(StoreError::Unavailable(reason));
    }
    // Of a log that begins there, the next entry tells it.
    if let Some(last) = partition.next().checked_sub(1).filter(|last| *last >= first) {
        let read = store.read(slot, last, 1).await?;
        let entry = read.first().filter(|entry| entry.number == last);
        let entry =
            entry.ok_or_else(|| StoreError::Corrupt(format!("entry {last} of slot {slot} is gone")))?;
        partition.restore_log_time(entry.log_time);
    }
    let mut after = None;
    loop {
        let rows = store.rows(slot, after, READ_ROWS).await?;
        rows.iter().try_for_each(|row| partition.restore_row(row))?;
        after = rows.last().map(|row| row.device);
        if rows.len() < READ_ROWS {
            return Ok(partition);
        }
    }
}

#[cfg(feature = "mutants")]
pub(super) fn without_rows(writes: &[crate::log::RowWrite]) -> Vec<crate::log::RowWrite> {
    writes.iter().map(|write| crate::log::RowWrite { rows: Vec::new(), ..write.clone() }).collect()
}
