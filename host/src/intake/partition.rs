//! The state of one partition: a pure function of its log's prefix. [`Partition::apply`] is the only way
//! on, for entries just appended and for entries read back alike, so both lead to the same state.
//!
//! Two things of it are stored beside the log, each with a checkpoint of its own: counts, a chunk at a time, and
//! the rows of devices, a sweep at a time. A sweep writes every device that was changed before it began; each
//! row says how far it is, so that a replay from the checkpoint knows what is in it already.

use std::collections::HashMap;

use rollcall_wire::{DeviceId, SampleId, Slot, mutant};
use tokio::time::Instant;

use super::seen::{Seen, Sighting};
use crate::log::rollup::{CHUNK_ENTRIES, Chunk};
use crate::log::row::Row;
use crate::log::{Checkpoint, RowWrite, StoreError};
use crate::model::{BySecond, Entry, UnixMs};

/// What an ingest worker knows of a partition that it writes.
#[derive(Debug)]
pub struct Partition {
    slot: Slot,
    next: u64,
    log_time: UnixMs,
    /// What the store holds of what is made from the log, as far as is known here.
    stored: Checkpoint,
    seen: Seen,
    /// While the log is replayed: devices whose rows are further than the checkpoint, and how far.
    ahead: HashMap<DeviceId, u64>,
    /// The furthest of them.
    ahead_upto: u64,
    /// The samples of the chunk that is not full yet.
    counts: BySecond,
    /// When the oldest change was made that no sweep has taken.
    changed_at: Option<Instant>,
    /// Records since the last sweep began.
    records: u64,
    sweep: Option<Sweep>,
    /// See [`Partition::lacks_sealed`].
    lacks_sealed: bool,
}

/// Rows on their way into the store.
#[derive(Debug)]
struct Sweep {
    /// Where the checkpoint will be.
    upto: u64,
    /// In the order of their ids, which is that of the store.
    devices: Vec<DeviceId>,
    /// So many are written.
    written: usize,
    /// So many are with the store now.
    writing: usize,
    /// Is something that they had sealed in their windows, and not here any more?
    moved: bool,
}

impl Partition {
    /// The state at a checkpoint, before its rows; apply the log from [`Partition::next`] on to come to the
    /// present.
    pub fn restore(slot: Slot, checkpoint: Checkpoint) -> Self {
        Self {
            slot,
            next: checkpoint.windows.min(checkpoint.rows),
            log_time: UnixMs(0),
            stored: checkpoint,
            seen: Seen::default(),
            ahead: HashMap::new(),
            ahead_upto: 0,
            counts: BySecond::new(),
            changed_at: None,
            records: 0,
            sweep: None,
            lacks_sealed: false,
        }
    }

    /// Takes a row out of the store, before the log is applied.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is none.
    pub fn restore_row(&mut self, row: &Row) -> Result<(), StoreError> {
        if !self.seen.restore(row) {
            return Err(StoreError::Corrupt(format!("the row of device {}", row.device)));
        }
        if row.upto > self.stored.rows {
            self.ahead.insert(row.device, row.upto);
            self.ahead_upto = self.ahead_upto.max(row.upto);
        }
        Ok(())
    }

    /// Takes the log time of the entry before [`Partition::next`]: there may be none to apply after it.
    pub fn restore_log_time(&mut self, log_time: UnixMs) {
        self.log_time = log_time;
    }

    /// The number of the next entry.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The log time of the last entry that was applied.
    pub fn log_time(&self) -> UnixMs {
        self.log_time
    }

    /// What the store holds, as far as is known here.
    pub fn stored(&self) -> Checkpoint {
        self.stored
    }

    /// How many devices it has.
    pub fn devices(&self) -> usize {
        self.seen.len()
    }

    /// Is this sample in the log?
    pub fn check(&self, device: &DeviceId, sample: SampleId) -> Sighting {
        self.seen.check(device, sample)
    }

    /// Is it known exactly which samples that this device took at `at` or later are in the log or were?
    pub fn tells_all(&self, device: &DeviceId, at: UnixMs) -> bool {
        self.seen.tells_all(device, at)
    }

