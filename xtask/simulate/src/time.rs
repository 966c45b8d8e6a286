//! Virtual time: tokio's clock, which stands still while anybody has something to do, and then goes to the next
//! instant that somebody waits for. It is embassy-time's too, which the device's MQTT client asks.

use std::cell::Cell;
use std::task::Waker;
use std::time::Duration;

use embassy_time_driver::{Driver, TICK_HZ, time_driver_impl};
use tokio::time::Instant;

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A run begins, at 0, in this thread.
pub(crate) fn start() {
    START.set(Some(Instant::now()));
}

/// Milliseconds since the run began.
pub(crate) fn now_ms() -> u64 {
    START.get().map_or(0, |start| start.elapsed().as_millis() as u64)
}

/// Completes at `at_ms`, at once if that has passed.
pub(crate) async fn sleep_until(at_ms: u64) {
    if let Some(start) = START.get()
        && at_ms > now_ms()
    {
        tokio::time::sleep_until(start + Duration::from_millis(at_ms)).await;
    }
}

/// Completes `ms` from now.
pub(crate) async fn sleep(ms: u64) {
    sleep_until(now_ms() + ms).await;
}

struct VirtualDriver;

time_driver_impl!(static DRIVER: VirtualDriver = VirtualDriver);

impl Driver for VirtualDriver {
    fn now(&self) -> u64 {
        now_ms() * (TICK_HZ / 1000)
    }

    /// Never rings: the device's session looks after the keep-alive by its own clock.
    fn schedule_wake(&self, _at: u64, _waker: &Waker) {}
}
