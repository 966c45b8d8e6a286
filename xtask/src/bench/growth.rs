//! What a message costs by the number of devices: bytes written and processor time; and how a million devices fit into
//! one process.
//!
//! The rows of devices are written in sweeps, one in a while. Measured is from the end of a sweep to the end of another
//! one, so that as many rows are written as the messages make it; mongod's own files are written at both ends.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rollcall_harness::host::HostProcess;
use rollcall_harness::services::Mongod;

use super::history::timed_start;
use super::load::{FLEET, Load, Pace, Shape};
use super::table::{self, Target};
use super::{Fresh, usage};

/// The fleets that are compared: the least and the largest, and what is between.
const FLEETS: [usize; 4] = [1_000, 10_000, 100_000, 400_000];

/// All devices that one process is meant to take.
const MILLION: usize = 1_000_000;

/// So many messages of each device are measured at least, and so many of all; then until a sweep ends, but so many of
/// each at most.
const MESSAGES_EACH: u64 = 8;
const MESSAGES_MIN: u64 = 1_000_000;
const MESSAGES_EACH_MAX: u64 = 40;

/// A sweep has ended when so small a part is left of what waited to be written.
const SWEPT: f64 = 0.25;

/// What all connections have in flight.
const IN_FLIGHT: u64 = (FLEET.connections * FLEET.window) as u64;

/// What is asked while the load runs must take no time worth measuring.
const LOOKS: u64 = 50;

/// How many times as much a message may cost with the largest fleet as with the least.
const GROWTH: Target = Target::AtMost(1.5);

const MIB: f64 = 1024.0 * 1024.0;

/// What a message took.
#[derive(Clone, Copy)]
struct Cost {
    bytes: f64,
    cpu: Duration,
}

/// Measures fleets of all sizes, each on a fresh store, or one of `only` so many devices.
pub(super) fn measure(fresh: impl Fn() -> Result<Fresh>, only: Option<usize>) -> Result<()> {
    match only {
        Some(MILLION) => return million(&fresh()?),
        Some(devices) => return cost(&fresh()?, devices).map(drop),
        None => {}
    }
    let [least, largest] = [FLEETS[0], FLEETS[FLEETS.len() - 1]];
    let costs: Vec<_> = FLEETS.into_iter().map(|devices| cost(&fresh()?, devices)).collect::<Result<_>>()?;
    if let [first, .., last] = &costs[..] {
        let number = |devices: usize| table::number(devices as f64);
        table::heading(&format!("{} devices beside {}", number(largest), number(least)));
        table::print("times as many bytes written a message", last.bytes / first.bytes, "", GROWTH);
        let times = last.cpu.as_secs_f64() / first.cpu.as_secs_f64();
        table::print("times as much processor time a message", times, "", GROWTH);
    }
    million(&fresh()?)
}

/// Over as many connections as every load has.
fn fleet(devices: usize) -> Shape {
    Shape { devices_each: devices / FLEET.connections, ..FLEET }
}

fn cost(fresh: &Fresh, devices: usize) -> Result<Cost> {
    let count = MESSAGES_MIN.max(MESSAGES_EACH * devices as u64);
    table::heading(&format!(
        "{} devices, 50 connections with 20 in flight each",
        table::number(devices as f64)
    ));
    let host = HostProcess::start(&fresh.settings)?;
    let mut load = Load::connect(&host.broker(), fleet(devices), 6)?;
    let most = count.max(MESSAGES_EACH_MAX * devices as u64);
    // Connections do not send as fast as one another: it may take several sweeps until each device has a row. All that
    // is sent between two looks has to be more than one connection takes at once.
    let mut sent_before = 0;
    let least = (devices as u64).max(LOOKS * IN_FLIGHT);
    while (host.metric("rollcall_devices")? as usize) < devices {
        ensure!(sent_before < most, "not every device has a row");
        sent_before += until_swept(&host, &mut load, least..most)?;
    }

    let before = Use::of(fresh, &host)?;
    let start = Instant::now();
    let acknowledged = until_swept(&host, &mut load, count..most)?;
    let rate = acknowledged as f64 / start.elapsed().as_secs_f64();
    let after = Use::of(fresh, &host)?;
    ensure!(host.all_counts()?.total() == sent_before + acknowledged, "counted and acknowledged differ");

    let each = |after: f64, before: f64| (after - before) / acknowledged as f64;
    let bytes = each(after.written as f64, before.written as f64);
    table::print("acknowledged messages a second", rate, "", Target::None);
    table::print(
        "messages a flush",
        acknowledged as f64 / (after.flushes - before.flushes),
        "",
        Target::None,
    );
    table::print("bytes written a message", bytes, "bytes", fresh.targets.bytes_written_a_message);
    let cpu = after.cpu - before.cpu;
    let for_100_000 = |cpu: Duration| each(cpu.as_secs_f64(), 0.0) * 100_000.0;
    table::print("processor time of the host for 100,000 messages", for_100_000(cpu), "s", Target::None);
    if let (Some(before), Some(after)) = (before.mongod_cpu, after.mongod_cpu) {
        let what = "processor time of mongod for 100,000 messages";
        table::print(what, for_100_000(after - before), "s", Target::None);
    }
    host.stop()?;
    Ok(Cost { bytes, cpu: cpu.div_f64(acknowledged as f64) })
}

