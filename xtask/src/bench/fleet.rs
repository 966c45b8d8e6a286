//! Many devices at once: how many messages a second become durable, and what 10,000 connections take.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rollcall_harness::host::HostProcess;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::load::{FLEET, Load, Pace, Shape};
use super::table::{self, Target};
use super::wire::Door;
use super::{Fresh, usage};

/// Long enough to fill full batches and to let the store grow.
const FULL_SPEED_FOR: Duration = Duration::from_secs(20);

const MANY: Shape = Shape { connections: 10_000, devices_each: 1, window: 8 };

/// So long does the fleet of 10,000 publish at one message a second each.
const MANY_FOR: Duration = Duration::from_secs(20);

pub(super) const MIB: f64 = 1024.0 * 1024.0;

/// What a fleet at full speed took.
pub(super) struct Throughput {
    /// Durable messages a second.
    pub(super) rate: f64,
    /// Of the host, for 100,000 messages.
    pub(super) cpu_s: f64,
    /// Allocated on disk, a message.
    pub(super) disk_bytes: f64,
    length_bytes: f64,
    load_cores: f64,
    memory_most: u64,
}

impl Throughput {
    /// At the host's door without TLS, or at this one.
    pub(super) fn measure(fresh: &Fresh, door: Option<&Door>) -> Result<Self> {
        let host = HostProcess::start(&fresh.settings)?;
        let pid = host.process().pid();
        let mut load = connect(&host, door, FLEET, 1)?;
        let cpu_before = (usage::cpu_time(pid)?, usage::cpu_time(std::process::id())?);
        let start = Instant::now();
        let acknowledged = load.run(Pace::FullSpeed(FULL_SPEED_FOR), |_| 0)?;
        let elapsed = start.elapsed().as_secs_f64();
        let cpu = usage::cpu_time(pid)? - cpu_before.0;
        let own_cpu = usage::cpu_time(std::process::id())? - cpu_before.1;
        ensure!(host.all_counts()?.total() == acknowledged, "counted and acknowledged differ");
        let disk = usage::disk(&fresh.settings.data)?;
        let memory_most = usage::memory(pid)?.most;
        host.stop()?;
        let messages = acknowledged as f64;
        Ok(Self {
            rate: messages / elapsed,
            cpu_s: cpu.as_secs_f64() * 100_000.0 / messages,
            disk_bytes: disk.allocated as f64 / messages,
            length_bytes: disk.length as f64 / messages,
            load_cores: own_cpu.as_secs_f64() / elapsed,
            memory_most,
        })
    }
}

/// Durable messages a second, their processor time and their place on disk.
pub(super) fn throughput(fresh: &Fresh, door: Option<&Door>) -> Result<()> {
    let how = over(door);
    table::heading(&format!("live messages{how}, 50 connections with 20 in flight each, every one durable"));
    let took = Throughput::measure(fresh, door)?;
    let target = if door.is_none() { Target::AtLeast(50_000.0) } else { Target::None };
    table::print("acknowledged messages a second", took.rate, "", target);
    table::print("processor time of the host for 100,000 messages", took.cpu_s, "s", Target::None);
    table::print("cores that the load itself took meanwhile", took.load_cores, "", Target::None);
    let target = fresh.targets.bytes_a_message;
    table::print("on disk a message, allocated", took.disk_bytes, "bytes", target);
    table::print("on disk a message, length of the files", took.length_bytes, "bytes", Target::None);
    table::print("memory of the host at most", took.memory_most as f64 / MIB, "MiB", Target::None);
    Ok(())
}

/// The host's memory, idle and with 10,000 devices at 1 Hz.
pub(super) fn connections(fresh: &Fresh, door: Option<&Door>) -> Result<()> {
    table::heading(&format!("10,000 connections{}, one message a second each", over(door)));
    allow_open_files()?;
    let host = HostProcess::start(&fresh.settings)?;
    let pid = host.process().pid();
    table::print("memory of the host, idle", usage::memory(pid)?.now as f64 / MIB, "MiB", Target::None);
    let mut load = connect(&host, door, MANY, 2)?;
    table::print("memory, connected", usage::memory(pid)?.now as f64 / MIB, "MiB", Target::None);
    let cpu_before = usage::cpu_time(pid)?;
    let acknowledged = load.run(Pace::PerSecond(MANY.connections as u64, MANY_FOR), |_| 0)?;
    let cpu = usage::cpu_time(pid)? - cpu_before;
    ensure!(host.all_counts()?.total() == acknowledged, "counted and acknowledged differ");
    let rate = acknowledged as f64 / MANY_FOR.as_secs_f64();
    table::print("acknowledged messages a second", rate, "", Target::None);
    let memory = usage::memory(pid)?;
    table::print("memory, publishing, at the end", memory.now as f64 / MIB, "MiB", Target::None);
    let target = Target::AtMost(if door.is_none() { 200.0 } else { 300.0 });
    table::print("memory, publishing, at most", memory.most as f64 / MIB, "MiB", target);
    let cores = cpu.as_secs_f64() / MANY_FOR.as_secs_f64();
    table::print("cores that the host takes", cores, "", Target::None);
    host.stop()
}

fn over(door: Option<&Door>) -> &'static str {
    if door.is_none() { "" } else { " over TLS" }
}

fn connect(host: &HostProcess, door: Option<&Door>, shape: Shape, seed: u64) -> Result<Load> {
    match door {
        None => Load::connect(&host.broker(), shape, seed),
        Some(door) => Load::connect_at(door, shape, seed),
    }
}

/// A connection is an open file, and 1,024 is the usual limit.
pub(super) fn allow_open_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let enough = limit.maximum.is_none_or(|maximum| maximum > MANY.connections as u64 + 100);
    ensure!(enough, "10,000 connections need more open files than this machine allows: ulimit -n 11000");
    setrlimit(Resource::Nofile, limit)?;
    Ok(())
}
