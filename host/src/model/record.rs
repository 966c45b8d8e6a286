//! What is stored: a sample as the log keeps it, and the flush that it came with.

use std::hash::{BuildHasher, RandomState};

use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};

use super::{BySecond, UnixMs};

/// A sample that came later than this after it was taken came late, in milliseconds: as long as an answer may lag behind
/// the log in a large fleet. What an answer of a minute later says of a range is changed by late samples alone.
pub const LATE_MS: u64 = 60_000;

/// A stored sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl Record {
    /// Did a device's sample come long after it was taken? An outbox, a broker or a host that stood still held it up.
    /// Documents of an older program were there in time.
    pub fn is_late(&self) -> bool {
        self.kind == RecordKind::Sample && self.received_at.0.saturating_sub(self.sampled_at.0) > LATE_MS
    }
}

/// Why a record is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A sample that was new when it was stored: it is counted.
    Sample,
    /// A document of an older program: it is counted, and its identity is the document's, no device's.
    Imported,
    /// Whether it was counted before cannot be told, and its sender could not be refused: it is not counted.
    Undecided,
}

/// How exactly the time of a sample is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeError {
    /// To the millisecond and the time of flight.
    #[default]
    Exact,
    /// To a second: the message waited in a broker, which states waiting times in whole seconds.
    OneSecond,
    /// Not known.
    Unknown,
}

/// A number that a process draws when it starts. Two of them may take the same bare messages in the same millisecond: what one
/// of them has stored is not what the other one did, however alike it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterId(pub u32);

impl WriterId {
    /// Entries that say nothing of who wrote them.
    pub const NOBODY: Self = Self(0);

    /// One that no other process has, but for one chance in four billions.
    pub fn draw() -> Self {
        Self(RandomState::new().hash_one(std::process::id()) as u32)
    }
}

/// An identity for what has none of its own: 117 bits of the FNV-1a hash of what tells it from others.
pub fn hashed_id(bytes: &[u8]) -> SampleId {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    let seq = (hash as u64) & Sequence::MAX.get();
    SampleId { boot: BootId((hash >> 64) as u64), seq: Sequence::new(seq).unwrap_or(Sequence::MAX) }
}

/// One flush of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub slot: Slot,
    /// Its place in the partition's log.
    pub number: u64,
    /// Who wrote it.
    pub writer: WriterId,
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
    /// What there is to count, by the second in which it was taken.
    pub fn counts(&self) -> BySecond {
        let mut counts = BySecond::new();
        self.add_to(&mut counts);
        counts
    }

    /// Adds [`Entry::counts`] to others.
    pub fn add_to(&self, counts: &mut BySecond) {
        for record in &self.records {
            counts.entry(record.sampled_at.second()).or_default().count(record);
        }
    }
}
