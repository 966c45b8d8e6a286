//! Random numbers from the one seed, a stream for each purpose: a draw that is left out, or one more, changes nothing
//! for the others.

use rand_core::RngCore;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Chance(fastrand::Rng);

impl Chance {
    /// The stream of a seed for one purpose and place.
    pub(crate) fn new(seed: u64, purpose: &str, place: u64) -> Self {
        // FNV-1a, as it mixes well enough for a generator that mixes again.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in seed.to_le_bytes().iter().chain(purpose.as_bytes()).chain(&place.to_le_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(fastrand::Rng::with_seed(hash))
    }

    /// Another stream, which this one decides.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// 0 to `bound` − 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound.max(1))
    }

    /// `least` to `most`.
    pub(crate) fn within(&mut self, least: u64, most: u64) -> u64 {
        self.0.u64(least..=most.max(least))
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.usize(..of.len())]
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }
}

impl RngCore for Chance {
    fn next_u32(&mut self) -> u32 {
        self.0.u32(..)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}
