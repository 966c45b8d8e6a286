//! The guarantee with real processes: a host that is killed with `kill -9` again and again, under load.
//!
//! `ROLLCALL_KILL_ROUNDS` (5; the full run is 20) and `ROLLCALL_SEED` set how often and when.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::fleet::{FleetProcess, FleetReport, FleetSettings};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::{number_from_environment, random, wait, workspace};

const DEVICES: u32 = 50;

/// 20 samples a second from each device.
const PERIOD_MS: u32 = 50;

const DEFAULT_ROUNDS: u64 = 5;

/// A device that loses its link several times within a minute waits longer each time, at last longer than
/// its outbox lasts at 20 samples a second. So a fleet lives through this many kills and then makes room for
/// a new one: no sample may be dropped, and most devices are connected when the next kill comes.
const KILLS_PER_FLEET: u64 = 2;

/// A kill comes so many milliseconds after messages flow again.
const KILL_AFTER_MS: std::ops::Range<u64> = 0..3_000;

/// All devices are connected long before.
const FLOW_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn every_acknowledged_answer_is_counted_once_though_the_host_is_killed_again_and_again() -> Result<()> {
    let rounds = number_from_environment("ROLLCALL_KILL_ROUNDS").unwrap_or(DEFAULT_ROUNDS);
    let mut random = random();
    println!("{rounds} rounds");

    let dir = workspace::temporary_dir()?;
    let settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    let mut fleet_settings = FleetSettings {
        binary: cargo::build(Program::LinuxBoard, Profile::Dev)?,
        logs: dir.path().to_owned(),
        broker: format!("127.0.0.1:{}", settings.mqtt_port),
        devices: DEVICES,
        period_ms: PERIOD_MS,
        seed: None,
        arguments: Vec::new(),
    };

    let mut host = HostProcess::start(&settings)?;
    let mut expected = StatusCounts::default();
    let mut killed = 0;
    while killed < rounds {
        fleet_settings.seed = Some(random.u64(..));
        let mut fleet = FleetProcess::start(&fleet_settings)?;
        for _ in 0..KILLS_PER_FLEET.min(rounds - killed) {
            wait_for_flow(&mut host, &mut fleet)?;
            thread::sleep(Duration::from_millis(random.u64(KILL_AFTER_MS)));
            host.kill();
            host = HostProcess::start(&settings)?;
            killed += 1;
        }
        wait_for_flow(&mut host, &mut fleet)?;
        let report = fleet.stop()?;
        println!("{killed} kills: {report:?}");
        check(&report);
        expected += report.acknowledged;
        assert_eq!(host.all_counts()?, expected, "counted and acknowledged differ after {killed} kills");
    }

    host.stop()?;
    let host = HostProcess::start(&settings)?;
    assert_eq!(host.all_counts()?, expected, "a clean restart changed the counts");
    host.kill();
    let host = HostProcess::start(&settings)?;
    assert_eq!(host.all_counts()?, expected, "kill -9 of an idle host changed the counts");
    host.stop()
}

/// Every sample was acknowledged, and every device noticed the kills: else the test has tested nothing.
fn check(report: &FleetReport) {
    assert_eq!(report.dropped, 0, "an outbox overflowed");
    assert_eq!(report.outbox, 0, "a device could not deliver");
    assert_eq!(report.acknowledged.total(), report.sampled);
    assert!(report.reconnects >= u64::from(DEVICES), "not every device noticed that the host was killed");
}

/// Waits until as many messages were counted as all devices take in half a second.
fn wait_for_flow(host: &mut HostProcess, fleet: &mut FleetProcess) -> Result<()> {
    let before = host.all_counts()?.total();
    let enough = u64::from(DEVICES) * 500 / u64::from(PERIOD_MS);
    wait::until("messages to flow", FLOW_LIMIT, || {
        host.check_alive()?;
        fleet.check_alive()?;
        Ok((host.all_counts()?.total() >= before + enough).then_some(()))
    })
}
