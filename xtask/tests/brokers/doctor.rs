//! `rollcall doctor` against brokers that are set up well, and carelessly.

use std::process::Command;

use anyhow::{Context, Result};
use rollcall_harness::host::Role;
use rollcall_harness::ports;
use rollcall_harness::services::{Mosquitto, Rabbitmq, RabbitmqNode};

use crate::setup::TestSystem;

/// What it printed, and whether nothing failed.
struct DoctorReport {
    well: bool,
    text: String,
}

impl DoctorReport {
    fn of(system: &TestSystem, broker: &str, mongodb: &str) -> Result<Self> {
        let mut command = Command::new(&system.host("doctor", Role::Serve, "", "")?.binary);
        let output = command.args(["doctor", "--broker", broker, "--store", mongodb]).output()?;
        let text = String::from_utf8(output.stdout)?;
        println!("{text}");
        Ok(Self { well: output.status.success(), text })
    }

    fn line(&self, name: &str) -> Result<&str> {
        let named = |line: &&str| line.get(6..).is_some_and(|line| line.starts_with(name));
        self.text.lines().find(named).with_context(|| format!("{name} is not in {}", self.text))
    }

    fn assert(&self, name: &str, outcome: &str, found: &str) -> Result<()> {
        let line = self.line(name)?;
        assert!(line.starts_with(outcome) && line.contains(found), "{line}");
        Ok(())
    }
}

/// What RabbitMQ and mosquitto both pass with the settings that Rollcall ships or names.
const GOOD: [&str; 7] = [
    "broker reachable",
    "session expiry",
    "publish to nobody",
    "waiting time",
    "prefetch",
    "outage of the ingest",
    "redeliveries",
];

#[test]
fn the_doctor_passes_rabbitmq_with_the_shipped_settings() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let report = DoctorReport::of(&system, &rabbitmq.url(), &mongod.url("rollcall"))?;
    assert!(report.well);
    for name in GOOD {
        report.assert(name, "pass", "")?;
    }
    report.assert("anonymous access", "warn", "mqtt.allow_anonymous = false")?;
    report.assert("durable queue type", "warn", "not quorum")?;
    report.assert("replica set", "warn", "")
}

#[test]
fn the_doctor_finds_what_is_set_wrong_in_rabbitmq_and_how_to_mend_it() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let careless = "mqtt.prefetch = 10\nmqtt.max_session_expiry_interval_seconds = 86400\n\
                    mqtt.allow_anonymous = false\nmqtt.durable_queue_type = quorum\n\
                    default_policies.operator.rollcall.delivery_limit = 20\n";
    let node = RabbitmqNode::new(&system.folder("careless")?, ports::free()?)?.with_settings(careless);
    let rabbitmq = Rabbitmq::start_node(node)?;
    let report = DoctorReport::of(&system, &rabbitmq.url(), "mongodb://127.0.0.1:1/rollcall")?;
    assert!(!report.well);
    report.assert("prefetch", "warn", " 10: ")?;
    report.assert("session expiry", "warn", "86400 s")?;
    report.assert("anonymous access", "pass", "")?;
    report.assert("durable queue type", "pass", "quorum")?;
    report.assert("redeliveries", "FAIL", "set_operator_policy")?;
    report.assert("MongoDB reachable", "FAIL", "")
}

#[test]
fn the_doctor_tells_mosquittos_own_limits_from_those_that_lose_nothing() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let mongod = system.mongod()?;
    let careless = Mosquitto::start_with_its_own_limits(&system.folder("careless")?)?;
    let report = DoctorReport::of(&system, &careless.url(), &mongod.url("rollcall"))?;
    assert!(!report.well);
    report.assert("outage of the ingest", "FAIL", "max_queued_messages 0")?;
    let good = Mosquitto::start(&system.folder("good")?)?;
    let report = DoctorReport::of(&system, &good.url(), &mongod.url("rollcall"))?;
    assert!(report.well);
    for name in GOOD {
        report.assert(name, "pass", "")?;
    }
    report.assert("durable queue type", "warn", "not quorum")
}
