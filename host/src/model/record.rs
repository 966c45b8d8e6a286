//! What is stored: a sample as the log keeps it, and the flush that it came with.

use rollcall_wire::{DeviceId, SampleId, Slot, Status};

use super::{BySecond, UnixMs};

/// A stored sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who took it.
    pub device: DeviceId,
    /// `None` for a bare message, which is counted as often as it arrives.
    pub id: Option<SampleId>,
    /// What was sampled.
    pub status: Status,
    /// When it was taken, by the host's clock.
    pub sampled_at: UnixMs,
    /// How far off `sampled_at` may be because a broker states waiting times in whole seconds:
    /// [`TimeError::Exact`] when nothing was waited.
    pub time_error: TimeError,
    /// When the host received it.
    pub received_at: UnixMs,
}

/// How exactly the time of a sample is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeError {
    /// To the millisecond and the time of flight.
    Exact,
    /// To a second: the message waited in a broker.
    OneSecond,
}

/// One flush of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub slot: Slot,
    /// Its place in the partition's log.
    pub number: u64,
    /// When the flush began.
    pub received_at: UnixMs,
    /// The samples of the flush. Those of one device and boot keep their order; devices may change theirs.
    pub records: Vec<Record>,
}

impl Entry {
    /// The samples by the second in which they were taken.
    pub fn counts(&self) -> BySecond {
        let mut counts = BySecond::new();
        for record in &self.records {
            counts.entry(record.sampled_at.second()).or_default().count(record.status);
        }
        counts
    }
}
