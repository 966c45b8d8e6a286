//! When the next sample is due. Pure.
//!
//! The cadence is fixed: due times are the start plus whole periods, however late each sample was. A
//! device that was busy for several periods takes one sample, late, for the last of them and counts the
//! others as missed: a status of a moment that has passed cannot be sampled any more.

use core::num::NonZeroU32;

/// Due times, a period apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cadence {
    due_ms: u64,
    period_ms: u64,
}

impl Cadence {
    /// The first sample is due at `start_ms`.
    pub(crate) fn new(start_ms: u64, period_ms: NonZeroU32) -> Self {
        Self { due_ms: start_ms, period_ms: u64::from(period_ms.get()) }
    }

    /// When the next sample is due, in milliseconds.
    pub(crate) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Moves on after a sample, and says how many periods have passed without one.
    pub(crate) fn advance(&mut self, now_ms: u64) -> u64 {
        let next_ms = self.due_ms + self.period_ms;
        let missed = now_ms.saturating_sub(next_ms) / self.period_ms;
        self.due_ms = next_ms + missed * self.period_ms;
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cadence() -> Cadence {
        Cadence::new(500, NonZeroU32::new(1000).unwrap())
    }

    #[test]
    fn a_late_sample_does_not_shift_the_later_ones() {
        let mut cadence = cadence();
        assert_eq!((cadence.advance(1_499), cadence.due_ms()), (0, 1_500));
        assert_eq!((cadence.advance(1_500), cadence.due_ms()), (0, 2_500));
    }

    #[test]
    fn of_several_missed_periods_the_last_is_sampled_late() {
        let mut cadence = cadence();
        assert_eq!((cadence.advance(4_700), cadence.due_ms()), (3, 4_500));
        assert_eq!((cadence.advance(4_700), cadence.due_ms()), (0, 5_500));
    }
}
