//! Thirty days of messages: how quickly questions are answered when the store is large, and how it restarts.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rollcall_harness::host::HostProcess;
use rollcall_harness::services::Mongod;

use super::latency::{self, Latency};
use super::load::{FLEET, Load, Pace};
use super::python_demo::PythonDemo;
use super::table::{self, Target};
use super::{Fresh, usage};

/// The messages are sampled evenly over so many milliseconds before now, oldest first, as a fleet's would be: thirty
/// days, beyond which none is taken, less an hour in which the store may be filled.
const SPAN_MS: u64 = (30 * 24 - 1) * 3600 * 1000;

/// What is asked for beside all of it, in seconds.
const RANGES: [(&str, u64); 3] = [("a day", DAY_S), ("an hour", 3600), ("a minute", 60)];

const DAY_S: u64 = 24 * 3600;

/// What arrives while questions are asked "under load".
const ARRIVING_PER_SECOND: u64 = 1_000;

/// The questions have ended long before; they tell the load to stop.
const ARRIVING_AT_MOST: Duration = Duration::from_secs(120);

/// The host has caught up with its rollups when it uses less than this part of a core.
const IDLE_CORES: f64 = 0.02;

const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

/// How often the demo is asked: at 10 million messages each answer takes it seconds.
const DEMO_QUESTIONS: u32 = 5;

/// How many times as quick as the demo a question for everything is to be answered, and from which size on.
const FASTER_TIMES: f64 = 1_000.0;
const FASTER_AT: u64 = 10_000_000;

const MIB: f64 = 1024.0 * 1024.0;

/// Fills a store to a tenth of `messages` and to all of them, and measures at both sizes.
pub(super) fn grow(fresh: &Fresh, messages: u64) -> Result<()> {
    let mut demo = fresh.mongod.is_some().then(|| Peer::start(&fresh.dir.path().join("demo"))).transpose()?;
    let mut history = History::start(fresh)?;
    let smaller = fill_and_ask(fresh, &mut history, &mut demo, (messages / 10, messages))?;
    let larger = fill_and_ask(fresh, &mut history, &mut demo, (messages, messages))?;
    table::heading("10 times the messages");
    let slower = larger / smaller;
    table::print("status_count p99, quiet, full range, times as long", slower, "", Target::AtMost(2.0));
    report_disk(fresh, &history)?;
    restart(fresh, history)
}

/// Fills the store to `target` of `all` messages and asks it; gives the p99 of the full range while nothing
/// arrives, in milliseconds.
fn fill_and_ask(
    fresh: &Fresh,
    history: &mut History,
    demo: &mut Option<Peer>,
    (target, all): (u64, u64),
) -> Result<f64> {
    table::heading(&format!("thirty days of {} messages", table::number(target as f64)));
    let rate = history.fill(target, all)?;
    table::print("acknowledged messages a second, while filling", rate, "", Target::None);
    let caught_up = history.catch_up()?;
    table::print("until the rollups have caught up", caught_up.as_secs_f64(), "s", Target::None);
    let memory = usage::memory(history.host.process().pid())?.now as f64 / MIB;
    table::print("memory of the host", memory, "MiB", Target::None);

    let quiet = history.ask()?;
    print_latencies(fresh, "quiet", &quiet);
    let series = history.ask_series()?;
    table::print("series of a day by minute, quiet, p50", series.p50_ms, "ms", Target::None);
    table::print("series of a day by minute, quiet, p99", series.p99_ms, "ms", fresh.targets.series_p99_ms);
    let mut load = history.load()?;
    let stop = load.stopper();
    let arriving =
        thread::spawn(move || load.run(Pace::PerSecond(ARRIVING_PER_SECOND, ARRIVING_AT_MOST), |_| 0));
    let asked = history.ask();
    stop.store(true, Ordering::Relaxed);
    history.held += arriving.join().ok().context("the load panicked")??;
    print_latencies(fresh, "with 1,000 a second arriving", &asked?);
    let full = quiet.first().context("nothing was asked")?.1;
    if let Some(demo) = demo {
        demo.compare(history.start..history.start + SPAN_MS / 1000, target, full.p50_ms)?;
    }
    Ok(full.p99_ms)
}

fn print_latencies(fresh: &Fresh, when: &str, latencies: &[(&str, Latency)]) {
    for (range, latency) in latencies {
        let what = format!("status_count, {range}, {when}");
        table::print(&format!("{what}, p50"), latency.p50_ms, "ms", Target::None);
        table::print(&format!("{what}, p99"), latency.p99_ms, "ms", fresh.targets.status_count_p99_ms);
    }
}

/// The demo on a mongod of its own: what that takes on disk is not ours.
struct Peer {
    demo: PythonDemo,
    held: u64,
    _mongod: Mongod,
}

impl Peer {
    fn start(dir: &Path) -> Result<Self> {
        fs::create_dir(dir)?;
        let mongod = Mongod::start_with_large_cache(dir)?;
        Ok(Self { demo: PythonDemo::new(&mongod)?, held: 0, _mongod: mongod })
    }

