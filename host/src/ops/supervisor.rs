//! Starts a part again that ended by itself, in the same process: readiness says so at once, the pauses between
//! attempts grow, and a part that fails too often is given up, which ends the process with its reason. It knows
//! no part.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Ops, Part};

/// A part that fails so often within so long is given up: what makes it fail does not pass by itself, and whoever
/// started the process may know better.
const FAILURES_MAX: usize = 5;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);

/// The pause before a part is started again: doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why a part ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may work when it is started again.
    MayPass(String),
    /// It will not: an operator has to look.
    Final(String),
}

/// A part that is not started again.
#[derive(Debug, thiserror::Error)]
pub enum GivenUp {
    /// It failed too often.
    #[error("the {part} failed {FAILURES_MAX} times within {} s, at last: {reason}", FAILURES_WITHIN.as_secs())]
    TooOften {
        /// Which.
        part: Part,
        /// What it failed with.
        reason: String,
    },
    /// It cannot work.
    #[error("the {part} cannot go on: {reason}")]
    Final {
        /// Which.
        part: Part,
        /// What it failed with.
        reason: String,
    },
}

/// What can be started again.
pub trait Supervised: Send {
    /// Runs the part to its end. It says itself that it is healthy, once it is.
    fn run(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Runs a part to its end, and starts it again when it fails or panics. Between two attempts `stop` ends it;
/// a part that runs has to listen for itself.
///
/// # Errors
/// [`GivenUp`] with the reason.
pub async fn supervise(
    part: Part,
    ops: &Ops,
    stop: impl Future<Output = ()>,
    mut supervised: impl Supervised,
) -> Result<(), GivenUp> {
    ops.supervised(part);
    let mut stop = pin!(stop);
    let mut failures = VecDeque::new();
    loop {
        let reason = match AssertUnwindSafe(supervised.run()).catch_unwind().await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Failure::MayPass(reason))) => reason,
            Ok(Err(Failure::Final(reason))) => return Err(GivenUp::Final { part, reason }),
            Err(panic) => format!("panic: {}", text(&*panic)),
        };
        ops.unhealthy(part, &format_args!("the {part} failed and is started again: {reason}"));
        let Some(pause) = pause(&mut failures, Instant::now()) else {
            return Err(GivenUp::TooOften { part, reason });
        };
        ops.restarting(part, &reason, pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

/// The pause after a failure at `now`; `None` when there were too many.
fn pause(failures: &mut VecDeque<Instant>, now: Instant) -> Option<Duration> {
    failures.retain(|failed| now - *failed < FAILURES_WITHIN);
    failures.push_back(now);
    let before = u32::try_from(failures.len() - 1).expect("at most FAILURES_MAX are kept");
    (failures.len() < FAILURES_MAX).then(|| (RETRY.0 * 2_u32.pow(before)).min(RETRY.1))
}

/// What a panic says.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that does what a closure says, given the number of the run.
    struct Scripted<F> {
        runs: usize,
        run: F,
    }

    impl<F: FnMut(usize) -> Result<(), Failure> + Send> Supervised for Scripted<F> {
        async fn run(&mut self) -> Result<(), Failure> {
            self.runs += 1;
            tokio::time::sleep(FAILURES_WITHIN / 60).await;
            (self.run)(self.runs)
        }
    }

    async fn run(
        ops: &Ops,
        stop: impl Future<Output = ()>,
        run: impl FnMut(usize) -> Result<(), Failure> + Send,
    ) -> Result<(), GivenUp> {
        supervise(Part::Source, ops, stop, Scripted { runs: 0, run }).await
    }

    fn never() -> impl Future<Output = ()> {
        std::future::pending()
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_is_started_again_and_counted() {
        let ops = Ops::default();
        let ended = run(&ops, never(), |run| {
            assert!(run > 3, "run {run}");
            ops.healthy(Part::Source);
            Ok(())
        });
        assert!(ended.await.is_ok());
        assert_eq!(ops.reason(), None);
        let text = ops.metrics.text(true);
        assert!(text.contains("rollcall_restarts_total{part=\"source\"} 3"), "{text}");
        assert!(text.contains("rollcall_part_healthy{part=\"source\"} 1"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_five_times_within_a_minute_is_given_up_with_its_reason() {
        let ops = Ops::default();
        let error = run(&ops, never(), |run| panic!("run {run}")).await.unwrap_err().to_string();
        assert_eq!(error, "the source of messages failed 5 times within 60 s, at last: panic: run 5");
        assert!(ops.reason().unwrap().contains("run 5"));
    }

    #[test]
    fn failures_of_more_than_a_minute_ago_count_no_more() {
        let start = Instant::now();
        let mut failures = VecDeque::new();
        let every = FAILURES_WITHIN / (FAILURES_MAX as u32 - 1);
        for run in 0..100 {
            assert!(pause(&mut failures, start + every * run).is_some(), "failure {run}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_cannot_work_is_not_started_again() {
        let ops = Ops::default();
        let ended = run(&ops, never(), |run| Err(Failure::Final(format!("gap {run}")))).await;
        let error = ended.unwrap_err().to_string();
        assert_eq!(error, "the source of messages cannot go on: gap 1");
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_says_so_from_the_failure_on_and_a_stop_ends_the_pause() {
        let ops = Ops::default();
        let stop = async {
            while ops.reason().is_none() {
                tokio::task::yield_now().await;
            }
        };
        let ended = run(&ops, stop, |run| {
            assert_eq!(run, 1, "it waited for the pause");
            Err(Failure::MayPass("gone".to_owned()))
        });
        assert!(ended.await.is_ok());
        assert_eq!(ops.reason().unwrap(), "the source of messages failed and is started again: gone");
    }
}
