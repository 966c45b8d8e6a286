//! A broker → ingest → MongoDB → API, with RabbitMQ and with mosquitto, beside the Python demo on the same RabbitMQ
//! and mongod.
//!
//! Each consumer first makes its queue; then the messages are published, and only then is it started: what is
//! measured is how quickly a backlog is stored.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall_harness::host::{END_OF_TIME, HostProcess, HostSettings, Role};
use rollcall_harness::services::{Mongod, Mosquitto, Rabbitmq};
use rollcall_harness::{wait, workspace};

use super::load::{FLEET, Load, Pace};
use super::python_demo::PythonDemo;
use super::table::{self, Target};
use super::{MONGODB, latency, usage};

/// The backlog, and what the demo gets of it: it takes a multiple of the time.
const MESSAGES: u64 = 500_000;
const DEMO_MESSAGES: u64 = 20_000;

const STORE_LIMIT: Duration = Duration::from_secs(300);

/// What RabbitMQ delivered to one consumer in a trial on two cores, in messages a second.
const RABBITMQ_RATE: f64 = 17_000.0;

/// Where messages come from.
struct MeasuredBroker<'a> {
    name: &'a str,
    /// For the load, which gives no password.
    address: String,
    /// For the ingest.
    url: String,
    pid: u32,
    target: Target,
}

/// Measures all three, and prints how many times as quick Rollcall is.
pub(super) fn compare(binary: &Path) -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let folder = |name: &str| -> Result<PathBuf> {
        let folder = dir.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let mongod = Mongod::start_with_large_cache(&folder("mongod")?)?;
    let mosquitto = Mosquitto::start(&folder("mosquitto")?)?;
    let broker = MeasuredBroker {
        name: "mosquitto",
        address: mosquitto.address(),
        url: mosquitto.url(),
        pid: mosquitto.process().pid(),
        target: Target::None,
    };
    backlog(&HostSettings::new(binary, &folder("through-mosquitto")?)?, &broker, &mongod)?;
    drop(mosquitto);

    let rabbitmq = Rabbitmq::start(&folder("rabbitmq")?)?;
    let broker = MeasuredBroker {
        name: "RabbitMQ",
        address: rabbitmq.address(),
        url: rabbitmq.url(),
        pid: rabbitmq.process().pid(),
        target: Target::AtLeast(RABBITMQ_RATE),
    };
    let rate = backlog(&HostSettings::new(binary, &folder("through-rabbitmq")?)?, &broker, &mongod)?;
    let demo_rate = demo(&broker.address, &mongod)?;
    table::heading("RabbitMQ → MongoDB, beside the demo");
    table::print("times as many messages a second", rate / demo_rate, "", Target::AtLeast(6.0));
    Ok(())
}

/// Stores a backlog out of `broker`; messages a second.
fn backlog(settings: &HostSettings, broker: &MeasuredBroker<'_>, mongod: &Mongod) -> Result<f64> {
    table::heading(&format!(
        "{} → MongoDB, a backlog of {} messages",
        broker.name,
        table::number(MESSAGES as f64)
    ));
    let mut settings = settings.clone();
    settings.broker = Some(broker.url.clone());
    settings.mongodb = Some(mongod.url(broker.name));
    settings.role = Role::Ingest;
    // Makes the queue.
    HostProcess::start(&settings)?.stop()?;
    let published = Load::connect(&broker.address, FLEET, 4)?.run(Pace::Count(MESSAGES), |_| 0)?;
    let api = HostProcess::start(&HostSettings { role: Role::Api, ..settings.clone() })?;
    let servers = || -> Result<[Duration; 2]> {
        Ok([usage::cpu_time_of_tree(broker.pid)?, usage::cpu_time(mongod.process().pid())?])
    };
    let before = servers()?;
    let start = Instant::now();
    let ingest = HostProcess::start(&settings)?;
    wait::until("the backlog to be stored", STORE_LIMIT, || {
        Ok((api.all_counts()?.total() >= published).then_some(()))
    })?;
    let rate = published as f64 / start.elapsed().as_secs_f64();
    ensure!(api.all_counts()?.total() == published, "counted and published differ");
    let after = servers()?;
    table::print("messages a second", rate, "", broker.target);
    print_cpu("the ingest", usage::cpu_time(ingest.process().pid())?, published);
    print_cpu(broker.name, after[0] - before[0], published);
    print_cpu("mongod", after[1] - before[1], published);
    let answers = latency::measure(&api, || format!("/status_count?start=0&end={END_OF_TIME}"))?;
    table::print("status_count, full range, p99", answers.p99_ms, "ms", MONGODB.status_count_p99_ms);
    ingest.stop()?;
    api.stop()?;
    Ok(rate)
}

/// The same by the demo; messages a second.
fn demo(address: &str, mongod: &Mongod) -> Result<f64> {
    table::heading("RabbitMQ → MongoDB, the Python demo");
    let port = address.rsplit(':').next().context("no port")?;
    let demo = PythonDemo::new(mongod)?;
    demo.subscribe(port)?;
    let published = Load::connect(address, FLEET, 5)?.run(Pace::Count(DEMO_MESSAGES), |_| 0)?;
    let consumed = demo.consume(port, published)?;
    let rate = published as f64 / consumed.took.as_secs_f64();
    table::print("messages a second", rate, "", Target::None);
    print_cpu("the consumer", consumed.cpu, published);
    Ok(rate)
}

fn print_cpu(whose: &str, cpu: Duration, messages: u64) {
    let each = cpu.as_secs_f64() * 100_000.0 / messages as f64;
    table::print(&format!("processor time of {whose} for 100,000 messages"), each, "s", Target::None);
}
