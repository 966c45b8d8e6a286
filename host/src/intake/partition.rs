//! The state of one partition: a pure function of its log's prefix. [`Partition::apply`] is the only way
//! on, for entries just appended and for entries read back alike, so both lead to the same state.

use rollcall_wire::{DeviceId, SampleId, Slot};

use super::seen::{Seen, Sighting};
use crate::log::rollup::{CHUNK_ENTRIES, Chunk};
use crate::log::{Checkpoint, StoreError};
use crate::model::{BySecond, Entry};

/// What an ingest worker knows of a partition that it writes.
#[derive(Debug)]
pub struct Partition {
    slot: Slot,
    next: u64,
    seen: Seen,
    /// The samples of the chunk that is not full yet.
    counts: BySecond,
}

impl Partition {
    /// The state at a checkpoint; apply the tail of the log to come to the present.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the checkpoint is none of ours.
    pub fn restore(slot: Slot, checkpoint: &Checkpoint) -> Result<Self, StoreError> {
        let seen = match (checkpoint.next, checkpoint.dedupe.as_slice()) {
            (0, []) => Some(Seen::default()),
            // With entries below it, nothing is not a state: every sample there would be counted again.
            (_, bytes) => Seen::from_bytes(bytes),
        };
        let seen = seen.ok_or_else(|| StoreError::Corrupt(format!("the checkpoint of slot {slot}")))?;
        Ok(Self { slot, next: checkpoint.next, seen, counts: BySecond::new() })
    }

    /// The number of the next entry.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Is this sample in the log?
    pub fn check(&self, device: &DeviceId, sample: SampleId) -> Sighting {
        self.seen.check(device, sample)
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
        for record in &entry.records {
            self.counts.entry(record.sampled_at.second()).or_default().count(record.status);
            if let Some(id) = record.id {
                self.seen.record(record.device, id);
            }
        }
        self.next += 1;
        if !self.next.is_multiple_of(CHUNK_ENTRIES) {
            return Ok(None);
        }
        Ok(Some(Chunk {
            slot: self.slot,
            entries: self.next - CHUNK_ENTRIES..self.next,
            counts: std::mem::take(&mut self.counts),
            dedupe: self.seen.to_bytes(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_with_entries_below_it_and_no_state_is_damaged() {
        let slot = Slot::new(3).unwrap();
        let restore = |next, dedupe: &[u8]| {
            Partition::restore(slot, &Checkpoint { next, dedupe: dedupe.to_vec() })
                .map(|partition| partition.next())
        };
        assert!(matches!(restore(0, &[]), Ok(0)));
        assert!(matches!(restore(64, &Seen::default().to_bytes()), Ok(64)));
        for damaged in [&[][..], &[3, 1], &[0, 0]] {
            assert!(matches!(restore(64, damaged), Err(StoreError::Corrupt(_))), "{damaged:?}");
        }
    }
}
