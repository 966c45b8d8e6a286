//! Whatever holds messages up, samples are counted in the second in which they were taken.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::fleet::{FleetProcess, FleetSettings};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::proxy::Proxy;
use rollcall_harness::{pace, wait, workspace};
use rustix::process::Signal;

/// They sample one after the other, a fifth of a second apart.
const DEVICES: u32 = 5;
const PERIOD_MS: u32 = 1000;
const RATE: u64 = 5;

/// Longer than a device waits for an acknowledgement.
const FROZEN: Duration = Duration::from_secs(14);
const STALLING: Duration = Duration::from_secs(40);

/// One sample beside its second at each end of a range, where a device samples just on the edge.
const SLACK: u64 = 2;

const FLOW_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn what_a_frozen_host_did_not_read_is_counted_in_its_own_second() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let mut host = host(dir.path())?;
    let broker = host.broker();
    run(dir.path(), &mut host, &broker, |host| {
        host.process().signal(Signal::STOP)?;
        thread::sleep(FROZEN);
        host.process().signal(Signal::CONT)
    })?;
    host.stop()
}

#[test]
fn what_a_network_held_up_is_counted_in_its_own_second() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let mut host = host(dir.path())?;
    let port = host.broker().rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    let proxy = Proxy::start(port)?;
    run(dir.path(), &mut host, &proxy.address(), |_| {
        proxy.stall(true);
        thread::sleep(STALLING);
        proxy.stall(false);
        Ok(())
    })?;
    host.stop()
}

fn host(dir: &Path) -> Result<HostProcess> {
    HostProcess::start(&HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir)?)
}

/// Devices publish, something happens to them, and at the end every second has what was sampled in it.
fn run(
    dir: &Path,
    host: &mut HostProcess,
    broker: &str,
    trouble: impl FnOnce(&HostProcess) -> Result<()>,
) -> Result<()> {
    let mut fleet = FleetProcess::start(&FleetSettings {
        binary: cargo::build(Program::LinuxBoard, Profile::Dev)?,
        logs: dir.to_owned(),
        broker: broker.to_owned(),
        devices: DEVICES,
        period_ms: PERIOD_MS,
        seed: None,
        arguments: Vec::new(),
    })?;
    // Until the host knows the clock of each.
    wait_for(host, &mut fleet, 5 * RATE)?;
    let from = pace::now_s()?;
    trouble(host)?;
    let to = pace::now_s()?;
    let counted = host.all_counts()?.total();
    wait_for(host, &mut fleet, counted + RATE)?;
    let report = fleet.stop()?;
    assert_eq!((report.dropped, report.outbox), (0, 0), "{report:?}");
    assert_eq!(host.all_counts()?, report.acknowledged);
    pace::check(host, from, to, RATE, SLACK)
}

fn wait_for(host: &mut HostProcess, fleet: &mut FleetProcess, total: u64) -> Result<()> {
    wait::until("samples to be counted", FLOW_LIMIT, || {
        host.check_alive()?;
        fleet.check_alive()?;
        Ok((host.all_counts()?.total() >= total).then_some(()))
    })
}
