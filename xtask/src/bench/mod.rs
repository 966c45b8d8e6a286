//! `cargo xtask bench`: measures the host as it is built for use, with a fleet's load, beside its targets.
//!
//! One machine does it all, so the load takes processor time that the host could have had; the table says
//! how much.

mod append;
mod broker;
mod firmware;
mod fleet;
mod history;
mod latency;
mod load;
mod python_demo;
mod table;
mod usage;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow, ensure};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::HostSettings;
use rollcall_harness::services::Mongod;
use rollcall_harness::workspace;

use self::table::Target;
use crate::help;
use crate::stack::{self, BrokerChoice, StoreChoice};

pub(crate) const HELP: &str = "\
Measures the host and prints each figure beside its target: durable messages a second, processor time, disk,
memory with 10,000 connections, the latency of status_count at 1 and 10 million messages, restart; then what
the firmware of an emulated board takes. Release builds; a fresh store under target/; about ten minutes, and it
ends by itself.

  cargo xtask bench [--firmware] [--messages N] [--store redb|mongodb]
  cargo xtask bench --broker rabbitmq

  --firmware     measure only the firmware of an emulated board: a minute
  --messages N   fill the store up to N messages instead of 10,000,000, for a shorter run
  --store S      what to store in: redb (default), or a standalone mongod on the same disk; then also what its
                 store appends alone, and status_count beside the Python demo's with as many messages
  --broker B     measure only RabbitMQ to MongoDB and mosquitto to MongoDB, beside the Python demo on the same
                 servers: a minute

Leave the machine alone meanwhile. A missed target is told and is no error.
";

/// The size at which the targets hold.
const MESSAGES: u64 = 10_000_000;

/// With fewer, the smaller of the two sizes that are compared would be too small to tell anything.
const MESSAGES_MIN: u64 = 10_000;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let only_firmware = arguments.contains("--firmware");
    let messages = arguments.opt_value_from_str("--messages")?.unwrap_or(MESSAGES);
    let (broker, store) = stack::flags(&mut arguments)?;
    help::reject_unknown(arguments, HELP)?;
    ensure!(messages >= MESSAGES_MIN, "--messages is at least {MESSAGES_MIN}");
    if only_firmware {
        // Its figures do not depend on how quick the host is.
        let binary = cargo::build(Program::LeanHost, Profile::Dev)?;
        return firmware::measure(&fresh_host(&binary, StoreChoice::default())?).map(|()| ExitCode::SUCCESS);
    }
    if cfg!(debug_assertions) {
        return become_release(messages, broker, store);
    }
    let needs_mongodb = broker == BrokerChoice::Rabbitmq || store == StoreChoice::Mongodb;
    let program = if needs_mongodb { Program::Host } else { Program::LeanHost };
    let binary = cargo::build(program, Profile::Release)?;
    println!("\nRollcall bench: {}; host and load on the same machine, release builds", usage::machine()?);
    println!("{:<66} {:>11} {:5} target", "", "measured", "");
    if broker == BrokerChoice::Rabbitmq {
        return broker::compare(&binary).map(|()| ExitCode::SUCCESS);
    }
    if store == StoreChoice::Mongodb {
        append::measure()?;
    }
    fleet::throughput(&fresh_host(&binary, store)?)?;
    fleet::connections(&fresh_host(&binary, store)?)?;
    history::grow(&fresh_host(&binary, store)?, messages)?;
    firmware::measure(&fresh_host(&binary, store)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The load generator too must be quick, and `cargo xtask` builds for development.
fn become_release(messages: u64, broker: BrokerChoice, store: StoreChoice) -> Result<ExitCode> {
    let binary = cargo::build(Program::Xtask, Profile::Release)?;
    let mut command = Command::new(binary);
    command.args(["bench", "--messages", &messages.to_string(), "--store", store.name()]);
    command.args(["--broker", broker.name()]);
    let error = command.exec();
    Err(anyhow!(error).context("cannot start the release build of xtask"))
}

/// What a store is meant to reach.
struct Targets {
    bytes_a_message: Target,
    /// As the other, where a flush has some 60 messages of as many seconds.
    backlog_bytes_a_message: Target,
    status_count_p99_ms: Target,
}

const REDB: Targets = Targets {
    bytes_a_message: Target::AtMost(20.0),
    backlog_bytes_a_message: Target::AtMost(20.0),
    status_count_p99_ms: Target::AtMost(2.0),
};
const MONGODB: Targets = Targets {
    bytes_a_message: Target::AtMost(25.0),
    // The target is for full batches.
    backlog_bytes_a_message: Target::None,
    status_count_p99_ms: Target::AtMost(10.0),
};

/// A host's settings, and the folder and the database that they are about.
struct Fresh {
    settings: HostSettings,
    targets: Targets,
    mongod: Option<Mongod>,
    dir: tempfile::TempDir,
}

fn fresh_host(binary: &Path, store: StoreChoice) -> Result<Fresh> {
    let dir = workspace::temporary_dir()?;
    let mut settings = HostSettings::new(binary, dir.path())?;
    if store == StoreChoice::Redb {
        return Ok(Fresh { settings, targets: REDB, mongod: None, dir });
    }
    let mongod = Mongod::start_with_large_cache(dir.path())?;
    settings.mongodb = Some(mongod.url("rollcall"));
    // What the data takes on disk is asked of this folder.
    settings.data = dir.path().join("db");
    Ok(Fresh { settings, targets: MONGODB, mongod: Some(mongod), dir })
}
