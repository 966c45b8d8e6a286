//! Devices over TLS, with real processes: the Linux board and a host with a certificate of its own making.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::fleet::{FleetProcess, FleetReport, FleetSettings};
use rollcall_harness::host::{HostProcess, HostSettings, tls_init};
use rollcall_harness::process::Process;
use rollcall_harness::services::{self, Mosquitto, Rabbitmq, RabbitmqNode};
use rollcall_harness::{ports, random, wait, workspace};
use rustix::process::Signal;

const DEVICES: u32 = 20;

/// 10 samples a second from each device, whose outbox then holds those of half a minute.
const PERIOD_MS: u32 = 100;

/// With a broker that is started again, which takes RabbitMQ half a minute on a busy machine: those of 150 s.
const SLOW_PERIOD_MS: u32 = 500;

/// A device that is refused tries again soon, and then less and less often.
const LIMIT: Duration = Duration::from_secs(120);

/// A host with TLS, and who it is.
struct Setup {
    dir: tempfile::TempDir,
    host: HostSettings,
    /// Where it listens with TLS.
    mqtts: String,
    /// From one sample of a device to its next.
    period_ms: u32,
}

impl Setup {
    fn new() -> Result<Self> {
        let dir = workspace::temporary_dir()?;
        let mut host = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
        let mqtts = host.listen_with_tls(dir.path())?;
        Ok(Self { dir, host, mqtts, period_ms: PERIOD_MS })
    }

    fn make_certificate(&self) -> Result<String> {
        tls_init(&self.host.binary, self.dir.path())
    }

    fn fleet(&self, pins: &[&str]) -> Result<FleetProcess> {
        let flags = ["--tls-pin", "--tls-pin-next"].into_iter().zip(pins);
        FleetProcess::start(&FleetSettings {
            binary: cargo::build(Program::LinuxBoard, Profile::Dev)?,
            logs: self.dir.path().to_owned(),
            broker: self.mqtts.clone(),
            devices: DEVICES,
            period_ms: self.period_ms,
            seed: None,
            arguments: flags.flat_map(|(flag, pin)| [flag.to_owned(), (*pin).to_owned()]).collect(),
        })
    }
}

/// What the devices said while they ran.
fn log(dir: &Path) -> Result<String> {
    Ok(fs::read_to_string(dir.join("devices.err"))?)
}

/// How often they said that none of them is connected.
fn lost(dir: &Path) -> Result<usize> {
    Ok(log(dir)?.matches(&format!("connected 0/{DEVICES},")).count())
}

/// Every sample was acknowledged.
fn acknowledged(fleet: FleetProcess) -> Result<StatusCounts> {
    let report: FleetReport = fleet.stop()?;
    println!("{report:?}");
    assert_eq!((report.dropped, report.outbox), (0, 0), "a device could not deliver");
    assert_eq!(report.acknowledged.total(), report.sampled);
    Ok(report.acknowledged)
}

/// Waits until five messages more of each device were counted.
fn wait_for_flow(host: &mut HostProcess, fleet: &mut FleetProcess) -> Result<()> {
    let before = host.all_counts()?.total();
    wait::until("messages to flow", LIMIT, || {
        host.check_alive()?;
        fleet.check_alive()?;
        Ok((host.all_counts()?.total() >= before + 5 * u64::from(DEVICES)).then_some(()))
    })
}

/// Whom they publish to stands still until they have all given it up.
fn freeze(setup: &Setup, fleet: &mut FleetProcess, process: &Process) -> Result<()> {
    let before = lost(setup.dir.path())?;
    process.signal_all(Signal::STOP)?;
    // They wait 10 s for an acknowledgement, and say it within five more: less than their outboxes hold.
    wait::until("every device to give its connection up", LIMIT, || {
        fleet.check_alive()?;
        Ok((lost(setup.dir.path())? > before).then_some(()))
    })?;
    process.signal_all(Signal::CONT)
}

