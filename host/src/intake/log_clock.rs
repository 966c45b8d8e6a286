//! Log time: as the host's clock, but never back, and forward no faster than a clock that nobody sets. What is
//! forgotten after a time is forgotten by it, so that a step of the host's clock forgets nothing. While no
//! process writes a log, its time stands still.

use rollcall_wire::{Slot, mutant};
use tokio::time::Instant;

use super::partition::Partition;
use crate::model::UnixMs;

/// How far log time may be: no further than a clock that nobody sets.
#[derive(Debug)]
pub(super) struct LogClock {
    /// The log time of each slot, and when it was that; `None` while its log is empty.
    seen: [Option<(UnixMs, Instant)>; Slot::COUNT],
}

impl LogClock {
    /// Of logs that are read to their ends.
    pub(super) fn new(partitions: &[Partition]) -> Self {
        let now = Instant::now();
        let seen = |partition: &Partition| (partition.next() > 0).then(|| (partition.log_time(), now));
        Self { seen: std::array::from_fn(|slot| seen(&partitions[slot])) }
    }

    /// An entry is in the log now, whoever wrote it: a log that was empty has its time of it, and not of this host.
    pub(super) fn saw(&mut self, slot: Slot, log_time: UnixMs) {
        mutant!(LogTimeOfEachWorker => return);
        self.seen[slot.index()].get_or_insert_with(|| (log_time, Instant::now()));
    }

    /// The log time of the next entry of `partition`. An empty log begins with that of the host.
    pub(super) fn time(&self, slot: Slot, partition: &Partition, now: UnixMs) -> UnixMs {
        mutant!(LogTimeFollowsClock => return now.max(partition.log_time()));
        let Some((at, seen)) = self.seen[slot.index()] else { return now };
        let passed_ms = u64::try_from(seen.elapsed().as_millis()).unwrap_or(u64::MAX);
        let latest = UnixMs(at.0.saturating_add(passed_ms));
        now.min(latest).max(partition.log_time())
    }
}
