//! Notices that the host's clock was set: samples are dated by it.

use std::time::Duration;

use super::Ops;
use crate::model::Moment;

/// How often the two clocks are compared.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a clock that is only being slewed (500 ppm: 2.5 ms) never makes between two looks.
const STEP_MS: i64 = 250;

/// Compares the host's clock with the one that nobody sets, and reports when it was set. It does not end.
pub async fn watch_clock(ops: &Ops) {
    let mut last = Moment::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Moment::now();
        if now.instant.elapsed() < Duration::from_millis(STEP_MS.unsigned_abs() / 2) {
            if let Some(step_ms) = step_ms(last, now) {
                ops.clock_set(step_ms);
            }
            last = now;
        }
    }
}

/// By how much the clock was set forward between two moments, in milliseconds, if it was set.
fn step_ms(before: Moment, after: Moment) -> Option<i64> {
    let set_ms = after.at.0.cast_signed() - before.at.0.cast_signed();
    let passed = after.instant.duration_since(before.instant);
    let step_ms = set_ms.saturating_sub(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX));
    (step_ms.abs() >= STEP_MS).then_some(step_ms)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::model::UnixMs;

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_is_slewed_is_not() {
        let before = Moment { at: UnixMs(1_700_000_000_000), instant: Instant::now() };
        let later = |at_ms: i64, passed_ms: u64| Moment {
            at: UnixMs(before.at.0.saturating_add_signed(at_ms)),
            instant: before.instant + Duration::from_millis(passed_ms),
        };
        assert_eq!(step_ms(before, later(5_003, 5_000)), None);
        // A process that stood still is no clock that was set.
        assert_eq!(step_ms(before, later(60_000, 60_000)), None);
        assert_eq!(step_ms(before, later(3_605_000, 5_000)), Some(3_600_000));
        assert_eq!(step_ms(before, later(-3_595_000, 5_000)), Some(-3_600_000));
        assert_eq!(step_ms(before, later(4_700, 5_000)), Some(-300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_logged_and_counted() {
        // The paused clock runs ahead of the host's: as if that were set back by 5 s at each look.
        let ops = Ops::default();
        let watch = tokio::time::timeout(LOOK_EVERY * 5 / 2, watch_clock(&ops));
        assert!(watch.await.is_err(), "it does not end");
        assert!(
            ops.metrics.text(true).contains("rollcall_clock_steps_total 2"),
            "{}",
            ops.metrics.text(true)
        );
    }
}