/// What host and mongod have used so far.
struct Use {
    written: u64,
    flushes: f64,
    cpu: Duration,
    mongod_cpu: Option<Duration>,
}

impl Use {
    fn of(fresh: &Fresh, host: &HostProcess) -> Result<Self> {
        fresh.mongod.as_ref().map_or(Ok(()), Mongod::write_all)?;
        let pid = host.process().pid();
        let mongod = fresh.mongod.as_ref().map(|mongod| mongod.process().pid());
        Ok(Self {
            written: usage::bytes_written(mongod.unwrap_or(pid))?,
            flushes: host.metric("rollcall_flush_messages_count")?,
            cpu: usage::cpu_time(pid)?,
            mongod_cpu: mongod.map(usage::cpu_time).transpose()?,
        })
    }
}

/// Publishes as many messages as the range has at least, and then until a sweep ends; says how many that were.
fn until_swept(host: &HostProcess, load: &mut Load, messages: Range<u64>) -> Result<u64> {
    let (mut sent, mut waiting_most) = (0, 0.0_f64);
    loop {
        sent += load.run(Pace::Count(messages.start.div_ceil(LOOKS)), |_| 0)?;
        let waiting = host.metric("rollcall_entries_beyond_rows")?;
        waiting_most = waiting_most.max(waiting);
        let is_swept = sent >= messages.start && waiting < waiting_most * SWEPT;
        if is_swept || sent >= messages.end {
            return Ok(sent);
        }
    }
}

/// So many messages of each of a million devices: what a row waits for at most.
const UNSWEPT_EACH: u64 = 5;

/// Memory and restart with a million devices.
fn million(fresh: &Fresh) -> Result<()> {
    table::heading("a million devices in one process");
    let host = HostProcess::start(&fresh.settings)?;
    let mut load = Load::connect(&host.broker(), fleet(MILLION), 7)?;
    let held = load.run(Pace::Count(UNSWEPT_EACH * MILLION as u64), |_| 0)?;
    drop(load);
    print_memory("the load", &host)?;
    // At its worst: rows are as far behind the log as they are ever.
    host.kill();
    let (host, ready) = timed_start(fresh, held)?;
    let target = Target::AtMost(10.0);
    table::print("restart to ready, after kill -9 under load", ready, "s", target);
    print_memory("that restart", &host)?;
    host.stop()?;
    let (host, ready) = timed_start(fresh, held)?;
    table::print("restart to ready, after SIGTERM", ready, "s", target);
    print_memory("that restart", &host)?;
    host.stop()
}

fn print_memory(when: &str, host: &HostProcess) -> Result<()> {
    let memory = usage::memory(host.process().pid())?;
    let target = Target::AtMost(600.0);
    table::print(&format!("memory of the host, after {when}"), memory.now as f64 / MIB, "MiB", target);
    table::print(
        &format!("memory of the host, at most until after {when}"),
        memory.most as f64 / MIB,
        "MiB",
        target,
    );
    Ok(())
}
