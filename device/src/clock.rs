//! Time as an argument: monotonic milliseconds and a way to wait for one.
//!
//! The emitter asks nothing else of time, so a board brings its own timer in a few lines, a process can
//! hold ten thousand emitters on its runtime's timers, and tests run on a clock that they turn.

/// A monotonic clock that can wake a task.
pub trait Clock {
    /// Milliseconds since any fixed instant; never goes back.
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
