//! Small futures for waiting.

use core::future::poll_fn;
use core::task::Poll;

use embassy_futures::select::{Either, select};

use crate::clock::Clock;

/// Completes when `condition` holds.
///
/// It registers no waker, so the condition may only change within the same task, and by a future that is
/// polled before this one: the sampler is polled before the session, in [`crate::emitter::Emitter::run`].
pub(crate) async fn until(condition: impl Fn() -> bool) {
    poll_fn(|_| if condition() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// The output of `future`, or `None` after `timeout_ms`, when it is dropped.
pub(crate) async fn within<F: Future>(clock: &impl Clock, timeout_ms: u64, future: F) -> Option<F::Output> {
    let deadline_ms = clock.now_ms().saturating_add(timeout_ms);
    match select(future, clock.sleep_until(deadline_ms)).await {
        Either::First(output) => Some(output),
        Either::Second(()) => None,
    }
}