    /// Takes the next entry of the log; the chunk that it completes, if it does, is to be rolled up.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not the next entry: the log has a gap.
    pub fn apply(&mut self, entry: &Entry) -> Result<Option<Chunk>, StoreError> {
        if entry.number != self.next {
            let (slot, next, number) = (self.slot, self.next, entry.number);
            return Err(StoreError::Corrupt(format!(
                "slot {slot} has entry {number} where {next} should be"
            )));
        }
        self.log_time = entry.log_time;
        if entry.number >= self.stored.rows {
            self.see(entry);
        }
        self.next += 1;
        if entry.number < self.stored.windows {
            return Ok(None);
        }
        entry.add_to(&mut self.counts);
        if !self.next.is_multiple_of(CHUNK_ENTRIES) {
            return Ok(None);
        }
        let entries = self.next - CHUNK_ENTRIES..self.next;
        Ok(Some(Chunk { slot: self.slot, entries, counts: std::mem::take(&mut self.counts) }))
    }

    fn see(&mut self, entry: &Entry) {
        let ahead = &self.ahead;
        self.seen.take(entry, |device| ahead.get(device).is_none_or(|upto| *upto <= entry.number));
        if self.ahead_upto <= entry.number + 1 {
            self.ahead = HashMap::new();
        }
        self.records += entry.records.len() as u64;
        // Also where no row is changed by it: the checkpoint has to pass it all the same.
        self.changed_at.get_or_insert_with(Instant::now);
    }

    /// The store has these windows.
    pub fn rolled(&mut self, upto: u64) {
        self.stored.windows = upto;
    }

    /// How many devices were changed that no sweep has taken, by how many records at most, and since when there are
    /// entries that no sweep has taken.
    pub fn changes(&self) -> (u64, u64, Option<Instant>) {
        (self.seen.changed() as u64, self.records, self.changed_at)
    }

    /// Is there a sweep that is not written to its end?
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// Begins a sweep over all devices that are changed now.
    pub fn begin_sweep(&mut self) {
        debug_assert!(self.sweep.is_none());
        let devices = self.seen.take_changed();
        self.sweep = Some(Sweep { upto: self.next, devices, written: 0, writing: 0, moved: false });
        (self.changed_at, self.records) = (None, 0);
    }

    /// The next `rows` rows of the sweep, if there is one; with the last of them, the checkpoint.
    pub fn write(&mut self, rows: usize) -> Option<RowWrite> {
        let sweep = self.sweep.as_mut()?;
        let end = sweep.devices.len().min(sweep.written + rows);
        sweep.writing = end - sweep.written;
        let devices = &sweep.devices[sweep.written..end];
        let rows = devices.iter().map(|device| self.seen.row(*device, self.next)).collect();
        let checkpoint = (end == sweep.devices.len()).then_some(sweep.upto);
        Some(RowWrite { slot: self.slot, rows, checkpoint })
    }

    /// The store has what [`Partition::write`] gave last.
    pub fn written(&mut self) {
        let Some(sweep) = &mut self.sweep else { return };
        let end = sweep.written + std::mem::take(&mut sweep.writing);
        for device in &sweep.devices[sweep.written..end] {
            // Nothing was applied since.
            sweep.moved |= self.seen.moved(device, self.next);
        }
        sweep.written = end;
        if sweep.written == sweep.devices.len() {
            self.stored.rows = sweep.upto;
            self.sweep = None;
        }
    }

    /// The store may have forgotten rows of a sweep that is not at its end: they are written again.
    pub fn abandon_sweep(&mut self) {
        let Some(sweep) = self.sweep.take() else { return };
        mutant!(SweepForgotten => return);
        self.seen.put_back(sweep.devices);
        self.changed_at.get_or_insert_with(Instant::now);
        self.lacks_sealed |= sweep.moved;
    }

