//! Virtual time, one a thread, and with it one a test.
//!
//! It is embassy-time's too, which minimq asks, so that its keep-alive is tested on the same clock.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use embassy_time_driver::{Driver, TICK_HZ, time_driver_impl};
use rollcall_device::Clock;

/// How often a well-behaved emitter looks at a clock that stands still, at most.
const LOOKS_MAX: u32 = 200_000;

thread_local! {
    static LOOKS: Cell<u32> = const { Cell::new(0) };
    static NOW_MS: Cell<u64> = const { Cell::new(0) };
    static NEXT_MS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The time on this test's clock, for scripts.
pub(crate) fn now_ms() -> u64 {
    NOW_MS.get()
}

/// Turned by the bench alone.
#[derive(Clone, Copy)]
pub(crate) struct VirtualClock(());

impl VirtualClock {
    /// It is 0 now.
    pub(crate) fn start() -> Self {
        NOW_MS.set(0);
        NEXT_MS.set(None);
        LOOKS.set(0);
        Self(())
    }

    /// The clock that was started.
    pub(crate) fn running() -> Self {
        Self(())
    }

    pub(crate) fn set_ms(&self, now_ms: u64) {
        assert!(now_ms >= NOW_MS.get(), "time goes back");
        LOOKS.set(0);
        NOW_MS.set(now_ms);
    }

    /// Every pending future says anew, in each poll, what it waits for.
    pub(crate) fn forget_deadlines(&self) {
        NEXT_MS.set(None);
    }

    pub(crate) fn wait_for(&self, at_ms: u64) {
        NEXT_MS.set(Some(NEXT_MS.get().map_or(at_ms, |next| next.min(at_ms))));
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        NEXT_MS.get()
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        // A loop that never waits would never return to the bench, but every one looks at the clock.
        LOOKS.set(LOOKS.get() + 1);
        assert!(LOOKS.get() < LOOKS_MAX, "busy without time passing");
        NOW_MS.get()
    }

    async fn sleep_until(&self, at_ms: u64) {
        poll_fn(|_| {
            if self.now_ms() >= at_ms {
                return Poll::Ready(());
            }
            self.wait_for(at_ms);
            Poll::Pending
        })
        .await;
    }
}

struct VirtualDriver;

time_driver_impl!(static DRIVER: VirtualDriver = VirtualDriver);

impl Driver for VirtualDriver {
    fn now(&self) -> u64 {
        NOW_MS.get() * (TICK_HZ / 1000)
    }

    /// Never rings: the session must not lean on minimq's own alarms.
    fn schedule_wake(&self, _at: u64, _waker: &Waker) {}
}
