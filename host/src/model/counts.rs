//! How many samples had each status, by the second in which they were taken, how many of them may belong to another or came
//! late, and of how many it is not known whether they were counted before.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

use rollcall_wire::{Status, mutant};

use super::{Record, RecordKind, TimeError};

/// How many samples there are, by status, by how exactly their time is known and by when they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many had each status; indexed by [`Status::index`].
    pub statuses: [u64; Status::COUNT],
    /// How many of all of them have [`TimeError::OneSecond`].
    pub one_second: u64,
    /// How many of all of them have [`TimeError::Unknown`].
    pub unknown: u64,
    /// How many of all of them came late: [`Record::is_late`].
    pub late: u64,
    /// How many there are besides that are not counted, because nobody can tell whether they were:
    /// [`RecordKind::Undecided`].
    pub undecided: u64,
}

impl Counts {
    /// Counts one record.
    pub fn count(&mut self, record: &Record) {
        if mutant!(UndecidedCounted, false, record.kind == RecordKind::Undecided) {
            self.undecided += 1;
            return;
        }
        self.statuses[record.status.index()] += 1;
        match record.time_error {
            TimeError::Exact => {}
            TimeError::OneSecond => self.one_second += 1,
            TimeError::Unknown => self.unknown += 1,
        }
        self.late += u64::from(record.is_late());
    }

    /// All statuses together: what is counted.
    pub fn total(&self) -> u64 {
        self.statuses.iter().sum()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (sum, add) in self.statuses.iter_mut().zip(other.statuses) {
            *sum += add;
        }
        self.one_second += other.one_second;
        self.unknown += other.unknown;
        self.late += other.late;
        self.undecided += other.undecided;
    }
}

/// Counts by the Unix second in which the samples were taken; seconds without a sample are absent.
pub type BySecond = BTreeMap<u64, Counts>;

/// The sum of the seconds in `range`.
pub fn sum(counts: &BySecond, range: Range<u64>) -> Counts {
    let mut sum = Counts::default();
    for (_, counts) in counts.range(range) {
        sum += *counts;
    }
    sum
}
