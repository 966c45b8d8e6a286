//! `cargo xtask bench`: measures the host as it is built for use, with a fleet's load, beside its targets.
//!
//! One machine does it all, so the load takes processor time that the host could have had; the table says
//! how much.

mod against;
mod append;
mod broker;
mod firmware;
mod fleet;
mod floods;
mod growth;
mod history;
mod latency;
mod load;
mod python_demo;
mod questions;
mod table;
#[cfg(feature = "tls")]
mod tls;
mod usage;
mod wire;

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
memory with 10,000 connections, both over TLS too; how a device is served while others take what they can of the
host; the latency of questions about devices, of status_count and series at 1 and 10 million messages, restart; what is
written for a message and its processor time at 1,000 to 400,000 devices, a million devices in one process; then what the
firmware of an emulated board takes. Release builds; a fresh store under target/; about forty minutes, and it ends by itself.

  cargo xtask bench [--firmware|--growth|--tls|--floods|--questions|--history] [--messages N]
                    [--store redb|mongodb]
  cargo xtask bench --devices N [--store redb|mongodb]
  cargo xtask bench --against COMMIT [--messages N] [--store redb|mongodb]
  cargo xtask bench --broker rabbitmq

  --firmware     measure only the firmware, without TLS and with it: two minutes
  --growth       measure only what depends on how many devices there are: a quarter of an hour
  --tls          measure only messages and connections over TLS, and how many clients are let in a second with TLS and
                 without: three minutes
  --floods       measure only how a device is served while others take what they can: three minutes
  --questions    measure only how quick questions about 10,000 devices are, and what readers of the page cost the ingest:
                 three minutes
  --history      measure only status_count, series and restart, with thirty days of messages: ten minutes
  --against C    measure throughput, disk use and the latency of status_count of this commit and of C, which is built
                 under target/ too, in turns, three times each; prints medians and how they compare
  --messages N   fill the store up to N messages instead of 10,000,000, for a shorter run
  --devices N    of --growth only so many devices, a multiple of 50
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
    let only_growth = arguments.contains("--growth");
    let only_tls = arguments.contains("--tls");
    let only_floods = arguments.contains("--floods");
    let only_questions = arguments.contains("--questions");
    let only_history = arguments.contains("--history");
    let messages = arguments.opt_value_from_str("--messages")?.unwrap_or(MESSAGES);
    let devices: Option<usize> = arguments.opt_value_from_str("--devices")?;
    let against: Option<String> = arguments.opt_value_from_str("--against")?;
    let (broker, store) = stack::flags(&mut arguments)?;
    help::reject_unknown(arguments, HELP)?;
    ensure!(messages >= MESSAGES_MIN, "--messages is at least {MESSAGES_MIN}");
    ensure!(devices.is_none_or(|devices| devices > 0 && devices % 50 == 0), "--devices is a multiple of 50");
    if only_firmware {
        // Its figures do not depend on how quick the host is.
        let binary = cargo::build(Program::LeanHost, Profile::Dev)?;
        return firmware::measure(&fresh_host(&binary, StoreChoice::default())?).map(|()| ExitCode::SUCCESS);
    }
    if cfg!(debug_assertions) || !cfg!(feature = "tls") {
        return become_release();
    }
    let needs_mongodb = broker == BrokerChoice::Rabbitmq || store == StoreChoice::Mongodb;
    let program = if needs_mongodb { Program::Host } else { Program::LeanHost };
    let other = against.map(|commit| against::build(&commit, program)).transpose()?;
    let binary = cargo::build(program, Profile::Release)?;
    println!("\nRollcall bench: {}; host and load on the same machine, release builds", usage::machine()?);
    if let Some(other) = other {
        return against::compare(&binary, &other, store, messages).map(|()| ExitCode::SUCCESS);
    }
    println!("{:<66} {:>11} {:5} target", "", "measured", "");
    if broker == BrokerChoice::Rabbitmq {
        return broker::compare(&binary).map(|()| ExitCode::SUCCESS);
    }
    let fresh = || fresh_host(&binary, store);
    if only_growth || devices.is_some() {
        return growth::measure(fresh, devices).map(|()| ExitCode::SUCCESS);
    }
    if only_tls {
        return over_tls(fresh).map(|()| ExitCode::SUCCESS);
    }
    if only_questions {
        return questions::measure(fresh).map(|()| ExitCode::SUCCESS);
    }
    if only_history {
        return history::grow(&fresh()?, messages).map(|()| ExitCode::SUCCESS);
    }
    if only_floods {
        return floods::measure(fresh()?).map(|()| ExitCode::SUCCESS);
    }
    if store == StoreChoice::Mongodb {
        append::measure()?;
    }
    fleet::throughput(&fresh()?, None)?;
    fleet::connections(&fresh()?, None)?;
    over_tls(fresh)?;
    floods::measure(fresh()?)?;
    questions::measure(fresh)?;
    history::grow(&fresh()?, messages)?;
    growth::measure(fresh, None)?;
    firmware::measure(&fresh()?)?;
    Ok(ExitCode::SUCCESS)
}

/// What is measured without TLS too.
fn over_tls(fresh: impl Fn() -> Result<Fresh>) -> Result<()> {
    #[cfg(feature = "tls")]
    {
        let with_door = || -> Result<_> {
            let mut fresh = fresh()?;
            let door = tls::door(&mut fresh)?;
            Ok((fresh, door))
        };
        let (fresh_host, door) = with_door()?;
        fleet::throughput(&fresh_host, Some(&door))?;
        let (fresh_host, door) = with_door()?;
        fleet::connections(&fresh_host, Some(&door))?;
        tls::arrivals(fresh()?)
    }
    #[cfg(not(feature = "tls"))]
    {
        drop(fresh);
        Err(anyhow!("this xtask has no TLS: build it with --features tls"))
    }
}

/// The load generator too must be quick, and speak TLS; `cargo xtask` builds for development, and without it.
fn become_release() -> Result<ExitCode> {
    let binary = cargo::build(Program::Xtask, Profile::Release)?;
    let error = Command::new(binary).args(std::env::args_os().skip(1)).exec();
    Err(anyhow!(error).context("cannot start the release build of xtask"))
}

/// What a store is meant to reach.
struct Targets {
    bytes_a_message: Target,
    /// As the other, where a flush has some 60 messages of as many seconds.
    backlog_bytes_a_message: Target,
    status_count_p99_ms: Target,
    /// Of a day by minute, at 10 million messages.
    series_p99_ms: Target,
    /// Of an hour, over 10,000 devices.
    completeness_p99_ms: Target,
    /// Caused to be written, however often the same page is.
    bytes_written_a_message: Target,
}

const REDB: Targets = Targets {
    bytes_a_message: Target::AtMost(20.0),
    backlog_bytes_a_message: Target::AtMost(20.0),
    status_count_p99_ms: Target::AtMost(2.0),
    series_p99_ms: Target::AtMost(5.0),
    completeness_p99_ms: Target::AtMost(50.0),
    bytes_written_a_message: Target::AtMost(300.0),
};
const MONGODB: Targets = Targets {
    bytes_a_message: Target::AtMost(25.0),
    // The target is for full batches.
    backlog_bytes_a_message: Target::None,
    status_count_p99_ms: Target::AtMost(10.0),
    series_p99_ms: Target::AtMost(20.0),
    completeness_p99_ms: Target::AtMost(250.0),
    bytes_written_a_message: Target::AtMost(60.0),
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