    /// Fills it to `target` messages of the same span and asks it; prints how much longer its answer takes
    /// than ours, which took `ours_ms`.
    fn compare(&mut self, span: Range<u64>, target: u64, ours_ms: f64) -> Result<()> {
        self.demo.fill(span, target - self.held)?;
        self.held = target;
        let theirs_ms = self.demo.ask(DEMO_QUESTIONS)?;
        table::print("the Python demo's status_count, full range, p50", theirs_ms, "ms", Target::None);
        let least = if target >= FASTER_AT { Target::AtLeast(FASTER_TIMES) } else { Target::None };
        table::print("times as quick as the demo, p50", theirs_ms / ours_ms, "", least);
        Ok(())
    }
}

/// A host whose store is filled.
pub(super) struct History {
    host: HostProcess,
    /// The first sample's second.
    start: u64,
    /// Messages acknowledged so far.
    held: u64,
    seed: u64,
}

impl History {
    pub(super) fn start(fresh: &Fresh) -> Result<Self> {
        let host = HostProcess::start(&fresh.settings)?;
        Ok(Self { host, start: unix_s()? - SPAN_MS / 1000, held: 0, seed: 3 })
    }

    /// Publishes until the store holds `target` of `all` messages; messages a second.
    pub(super) fn fill(&mut self, target: u64, all: u64) -> Result<f64> {
        let (from, count) = (self.held, target.saturating_sub(self.held));
        let mut load = self.load()?;
        let start = Instant::now();
        let age_ms = |nth: u64| (SPAN_MS - SPAN_MS * (from + nth).min(all) / all) as u32;
        self.held += load.run(Pace::Count(count), age_ms)?;
        let rate = count as f64 / start.elapsed().as_secs_f64();
        ensure!(self.host.all_counts()?.total() == self.held, "counted and acknowledged differ");
        Ok(rate)
    }

    fn load(&mut self) -> Result<Load> {
        self.seed += 1;
        Load::connect(&self.host.broker(), FLEET, self.seed)
    }

    /// Asks for all of it, and for single days, hours and minutes, none of which begins or ends at a window's
    /// edge.
    pub(super) fn ask(&self) -> Result<Vec<(&'static str, Latency)>> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let end = unix_s()?;
        let path = |range: Range<u64>| format!("/status_count?start={}&end={}", range.start, range.end);
        let mut latencies = vec![("full range", latency::measure(&self.host, || path(self.start..end))?)];
        for (name, length) in RANGES {
            let next = || path(unaligned(&mut random, self.start..end, length));
            latencies.push((name, latency::measure(&self.host, next)?));
        }
        Ok(latencies)
    }

    /// As the page asks for the bars of a day.
    fn ask_series(&self) -> Result<Latency> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let end = unix_s()?;
        latency::measure(&self.host, || {
            let Range { start, end } = unaligned(&mut random, self.start..end, DAY_S);
            format!("/v1/series?start={start}&end={end}&step=60")
        })
    }

    pub(super) fn stop(self) -> Result<()> {
        self.host.stop()
    }

    /// Waits until the host has nothing left to do.
    pub(super) fn catch_up(&self) -> Result<Duration> {
        let pid = self.host.process().pid();
        let start = Instant::now();
        // A sample of the processor's use needs a span of time.
        let span = Duration::from_millis(500);
        loop {
            let before = usage::cpu_time(pid)?;
            thread::sleep(span);
            let used = usage::cpu_time(pid)? - before;
            if used.as_secs_f64() < IDLE_CORES * span.as_secs_f64() {
                return Ok(start.elapsed().saturating_sub(span));
            }
            ensure!(
                start.elapsed() < CATCH_UP_LIMIT,
                "the host is still busy {CATCH_UP_LIMIT:?} after the load"
            );
        }
    }
}

/// A range of `length` somewhere within another.
fn unaligned(random: &mut fastrand::Rng, within: Range<u64>, length: u64) -> Range<u64> {
    let from = random.u64(within.start..within.end - length);
    // Not the first second of a minute.
    let from = from + u64::from(from.is_multiple_of(60));
    from..from + length
}

fn report_disk(fresh: &Fresh, history: &History) -> Result<()> {
    let disk = usage::disk(&fresh.settings.data)?;
    let each = |bytes: u64| bytes as f64 / history.held as f64;
    let target = fresh.targets.backlog_bytes_a_message;
    table::print("on disk a message, allocated", each(disk.allocated), "bytes", target);
    table::print("on disk a message, length of the files", each(disk.length), "bytes", Target::None);
    Ok(())
}

/// Restarts the host after SIGTERM and after `kill -9`; the counts must stay as they are.
fn restart(fresh: &Fresh, history: History) -> Result<()> {
    let History { host, held, .. } = history;
    host.stop()?;
    let (host, ready) = timed_start(fresh, held)?;
    table::print("restart to ready, after SIGTERM", ready, "s", Target::AtMost(2.0));
    host.kill();
    let (host, ready) = timed_start(fresh, held)?;
    table::print("restart to ready, after kill -9", ready, "s", Target::AtMost(2.0));
    host.stop()
}

/// Starts it on its data, and says after how many seconds it was ready.
pub(super) fn timed_start(fresh: &Fresh, held: u64) -> Result<(HostProcess, f64)> {
    let start = Instant::now();
    let host = HostProcess::start(&fresh.settings)?;
    let ready = start.elapsed().as_secs_f64();
    ensure!(host.all_counts()?.total() == held, "a restart changed the counts");
    Ok((host, ready))
}

fn unix_s() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs())
}
