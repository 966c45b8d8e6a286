//! The emitter's clock on embassy's time driver.

use embassy_time::{Instant, Timer};
use rollcall_device::Clock;

/// Milliseconds since boot.
#[derive(Clone, Copy, Debug)]
pub struct EmbassyClock;

impl Clock for EmbassyClock {
    fn now_ms(&self) -> u64 {
        Instant::now().as_millis()
    }

    async fn sleep_until(&self, at_ms: u64) {
        Timer::at(Instant::from_millis(at_ms)).await;
    }
}
