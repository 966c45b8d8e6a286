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
    period_ms: NonZeroU32,
}

impl Cadence {
    /// The first sample is due at `start_ms`.
    pub(crate) fn new(start_ms: u64, period_ms: NonZeroU32) -> Self {
        Self { due_ms: start_ms, period_ms }
    }

    /// When the next sample is due, in milliseconds.
    pub(crate) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Moves on after a sample, and says how many periods have passed without one.
    pub(crate) fn advance(&mut self, now_ms: u64) -> u64 {
        self.due_ms += u64::from(self.period_ms.get());
        // 32 bits are 49 days; what is later is left for the next call. A division of 64 bits takes 250 bytes more.
        let late_ms = u32::try_from(now_ms.saturating_sub(self.due_ms)).unwrap_or(u32::MAX);
        let missed = late_ms / self.period_ms;
        self.due_ms += u64::from(late_ms - late_ms % self.period_ms);
        u64::from(missed)
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

    #[test]
    fn a_year_without_a_sample_is_missed_over_a_few_calls() {
        let (mut cadence, year_ms) = (cadence(), 365 * 24 * 60 * 60 * 1_000);
        let missed: u64 = [(); 10].map(|()| cadence.advance(year_ms)).iter().sum();
        // Each of the ten calls is a sample.
        assert_eq!(missed + 10, (cadence.due_ms() - 500) / 1_000);
        assert!((year_ms..year_ms + 10_000).contains(&cadence.due_ms()));
    }
}
