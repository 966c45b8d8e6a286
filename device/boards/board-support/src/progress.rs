//! Whether an emitter still gets on, which is when its watchdog may be fed. Pure.
//!
//! A device without network is healthy: it samples, and it tries to connect. What is not: a sampler that
//! takes no samples, and a session that, with samples to send, does nothing at all.

use core::num::NonZeroU32;

use rollcall_device::Snapshot;
use rollcall_device::backoff;
use rollcall_device::config::{ACK_TIMEOUT_MS, CONNECT_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS, WRITE_TIMEOUT_MS};

/// Longest silence of a session that has something to send, in milliseconds: twice all of its waits.
const SESSION_LIMIT_MS: u64 = 2
    * (CONNECT_TIMEOUT_MS
        + HANDSHAKE_TIMEOUT_MS
        + WRITE_TIMEOUT_MS
        + ACK_TIMEOUT_MS
        + backoff::MAX_MS as u64);

/// How late a sample may be beyond two periods, in milliseconds: what a slow sensor may take.
const SAMPLE_SLACK_MS: u64 = 10_000;

/// What was seen to move last, and when.
#[derive(Clone, Copy, Debug)]
struct Mark {
    count: u64,
    at_ms: u64,
}

impl Mark {
    /// For how long `count` has stood still, in milliseconds.
    fn still_for_ms(&mut self, count: u64, now_ms: u64) -> u64 {
        if count != self.count {
            *self = Self { count, at_ms: now_ms };
        }
        now_ms.saturating_sub(self.at_ms)
    }
}

/// Watches an emitter's counters.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    sample_limit_ms: u64,
    sampled: Mark,
    session: Mark,
}

impl Progress {
    /// Starts to watch.
    pub fn new(period_ms: NonZeroU32, now_ms: u64) -> Self {
        let start = Mark { count: 0, at_ms: now_ms };
        let sample_limit_ms = 2 * u64::from(period_ms.get()) + SAMPLE_SLACK_MS;
        Self { sample_limit_ms, sampled: start, session: start }
    }

    /// Whether the emitter gets on, by its counters as they are now.
    pub fn is_alive(&mut self, stats: &Snapshot, now_ms: u64) -> bool {
        let sampled_for_ms = self.sampled.still_for_ms(stats.sampled, now_ms);
        let settled = stats.acknowledged + stats.rejected + stats.refused;
        let done = [stats.published, settled, stats.connects, stats.failures];
        let session_for_ms = self.session.still_for_ms(done.iter().sum(), now_ms);
        if stats.outbox == 0 {
            self.session.at_ms = now_ms;
        }
        sampled_for_ms <= self.sample_limit_ms && (stats.outbox == 0 || session_for_ms <= SESSION_LIMIT_MS)
    }
}

#[cfg(test)]
mod tests {
    use rollcall_device::Stats;

    use super::*;

    fn progress() -> Progress {
        Progress::new(NonZeroU32::new(1000).unwrap(), 0)
    }

    fn stats(sampled: u64, outbox: u64, failures: u64) -> Snapshot {
        Snapshot { sampled, outbox, failures, ..Stats::new().snapshot() }
    }

    #[test]
    fn a_device_that_is_offline_for_a_day_is_alive_while_it_tries() {
        let mut progress = progress();
        for second in 1..86_400 {
            assert!(progress.is_alive(&stats(second, second.min(300), second / 40), second * 1000));
        }
    }

    #[test]
    fn a_sampler_that_stands_still_is_not() {
        let mut progress = progress();
        assert!(progress.is_alive(&stats(1, 0, 0), 1_000));
        assert!(progress.is_alive(&stats(1, 0, 0), 13_000));
        assert!(!progress.is_alive(&stats(1, 0, 0), 13_001));
        assert!(progress.is_alive(&stats(2, 0, 0), 13_002));
    }

    #[test]
    fn a_session_that_does_nothing_with_samples_waiting_is_not() {
        let mut progress = progress();
        let alive_at = |progress: &mut Progress, second: u64, outbox| {
            progress.is_alive(&stats(second, outbox, 7), second * 1000)
        };
        // With nothing to send it may be silent for ever, and the time counts from when there is.
        assert!((1..1_000).all(|second| alive_at(&mut progress, second, 0)));
        let limit_s = SESSION_LIMIT_MS / 1000;
        assert!((1_000..999 + limit_s).all(|second| alive_at(&mut progress, second, 1)));
        assert!(!alive_at(&mut progress, 1_000 + limit_s, 1));
    }
}
