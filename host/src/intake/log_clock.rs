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
    started: Instant,
    /// The log time of each slot when this process had read its log.
    from: [UnixMs; Slot::COUNT],
}

impl LogClock {
    pub(super) fn new(partitions: &[Partition], now: UnixMs) -> Self {
        let from = std::array::from_fn(|slot| {
            // An empty log has no time yet: it begins with that of the host.
            if partitions[slot].next() == 0 { now } else { partitions[slot].log_time() }
        });
        Self { started: Instant::now(), from }
    }

    /// The log time of the next entry of `partition`.
    pub(super) fn time(&self, slot: Slot, partition: &Partition, now: UnixMs) -> UnixMs {
        mutant!(LogTimeFollowsClock => return now.max(partition.log_time()));
        let passed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let latest = UnixMs(self.from[slot.index()].0.saturating_add(passed_ms));
        now.min(latest).max(partition.log_time())
    }
}
