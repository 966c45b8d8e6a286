//! What of a boot's samples is missing: the sequences between those that are in the log.
//!
//! Before the first sample of a boot that is in the log, and after
//! the last, nothing is missing: of what was taken there nothing is known.

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
    Some((took + steps / 2) / steps).filter(|period| *period > 0)
}