    /// Did a sweep that was abandoned store something that was sealed, and is not here any more? The store may have
    /// forgotten it: only the log has all of it then.
    pub fn lacks_sealed(&self) -> bool {
        self.lacks_sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::row::DeviceState;
    use crate::model::{Record, RecordKind, TimeError, WriterId};
    use rollcall_wire::Status;

    #[test]
    fn a_replay_passes_over_what_is_in_a_row_that_is_further_than_the_checkpoint() {
        let at = UnixMs(1_721_900_000_000);
        let device = DeviceId::new("d").unwrap();
        let record = Record {
            device,
            id: None,
            status: Status::new(3).unwrap(),
            kind: RecordKind::Undecided,
            sampled_at: at,
            time_error: TimeError::Exact,
            received_at: at,
        };
        let slot = Slot::of(&device);
        let entry = |number| Entry {
            slot,
            number,
            writer: WriterId::NOBODY,
            received_at: at,
            log_time: at,
            records: vec![record],
        };
        let mut partition = Partition::restore(slot, Checkpoint::default());
        partition.apply(&entry(0)).unwrap();
        partition.apply(&entry(1)).unwrap();
        partition.begin_sweep();
        let written = partition.write(1).unwrap();
        // A crash comes after the row, and before the checkpoint.
        let mut partition = Partition::restore(slot, Checkpoint::default());
        partition.restore_row(&written.rows[0]).unwrap();
        (0..3).for_each(|number| drop(partition.apply(&entry(number)).unwrap()));
        partition.begin_sweep();
        let state = &partition.write(1).unwrap().rows[0].state;
        assert_eq!(DeviceState::from_bytes(state).unwrap().undecided, 3);
    }

    #[test]
    fn a_checkpoint_passes_an_entry_that_changes_no_row() {
        let at = UnixMs(1_721_900_000_000);
        let slot = Slot::new(3).unwrap();
        let barrier = Entry {
            slot,
            number: 0,
            writer: WriterId::NOBODY,
            received_at: at,
            log_time: at,
            records: Vec::new(),
        };
        let mut partition = Partition::restore(slot, Checkpoint::default());
        partition.apply(&barrier).unwrap();
        assert!(partition.changes().2.is_some(), "no sweep is ever due");
        partition.begin_sweep();
        let write = partition.write(1).unwrap();
        assert_eq!((write.rows.len(), write.checkpoint), (0, Some(1)));
        partition.written();
        assert_eq!(partition.stored().rows, 1);
    }

    /// A device's samples in so many minutes that they are sealed.
    fn many(device: DeviceId) -> impl Iterator<Item = Record> {
        let at = |minute: u64| UnixMs(1_721_900_000_000 + minute * 600_000);
        (0..40).map(move |minute| Record {
            device,
            id: None,
            status: Status::new(3).unwrap(),
            kind: RecordKind::Sample,
            sampled_at: at(minute),
            time_error: TimeError::Exact,
            received_at: at(minute),
        })
    }

    #[test]
    fn what_is_sealed_is_kept_until_it_is_stored_and_a_sweep_that_stored_some_of_it_cannot_be_taken_back() {
        let devices = (0..).map(|number| DeviceId::new(&format!("d{number}")).unwrap());
        let slot = Slot::new(3).unwrap();
        let [first, second]: [DeviceId; 2] =
            devices.filter(|device| Slot::of(device) == slot).take(2).collect::<Vec<_>>().try_into().unwrap();
        let at = UnixMs(1_721_900_000_000);
        let records = many(first).chain(many(second)).collect();
        let entry =
            Entry { slot, number: 0, writer: WriterId::NOBODY, received_at: at, log_time: at, records };
        let mut partition = Partition::restore(slot, Checkpoint::default());
        partition.apply(&entry).unwrap();
        let sealed = |write: Option<RowWrite>| write.unwrap().rows.into_iter().map(|row| row.sealed.len());
        partition.begin_sweep();
        assert!(sealed(partition.write(1)).eq([1]));
        partition.abandon_sweep();
        assert!(!partition.lacks_sealed(), "nothing was stored");
        partition.begin_sweep();
        assert!(sealed(partition.write(1)).eq([1]));
        partition.written();
        for again in
            ["the store may have forgotten what is not here any more", "nor is it when it is asked twice"]
        {
            partition.abandon_sweep();
            assert!(partition.lacks_sealed(), "{again}");
        }
        partition.begin_sweep();
        assert_eq!(sealed(partition.write(2)).sum::<usize>(), 1, "one of them is in its hours");
    }
}
