//! Small futures for waiting.

use core::future::poll_fn;
use core::task::Poll;

use embassy_futures::select::{Select, select};

use crate::clock::Clock;

/// Completes when `condition` holds.
///
/// It registers no waker, so the condition may only change within the same task, and by a future that is
/// polled before this one: the sampler is polled before the session, in [`crate::emitter::Emitter::run`].
pub(crate) async fn until(condition: impl Fn() -> bool) {
    poll_fn(|_| if condition() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// `Either::First` with the output of `future`, or `Either::Second` after `timeout_ms`, when it is dropped.
///
/// Not an `async fn`, which would hold the future twice: as an argument and where it is awaited.
pub(crate) fn within<F: Future>(
    clock: &impl Clock,
    timeout_ms: u64,
    future: F,
) -> Select<F, impl Future<Output = ()>> {
    select(future, clock.sleep_until(clock.now_ms().saturating_add(timeout_ms)))
}
