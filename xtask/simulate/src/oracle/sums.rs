//! What devices counted themselves, and whether it adds up to what is in the log.

use std::ops::AddAssign;

use rollcall_device::Snapshot;

use super::{Found, Oracle};
use crate::scene::Failure;

/// What one or more runs of a device counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) sampled: u64,
    pub(crate) restored: u64,
    pub(crate) acknowledged: u64,
    /// In a named counter of drops.
    pub(crate) dropped: u64,
    pub(crate) unstored: u64,
    /// In an outbox that a reset wiped.
    pub(crate) lost: u64,
    /// In an outbox that flash kept.
    pub(crate) carried_over: u64,
}

impl Sums {
    /// Of a run that has ended, with its outbox lost or carried over.
    pub(crate) fn of(stats: &Snapshot, is_kept: bool) -> Self {
        Self {
            sampled: stats.sampled,
            restored: stats.restored,
            acknowledged: stats.acknowledged,
            dropped: stats.refused + stats.overflowed + stats.expired,
            unstored: stats.unstored,
            lost: if is_kept { 0 } else { stats.outbox },
            carried_over: if is_kept { stats.outbox } else { 0 },
        }
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.sampled += other.sampled;
        self.restored += other.restored;
        self.acknowledged += other.acknowledged;
        self.dropped += other.dropped;
        self.unstored += other.unstored;
        self.lost += other.lost;
        self.carried_over += other.carried_over;
    }
}

impl Oracle {
    /// Sampled = counted + named drops, for every device, after the last look at the log.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) fn check_sums(&self) -> Result<(), Failure> {
        for (id, device) in &self.devices {
            let sums = &device.sums;
            let fail =
                |found: String| Err(Failure { check: "sums", found: format!("{id}: {found}; {sums:?}") });
            let out = sums.acknowledged + sums.dropped + sums.unstored + sums.lost + sums.carried_over;
            if sums.sampled + sums.restored != out {
                return fail("the device's own counters do not add up".to_owned());
            }
            let samples = || device.boots.values().flatten().flatten().filter(|sample| sample.is_kept);
            let missing =
                samples().filter(|sample| sample.found_by(self.looks) == Found::Nowhere).count() as u64;
            if missing > sums.dropped + sums.lost {
                return fail(format!("{missing} samples are neither counted nor in a counter of drops"));
            }
            let took =
                samples().filter(|sample| sample.is_granted || sample.is_settled_otherwise).count() as u64;
            if sums.lost + sums.restored == 0 && sums.acknowledged > took {
                return fail(format!("it takes more for acknowledged than the {took} that were"));
            }
        }
        Ok(())
    }
}
