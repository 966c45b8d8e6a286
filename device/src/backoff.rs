//! How long to wait before trying again: exponential, with full jitter. Pure: the random number comes
//! from the caller.

use rand_core::RngCore;

/// The ceiling of the first wait, in milliseconds.
pub const FIRST_MS: u32 = 500;

/// The ceiling of every later wait, in milliseconds.
pub const MAX_MS: u32 = 30_000;

/// A link that held this long was healthy, in milliseconds: the next failure starts from [`FIRST_MS`].
pub const HEALTHY_AFTER_MS: u64 = 60_000;

/// Exponential backoff with full jitter: a wait is uniform in 1 ms to a ceiling that doubles.
///
/// Full jitter spreads a fleet that lost its broker at one instant better than jitter on top of a fixed
/// wait does (M. Brooker, "Exponential Backoff And Jitter", 2015).
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    ceiling_ms: u32,
}

impl Backoff {
    /// Starts at [`FIRST_MS`].
    pub const fn new() -> Self {
        Self { ceiling_ms: FIRST_MS }
    }

    /// The next wait, in milliseconds: 1 to min([`FIRST_MS`] · 2ⁿ, [`MAX_MS`]).
    pub fn next_ms(&mut self, rng: &mut impl RngCore) -> u64 {
        let wait = 1 + ((u64::from(rng.next_u32()) * u64::from(self.ceiling_ms)) >> 32);
        self.ceiling_ms = (self.ceiling_ms * 2).min(MAX_MS);
        wait
    }

    /// Starts anew, after success.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields one value for ever.
    struct Constant(u32);

    impl RngCore for Constant {
        fn next_u32(&mut self) -> u32 {
            self.0
        }
        fn next_u64(&mut self) -> u64 {
            u64::from(self.0)
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(self.0 as u8);
        }
    }

    #[test]
    fn the_ceiling_doubles_from_half_a_second_to_thirty() {
        let mut backoff = Backoff::new();
        let mut highest = || backoff.next_ms(&mut Constant(u32::MAX));
        let waits = [(); 8].map(|()| highest());
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn the_lowest_wait_is_a_millisecond_never_none() {
        let mut backoff = Backoff::new();
        for _ in 0..10 {
            assert_eq!(backoff.next_ms(&mut Constant(0)), 1);
        }
    }

    #[test]
    fn a_reset_starts_from_the_first_ceiling() {
        let mut backoff = Backoff::new();
        for _ in 0..10 {
            backoff.next_ms(&mut Constant(0));
        }
        backoff.reset();
        assert_eq!(backoff.next_ms(&mut Constant(u32::MAX)), 500);
    }
}
