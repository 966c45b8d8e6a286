//! The emitters' clock: milliseconds since the process started, on the reactor's own timers.

use std::time::{Duration, Instant};

use async_io::Timer;
use rollcall_device::Clock;

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessClock {
    start: Instant,
}

impl ProcessClock {
    /// It is 0 now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for ProcessClock {
    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    async fn sleep_until(&self, at_ms: u64) {
        // A new timer fires at the reactor's next turn at the earliest, even when it is due.
        if self.now_ms() < at_ms {
            Timer::at(self.start + Duration::from_millis(at_ms)).await;
        }
    }
}
