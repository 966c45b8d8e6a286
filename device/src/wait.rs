//! Small futures for waiting.

use embassy_futures::select::{Select, select};

use crate::clock::Clock;

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
