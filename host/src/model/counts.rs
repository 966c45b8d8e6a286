//! How many samples had each status, by the second in which they were taken, and how many of them may belong to another.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

use rollcall_wire::Status;

use super::TimeError;

/// How many samples there are, by status and by how exactly their time is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many had each status; indexed by [`Status::index`].
    pub statuses: [u64; Status::COUNT],
    /// How many of all of them have [`TimeError::OneSecond`].
    pub one_second: u64,
    /// How many of all of them have [`TimeError::Unknown`].
    pub unknown: u64,
}

impl Counts {
    /// Counts one sample.
    pub fn count(&mut self, status: Status, time_error: TimeError) {
        self.statuses[status.index()] += 1;
        match time_error {
            TimeError::Exact => {}
            TimeError::OneSecond => self.one_second += 1,
            TimeError::Unknown => self.unknown += 1,
        }
    }

    /// All statuses together.
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
