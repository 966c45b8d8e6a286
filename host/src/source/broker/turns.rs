//! Which of several brokers is tried next, and after which pause. One that held is asked again first: it has our session,
//! and what arrived for it.

use std::time::Duration;

/// The pause when no broker took us: doubled each time.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// A connection that lived so long held.
const HEALTHY: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Turns {
    brokers: usize,
    at: usize,
    /// How many in a row did not hold since the last pause.
    failed: usize,
    pause: Duration,
}

impl Turns {
    /// So many brokers, and the first one's turn.
    pub(super) fn new(brokers: usize) -> Self {
        Self { brokers, at: 0, failed: 0, pause: PAUSE.0 }
    }

    /// Whose turn it is.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The connection ended, or there was none, by the broker's fault or the network's; the pause before the next
    /// attempt.
    pub(super) fn failed(&mut self, lived: Option<Duration>) -> Duration {
        if self.held(lived) {
            return self.paused();
        }
        self.at = if self.at + 1 < self.brokers { self.at + 1 } else { 0 };
        self.failed += 1;
        if self.failed < self.brokers { Duration::ZERO } else { self.paused() }
    }

    /// We ended the connection, and want the same broker again; the pause before that.
    pub(super) fn again(&mut self, lived: Option<Duration>) -> Duration {
        self.held(lived);
        self.paused()
    }

    fn held(&mut self, lived: Option<Duration>) -> bool {
        let held = lived.is_some_and(|lived| lived >= HEALTHY);
        if held {
            self.pause = PAUSE.0;
        }
        held
    }

    fn paused(&mut self) -> Duration {
        self.failed = 0;
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE.1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Option<Duration> = Some(Duration::from_secs(29));
    const LONG: Option<Duration> = Some(HEALTHY);

    #[test]
    fn one_broker_is_tried_again_after_pauses_that_grow_until_a_connection_holds() {
        let mut turns = Turns::new(1);
        let pauses: Vec<u128> = (0..7).map(|_| turns.failed(None).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        assert_eq!(turns.failed(SHORT), PAUSE.1);
        assert_eq!((turns.failed(LONG), turns.failed(None)), (PAUSE.0, PAUSE.0 * 2));
        assert_eq!(turns.at(), 0);
    }

    #[test]
    fn all_brokers_are_tried_before_there_is_a_pause() {
        let mut turns = Turns::new(3);
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push((turns.at(), turns.failed(None).as_millis()));
        }
        assert_eq!(seen, [(0, 0), (1, 0), (2, 500), (0, 0), (1, 0), (2, 1000)]);
    }

    #[test]
    fn a_broker_that_held_is_asked_first_and_one_that_only_welcomes_us_is_passed_over() {
        let mut turns = Turns::new(2);
        assert_eq!((turns.failed(None), turns.at()), (Duration::ZERO, 1));
        assert_eq!((turns.failed(LONG), turns.at()), (PAUSE.0, 1));
        assert_eq!((turns.failed(SHORT), turns.at()), (Duration::ZERO, 0));
        // What it holds for us is ours to take.
        assert_eq!((turns.again(SHORT), turns.at()), (PAUSE.0 * 2, 0));
    }
}
