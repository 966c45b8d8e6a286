//! How long answers take over HTTP, on one connection that is kept open.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rollcall_harness::host::HostProcess;

/// Enough for a p99 that 30 slower answers stand behind.
const QUESTIONS: usize = 3_000;

/// A slow host must not make the bench endless.
const LIMIT: Duration = Duration::from_secs(30);

/// Median and 99th percentile, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Asks what `next` gives, as `/status_count?start=0&end=9`, one after the other.
pub(super) fn measure(host: &HostProcess, mut next: impl FnMut() -> String) -> Result<Latency> {
    let asker = host.asker();
    let start = Instant::now();
    let mut times = Vec::with_capacity(QUESTIONS);
    while times.len() < QUESTIONS && start.elapsed() < LIMIT {
        let path = next();
        let asked = Instant::now();
        asker.ask(&path)?;
        times.push(asked.elapsed());
    }
    ensure!(times.len() >= 100, "only {} answers in {LIMIT:?}: no percentile can be told", times.len());
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    Ok(Latency { p50_ms: at(0.5), p99_ms: at(0.99) })
}
