//! The host's manners: it drains at SIGTERM, and keeps its data to itself.

use std::time::Duration;

use anyhow::Result;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::fleet::{FleetProcess, FleetSettings};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::{wait, workspace};

#[test]
fn a_host_that_is_told_to_stop_under_load_ends_well_and_loses_nothing() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    let host = HostProcess::start(&settings)?;
    let fleet = FleetProcess::start(&FleetSettings {
        binary: cargo::build(Program::LinuxBoard, Profile::Dev)?,
        logs: dir.path().to_owned(),
        broker: host.broker(),
        devices: 50,
        period_ms: 20,
        seed: Some(1),
        arguments: Vec::new(),
    })?;
    wait::until("messages to flow", Duration::from_secs(30), || {
        Ok((host.all_counts()?.total() >= 1_000).then_some(()))
    })?;
    host.stop()?;

    let host = HostProcess::start(&settings)?;
    let report = fleet.stop()?;
    assert_eq!(report.outbox, 0, "a device could not deliver");
    assert_eq!(report.dropped, 0, "an outbox overflowed");
    assert_eq!(host.all_counts()?, report.acknowledged);
    host.stop()
}

#[test]
fn a_second_host_on_the_same_data_is_refused_and_the_first_goes_on() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let binary = cargo::build(Program::LeanHost, Profile::Dev)?;
    let first = HostSettings::new(&binary, dir.path())?;
    let second = HostSettings::new(&binary, dir.path())?;
    let host = HostProcess::start(&first)?;

    let (status, log) = HostProcess::start_refused(&second)?;
    assert!(!status.success(), "the second host ended with {status}");
    assert!(log.contains(&*first.data.to_string_lossy()), "which data it is about is not said in: {log}");
    assert!(!log.contains("panicked"), "a refusal is no panic: {log}");

    assert_eq!(host.all_counts()?.total(), 0);
    host.stop()
}
