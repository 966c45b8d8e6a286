//! RabbitMQ → ingest → MongoDB → API, beside the Python demo that it replaces, on the same servers.
//!
//! Each consumer first makes its queue; then the messages are published, and only then is it started: what is
//! measured is how quickly a backlog is stored.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::host::{self, END_OF_TIME, Host, Role};
use xtask::services::{Mongod, Rabbitmq};
use xtask::{tools, wait, workspace};

use super::load::{FLEET, Load, Pace};
use super::table::{self, Target};
use super::{latency, usage};

/// The backlog, and what the demo gets of it: it takes a multiple of the time.
const MESSAGES: u64 = 200_000;
const DEMO_MESSAGES: u64 = 20_000;

/// How often the demo is asked.
const DEMO_QUESTIONS: u32 = 20;

const STORE_LIMIT: Duration = Duration::from_secs(300);

/// Measures both, and prints how many times as quick Rollcall is.
pub(super) fn compare(binary: &Path) -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let folder = |name: &str| -> Result<std::path::PathBuf> {
        let folder = dir.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let (rabbitmq, mongod) = (Rabbitmq::start(&folder("rabbitmq")?)?, Mongod::start(&folder("mongod")?)?);

    table::heading("RabbitMQ → MongoDB, a backlog");
    let mut settings = host::Settings::new(binary, &folder("rollcall")?)?;
    settings.broker = Some(rabbitmq.url());
    settings.mongodb = Some(mongod.url("rollcall"));
    settings.role = Role::Ingest;
    // Makes the queue.
    Host::start(&settings)?.stop()?;
    let published = Load::connect(&rabbitmq.address(), FLEET, 4)?.run(Pace::Count(MESSAGES), |_| 0)?;
    let api = Host::start(&host::Settings { role: Role::Api, ..settings.clone() })?;
    let mongod_before = usage::cpu_time(mongod.process().pid())?;
    let start = Instant::now();
    let ingest = Host::start(&settings)?;
    wait::until("the backlog to be stored", STORE_LIMIT, || {
        Ok((api.all_counts()?.total() >= published).then_some(()))
    })?;
    let rate = published as f64 / start.elapsed().as_secs_f64();
    ensure!(api.all_counts()?.total() == published, "counted and published differ");
    let each = |cpu: Duration, messages: u64| cpu.as_secs_f64() * 100_000.0 / messages as f64;
    let cpu = usage::cpu_time(ingest.process().pid())?;
    let mongod_cpu = usage::cpu_time(mongod.process().pid())? - mongod_before;
    table::print("messages a second", rate, "", Target::AtLeast(17_000.0));
    table::print(
        "processor time of the ingest for 100,000 messages",
        each(cpu, published),
        "s",
        Target::None,
    );
    table::print(
        "processor time of mongod for 100,000 messages",
        each(mongod_cpu, published),
        "s",
        Target::None,
    );
    let ours = latency::measure(&api, || 0..END_OF_TIME)?;
    table::print("status_count, full range, p50", ours.p50_ms, "ms", Target::None);
    table::print("status_count, full range, p99", ours.p99_ms, "ms", Target::AtMost(10.0));
    ingest.stop()?;
    api.stop()?;

    table::heading("the Python demo, on the same servers");
    let demo = Demo::new(&rabbitmq, &mongod)?;
    demo.run(&["subscribe", &demo.port])?;
    let published = Load::connect(&rabbitmq.address(), FLEET, 5)?.run(Pace::Count(DEMO_MESSAGES), |_| 0)?;
    let took = demo.run(&["consume", &demo.port, &demo.mongodb, &published.to_string()])?;
    let number = |value: &Value, index: usize| value[index].as_f64().context("the demo printed no number");
    let demo_rate = published as f64 / number(&took, 0)?;
    let demo_cpu = Duration::from_secs_f64(number(&took, 1)?);
    table::print("messages a second", demo_rate, "", Target::None);
    table::print(
        "processor time of the consumer for 100,000 messages",
        each(demo_cpu, published),
        "s",
        Target::None,
    );
    let answers = demo.run(&["ask", &demo.mongodb, &DEMO_QUESTIONS.to_string()])?;
    let mut answers: Vec<f64> = answers.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    answers.sort_by(f64::total_cmp);
    let demo_p50 = *answers.get(answers.len() / 2).context("the demo gave no answer")?;
    let what = format!("status_count, full range of {} messages, p50", table::number(published as f64));
    table::print(&what, demo_p50, "ms", Target::None);

    table::heading("how many times as quick");
    table::print("RabbitMQ → MongoDB", rate / demo_rate, "", Target::AtLeast(6.0));
    // The demo's time grows with its messages; ours does not.
    let at_our_size = demo_p50 * MESSAGES as f64 / published as f64;
    table::print("status_count, had the demo as many messages", at_our_size / ours.p50_ms, "", Target::None);
    Ok(())
}

/// The demo's programs, in a Python of their own.
struct Demo {
    python: tools::Tool,
    port: String,
    mongodb: String,
}

impl Demo {
    fn new(rabbitmq: &Rabbitmq, mongod: &Mongod) -> Result<Self> {
        let port = rabbitmq.address().rsplit(':').next().context("no port")?.to_owned();
        Ok(Self { python: tools::python_with_demo()?, port, mongodb: mongod.url("demo") })
    }

    /// What it printed; nothing is null.
    fn run(&self, arguments: &[&str]) -> Result<Value> {
        let mut command: Command = self.python.command();
        let output =
            command.arg(workspace::root().join("host/benches/peer/demo.py")).args(arguments).output()?;
        ensure!(output.status.success(), "demo.py: {}", String::from_utf8_lossy(&output.stderr));
        if output.stdout.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
