//! What is stored: a sample as the log keeps it, and the flush that it came with.

use rollcall_wire::{DeviceId, SampleId, Slot, Status, mutant};

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
    /// Is it counted, and is it one of a device's own samples?
    pub kind: RecordKind,
    /// When it was taken, by the host's clock.
    pub sampled_at: UnixMs,
    /// How far off `sampled_at` may be.
    pub time_error: TimeError,
    /// When the host received it.
    pub received_at: UnixMs,
}

/// Why a record is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A sample that was new when it was stored: it is counted.
    Sample,
    /// A document of an older program: it is counted, and its identity is the document's, no device's.
    Imported,
    /// Whether it was counted before cannot be told, and its sender could not be refused: it is not counted.
    Undecided,
}

/// How exactly the time of a sample is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeError {
    /// To the millisecond and the time of flight.
    #[default]
    Exact,
    /// To a second: the message waited in a broker, which states waiting times in whole seconds.
    OneSecond,
    /// Not known.
    Unknown,
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
    /// The log's own time: as `received_at`, but it never goes back, and forward no faster than a clock that
    /// nobody sets. What is forgotten after 30 days is forgotten by it.
    pub log_time: UnixMs,
    /// The samples of the flush. Those of one device and boot keep their order; a store may put boots and devices in
    /// theirs, as an ingest does before.
    pub records: Vec<Record>,
}

impl Entry {
    /// The samples that are counted, by the second in which they were taken.
    pub fn counts(&self) -> BySecond {
        let mut counts = BySecond::new();
        self.add_to(&mut counts);
        counts
    }

    /// Adds [`Entry::counts`] to others.
    pub fn add_to(&self, counts: &mut BySecond) {
        let is_counted =
            |record: &&Record| mutant!(UndecidedCounted, true, record.kind != RecordKind::Undecided);
        for record in self.records.iter().filter(is_counted) {
            let second = counts.entry(record.sampled_at.second()).or_default();
            second.count(record.status, record.time_error);
        }
    }
}
