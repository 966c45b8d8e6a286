//! A store that is away: readiness says so, the time is counted, and the pauses between attempts grow.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use super::{Ops, Part};

/// The pause before a store that failed is tried again: doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Work that a store may fail at, and what it has cost so far.
#[derive(Debug)]
pub struct Outage<'a> {
    ops: &'a Ops,
    pause: Duration,
    /// Up to when the outage is counted, once it has begun.
    counted: Option<Instant>,
}

impl<'a> Outage<'a> {
    /// None yet.
    pub fn new(ops: &'a Ops) -> Self {
        Self { ops, pause: RETRY.0, counted: None }
    }

    /// The store failed at what `doing` says: waits before the next attempt.
    pub async fn wait(&mut self, doing: &str, error: &(dyn Display + Sync)) {
        self.ops.store_away(self.counted.is_none(), doing, error, self.pause);
        self.count();
        tokio::time::sleep(self.pause).await;
        self.count();
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    /// The store has done its work.
    pub fn over(mut self) {
        if self.counted.is_some() {
            self.count();
        }
        self.ops.healthy(Part::Store);
    }

    fn count(&mut self) {
        let now = Instant::now();
        if let Some(before) = self.counted.replace(now) {
            self.ops.metrics.outage_lasted(now - before);
        }
    }
}
