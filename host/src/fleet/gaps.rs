//! What of a boot's samples is missing: the sequences between those that are in the log.
//!
//! Missing samples lie evenly between the sampled times of their neighbours. Before the first sample of a boot that is in the log, and after
//! the last, nothing is missing: of what was taken there nothing is known.

use std::ops::Range;

use crate::log::row::Boot;
use crate::model::UnixMs;

/// Sequences of a boot that are not in the log, between two that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// When the sample before them was taken.
    pub after: UnixMs,
    /// When the sample behind them was taken.
    pub before: UnixMs,
}

impl Gap {
    /// How many samples are missing.
    pub fn missing(&self) -> u64 {
        self.last - self.first + 1
    }

    /// When they were taken, all together: in this range.
    pub fn range(&self) -> Range<u64> {
        // Neighbours whose order in time is not that of their sequences were dated by guesses.
        self.after.min(self.before).0..self.after.max(self.before).0.saturating_add(1)
    }

    /// How many of them were taken before an instant: the kth of n, from 1 on, lies k/(n + 1) of the way from one neighbour
    /// to the other, rounded down to a millisecond.
    pub fn taken_before(&self, at: u64) -> u64 {
        let (from, to) = (self.after.min(self.before).0, self.after.max(self.before).0);
        let Some(passed) = at.checked_sub(from).filter(|passed| *passed > 0) else { return 0 };
        if passed > to - from {
            return self.missing();
        }
        // k · way / (n + 1) < passed, and passed is whole: so it does not matter that the left side is rounded down.
        let parts = u128::from(self.missing()) + 1;
        let beyond = (u128::from(passed) * parts).div_ceil(u128::from(to - from));
        u64::try_from(beyond - 1).unwrap_or(u64::MAX).min(self.missing())
    }
}

/// What is missing of a boot, in order.
pub fn gaps(boot: &Boot) -> impl Iterator<Item = Gap> + '_ {
    boot.ranges.windows(2).map(|two| Gap {
        first: two[0].last + 1,
        last: two[1].first - 1,
        after: two[0].last_at,
        before: two[1].first_at,
    })
}

/// The time from one sample of a boot to the next, in milliseconds: how sampled times grow with sequences. `None` when
/// there is one sample only, or when they do not grow.
pub fn period_ms(boot: &Boot) -> Option<u64> {
    let (first, last) = (boot.ranges.first()?, boot.ranges.last()?);
    let steps = last.last.checked_sub(first.first).filter(|steps| *steps > 0)?;
    let took = last.last_at.0.checked_sub(first.first_at.0)?;
    // To the nearest.
    Some(took / steps + u64::from(took % steps >= steps - steps / 2)).filter(|period| *period > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rollcall_wire::BootId;

    use super::*;
    use crate::log::row::SeqRange;

    #[test]
    fn the_period_is_that_to_the_nearest_millisecond_however_long_it_is() {
        let boot = |steps, took| Boot {
            id: BootId(7),
            open_from: 0,
            last_logged: UnixMs(0),
            ranges: vec![SeqRange { first: 0, last: steps, first_at: UnixMs(0), last_at: UnixMs(took) }],
        };
        for (steps, took, period) in [(2, 3, 2), (3, 4, 1), (3, 5, 2), (4, 5, 1), (4, 6, 2)] {
            assert_eq!(period_ms(&boot(steps, took)), Some(period), "{took} / {steps}");
        }
        assert_eq!(period_ms(&boot(3, u64::MAX)), Some(u64::MAX / 3));
        assert_eq!(period_ms(&boot(2, u64::MAX)), Some(u64::MAX / 2 + 1));
        assert_eq!((period_ms(&boot(9, 4)), period_ms(&boot(0, 4))), (None, None));
    }

    proptest! {
        #[test]
        fn what_is_missing_lies_evenly_between_its_neighbours(
            first in 0..1_000_u64,
            missing in 1..200_u64,
            after in 0..5_000_u64,
            before in 0..5_000_u64,
            at in 0..6_000_u64,
        ) {
            let gap = Gap { first, last: first + missing - 1, after: UnixMs(after), before: UnixMs(before) };
            let (from, to) = (after.min(before), after.max(before));
            let taken_at: Vec<_> = (1..=missing).map(|nth| from + (to - from) * nth / (missing + 1)).collect();
            let expected = taken_at.iter().filter(|taken_at| **taken_at < at).count() as u64;
            prop_assert_eq!(gap.taken_before(at), expected);
            prop_assert!(taken_at.iter().all(|taken_at| gap.range().contains(taken_at)));
        }
    }
}
