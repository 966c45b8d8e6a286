//! Time as an argument: monotonic milliseconds and a way to wait for one.
//!
//! The emitter asks nothing else of time, so a board brings its own timer in a few lines, a process can
//! hold ten thousand emitters on its runtime's timers, and tests run on a clock that they turn.

/// A monotonic clock that can wake a task.
pub trait Clock {
    /// Milliseconds since an instant that stays the same while the emitter exists; never goes back and never
    /// wraps: the host reads from it when a sample was taken.
    fn now_ms(&self) -> u64;

    /// Completes once [`now_ms`](Self::now_ms) is `at_ms` or later, at once if it already is. Dropping
    /// the future cancels the wait.
    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()>;
}

impl<C: Clock> Clock for &C {
    fn now_ms(&self) -> u64 {
        C::now_ms(self)
    }

    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> {
        C::sleep_until(self, at_ms)
    }
}

/// A clock that goes on from where an earlier boot's was last seen.
#[derive(Clone, Copy, Debug)]
pub struct Continued<C> {
    clock: C,
    from_ms: u64,
}

impl<C: Clock> Continued<C> {
    /// It is `from_ms` where `clock` says zero.
    pub const fn new(clock: C, from_ms: u64) -> Self {
        Self { clock, from_ms }
    }
}

impl<C: Clock> Clock for Continued<C> {
    fn now_ms(&self) -> u64 {
        self.clock.now_ms().saturating_add(self.from_ms)
    }

    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> {
        self.clock.sleep_until(at_ms.saturating_sub(self.from_ms))
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use embassy_futures::block_on;

    use super::*;

    struct Still(Cell<u64>);

    impl Clock for Still {
        fn now_ms(&self) -> u64 {
            self.0.get()
        }

        async fn sleep_until(&self, at_ms: u64) {
            self.0.set(self.0.get().max(at_ms));
        }
    }

    #[test]
    fn a_continued_clock_goes_on_from_the_earlier_one_and_waits_as_long_as_it_should() {
        let still = Still(Cell::new(7));
        let clock = Continued::new(&still, 1_000_000);
        assert_eq!(clock.now_ms(), 1_000_007);
        block_on(clock.sleep_until(1_000_050));
        assert_eq!((clock.now_ms(), still.now_ms()), (1_000_050, 50));
        block_on(clock.sleep_until(3));
        assert_eq!(still.now_ms(), 50, "an instant of an earlier boot has passed");
    }
}
