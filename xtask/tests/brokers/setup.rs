//! The user's whole system on free ports, and the comparison at the end.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::fleet::{FleetProcess, FleetReport, FleetSettings};
use rollcall_harness::host::{HostProcess, HostSettings, Role};
use rollcall_harness::services::{self, Mongod, Rabbitmq};
use rollcall_harness::{random, wait, workspace};
use tempfile::TempDir;

pub(crate) const DEVICES: u32 = 50;
/// 10 samples a second from each device.
pub(crate) const PERIOD_MS: u32 = 100;
/// What all devices sample in a second.
pub(crate) const RATE: u64 = DEVICES as u64 * 1000 / PERIOD_MS as u64;

/// Devices that lost their broker wait for up to 30 s before they try again.
const FLOW_LIMIT: Duration = Duration::from_secs(60);
const CATCH_UP_LIMIT: Duration = Duration::from_secs(90);

/// An ingest that has something to store does not pause for so long.
const REST: Duration = Duration::from_secs(1);

/// A folder and binaries.
pub(crate) struct TestSystem {
    pub(crate) dir: TempDir,
    pub(crate) random: fastrand::Rng,
    host_binary: PathBuf,
    device_binary: PathBuf,
}

impl TestSystem {
    /// `None` where the servers cannot run; the test that asks is then reported as skipped.
    pub(crate) fn new() -> Result<Option<Self>> {
        // The harness names a test's thread after it.
        if !services::can_run(thread::current().name().unwrap_or("brokers"))? {
            return Ok(None);
        }
        Ok(Some(Self {
            dir: workspace::temporary_dir()?,
            random: random(),
            host_binary: cargo::build(Program::Host, Profile::Dev)?,
            device_binary: cargo::build(Program::LinuxBoard, Profile::Dev)?,
        }))
    }

    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    pub(crate) fn rabbitmq(&self) -> Result<Rabbitmq> {
        Rabbitmq::start(&self.folder("rabbitmq")?)
    }

    pub(crate) fn mongod(&self) -> Result<Mongod> {
        Mongod::start(&self.folder("mongod")?)
    }

    /// A host process with logs of its own under `name`.
    pub(crate) fn host(&self, name: &str, role: Role, broker: &str, mongodb: &str) -> Result<HostSettings> {
        let mut settings = HostSettings::new(&self.host_binary, &self.folder(name)?)?;
        settings.role = role;
        settings.broker = Some(broker.to_owned());
        settings.mongodb = Some(mongodb.to_owned());
        Ok(settings)
    }

    pub(crate) fn fleet(&mut self, broker: &str) -> Result<FleetProcess> {
        FleetProcess::start(&FleetSettings {
            binary: self.device_binary.clone(),
            logs: self.dir.path().to_owned(),
            broker: broker.to_owned(),
            devices: DEVICES,
            period_ms: PERIOD_MS,
            seed: Some(self.random.u64(..)),
            arguments: Vec::new(),
        })
    }
}

/// Waits until as many messages more were counted as all devices take in half a second.
pub(crate) fn wait_for_flow(api: &HostProcess, fleet: &mut FleetProcess) -> Result<()> {
    let before = api.all_counts()?.total();
    wait::until("messages to flow", FLOW_LIMIT, || {
        fleet.check_alive()?;
        let now = api.all_counts()?.total();
        assert!(now >= before, "{before} messages were counted, and then {now}");
        Ok((now >= before + RATE / 2).then_some(()))
    })
}

/// Waits until nothing more was counted for a while.
pub(crate) fn wait_for_rest(api: &HostProcess) -> Result<()> {
    let mut last = (0, Instant::now());
    wait::until("the counts to come to rest", FLOW_LIMIT, || {
        let total = api.all_counts()?.total();
        if total != last.0 {
            last = (total, Instant::now());
        }
        Ok((last.1.elapsed() > REST).then_some(()))
    })
}

/// Stops the devices, and waits until what they say is counted; with what is counted then. That is what they saw
/// acknowledged, and of what they dropped, because a broker was away for longer than their outbox lasts, what it had and
/// they did not hear of.
pub(crate) fn settle(fleet: FleetProcess, api: &HostProcess) -> Result<(FleetReport, StatusCounts)> {
    let report = fleet.stop()?;
    println!("{report:?}");
    assert_eq!(report.outbox, 0, "a device could not deliver");
    assert!(report.acknowledged.total() > RATE, "the fleet hardly worked: {report:?}");
    wait_for_total(api, report.acknowledged.total())?;
    if report.dropped > 0 {
        wait_for_rest(api)?;
    }
    let counted = api.all_counts()?;
    let each = counted.0.iter().zip(report.acknowledged.0);
    let more: Option<u64> = each.map(|(counted, acknowledged)| counted.checked_sub(acknowledged)).sum();
    assert!(
        more.is_some_and(|more| more <= report.dropped),
        "counted and acknowledged differ: {counted:?}, {report:?}"
    );
    Ok((report, counted))
}

fn wait_for_total(api: &HostProcess, total: u64) -> Result<()> {
    let all = || Ok((api.all_counts()?.total() >= total).then_some(()));
    wait::until(&format!("{total} messages to be counted"), CATCH_UP_LIMIT, all)
        .with_context(|| format!("{} are counted", api.all_counts().map_or(0, |counts| counts.total())))
}

/// The last word: what the broker may still deliver a second time has come by now, and a fresh process with
/// nothing in memory says the same.
pub(crate) fn check_at_rest(
    ingest: HostProcess,
    api: HostProcess,
    settings: &HostSettings,
    counted: &StatusCounts,
) -> Result<()> {
    ingest.stop()?;
    assert_eq!(api.all_counts()?, *counted, "something was counted after all was settled");
    api.kill();
    let fresh = HostProcess::start(settings)?;
    assert_eq!(fresh.all_counts()?, *counted, "a fresh API counts something else");
    fresh.stop()
}