#[test]
fn over_tls_every_acknowledged_answer_is_counted_once_though_the_host_is_killed_and_frozen() -> Result<()> {
    let mut random = random();
    let setup = Setup::new()?;
    let pin = setup.make_certificate()?;
    let mut host = HostProcess::start(&setup.host)?;
    let mut fleet = setup.fleet(&[&pin])?;
    wait_for_flow(&mut host, &mut fleet)?;
    thread::sleep(Duration::from_millis(random.u64(0..2_000)));
    host.kill();
    host = HostProcess::start(&setup.host)?;
    wait_for_flow(&mut host, &mut fleet)?;
    let mut expected = acknowledged(fleet)?;
    assert_eq!(host.all_counts()?, expected, "counted and acknowledged differ after a kill");

    fleet = setup.fleet(&[&pin])?;
    wait_for_flow(&mut host, &mut fleet)?;
    freeze(&setup, &mut fleet, host.process())?;
    // It has closed the connection on which it was asked before.
    wait::until("the host to answer", LIMIT, || Ok(host.all_counts().ok().map(drop)))?;
    wait_for_flow(&mut host, &mut fleet)?;
    expected += acknowledged(fleet)?;
    assert_eq!(host.all_counts()?, expected, "counted and acknowledged differ after a freeze");
    host.stop()
}

#[test]
fn a_host_with_another_key_gets_nothing_and_one_with_the_next_key_everything() -> Result<()> {
    let setup = Setup::new()?;
    let old = setup.make_certificate()?;
    // Run again, it renews the certificate and keeps the key.
    assert_eq!(setup.make_certificate()?, old);
    fs::remove_file(setup.dir.path().join("server.key"))?;
    let new = setup.make_certificate()?;
    assert_ne!(new, old);
    let mut host = HostProcess::start(&setup.host)?;

    let mut fleet = setup.fleet(&[&old])?;
    let refused = "the server's key is not pinned";
    wait::until("devices to refuse the host", LIMIT, || {
        fleet.check_alive()?;
        Ok((log(setup.dir.path())?.matches(refused).count() >= 2 * DEVICES as usize).then_some(()))
    })?;
    drop(fleet);
    assert_eq!(host.all_counts()?.total(), 0);

    let mut fleet = setup.fleet(&[&old, &new])?;
    wait_for_flow(&mut host, &mut fleet)?;
    assert_eq!(acknowledged(fleet)?, host.all_counts()?);
    host.stop()
}

/// Devices publish over TLS to a broker that is frozen and started again, and the host counts what it takes from there.
fn through_a_broker<B>(
    setup: &mut Setup,
    pin: &str,
    plain: &str,
    mut broker: B,
    process: impl Fn(&B) -> &Process,
    restart: impl Fn(&mut B) -> Result<()>,
) -> Result<()> {
    setup.host.arguments.clear();
    setup.period_ms = SLOW_PERIOD_MS;
    setup.host.broker = Some(format!("mqtt://{plain}"));
    let mut host = HostProcess::start(&setup.host)?;
    let mut fleet = setup.fleet(&[pin])?;
    wait_for_flow(&mut host, &mut fleet)?;
    freeze(setup, &mut fleet, process(&broker))?;
    wait_for_flow(&mut host, &mut fleet)?;
    restart(&mut broker)?;
    wait_for_flow(&mut host, &mut fleet)?;
    let expected = acknowledged(fleet)?;
    wait::until("the host to count it all", LIMIT, || {
        Ok((host.all_counts()?.total() >= expected.total()).then_some(()))
    })?;
    assert_eq!(host.all_counts()?, expected);
    host.stop()
}

#[test]
fn devices_speak_tls_with_mosquitto() -> Result<()> {
    if !services::can_run("devices_speak_tls_with_mosquitto")? {
        return Ok(());
    }
    let mut setup = Setup::new()?;
    let pin = setup.make_certificate()?;
    let mosquitto = Mosquitto::start_with_tls(setup.dir.path(), setup.dir.path())?;
    let (plain, tls) = (mosquitto.address(), mosquitto.tls_address());
    setup.mqtts = tls.context("it has a port with TLS")?;
    through_a_broker(&mut setup, &pin, &plain, mosquitto, Mosquitto::process, Mosquitto::restart)
}

#[test]
fn devices_speak_tls_with_rabbitmq() -> Result<()> {
    if !services::can_run("devices_speak_tls_with_rabbitmq")? {
        return Ok(());
    }
    let mut setup = Setup::new()?;
    let pin = setup.make_certificate()?;
    let node = RabbitmqNode::new(&setup.dir.path().join("rabbitmq"), ports::free()?)?;
    let rabbitmq = Rabbitmq::start_node(node.with_tls(setup.dir.path(), ports::free()?)?)?;
    let (plain, tls) = (rabbitmq.address(), rabbitmq.tls_address());
    setup.mqtts = tls.context("it has a port with TLS")?;
    through_a_broker(&mut setup, &pin, &plain, rabbitmq, Rabbitmq::process, Rabbitmq::restart)
}
