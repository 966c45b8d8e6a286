//! How many samples had each status, by the second in which they were taken.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

use rollcall_wire::Status;

/// How many samples had each status; indexed by [`Status::index`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; Status::COUNT]);

impl Counts {
    /// Counts one sample.
    pub fn count(&mut self, status: Status) {
        self.0[status.index()] += 1;
    }

    /// All statuses together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (sum, add) in self.0.iter_mut().zip(other.0) {
            *sum += add;
        }
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
