//! `cargo xtask bench`: measures the host as it is built for use, with a fleet's load, beside its targets.
//!
//! One machine does it all, so the load takes processor time that the host could have had; the table says
//! how much.

mod fleet;
mod history;
mod latency;
mod load;
mod mqtt;
mod table;
mod usage;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow, ensure};
use pico_args::Arguments;
use xtask::cargo::{self, Profile, Program};
use xtask::{host, workspace};

use crate::help;

pub(crate) const HELP: &str = "\
Measures the host and prints each figure beside its target: durable messages a second, processor time, disk,
memory with 10,000 connections, the latency of status_count at 1 and 10 million messages, restart. Release
builds; a fresh store under target/; about ten minutes, and it ends by itself.

  cargo xtask bench [--messages N]

  --messages N   fill the store up to N messages instead of 10,000,000, for a shorter run

Leave the machine alone meanwhile. A missed target is told and is no error.
";

/// The size at which the targets hold.
const MESSAGES: u64 = 10_000_000;

/// With fewer, the smaller of the two sizes that are compared would be too small to tell anything.
const MESSAGES_MIN: u64 = 10_000;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let messages = arguments.opt_value_from_str("--messages")?.unwrap_or(MESSAGES);
    help::reject_unknown(arguments, HELP)?;
    ensure!(messages >= MESSAGES_MIN, "--messages is at least {MESSAGES_MIN}");
    if cfg!(debug_assertions) {
        return become_release(messages);
    }
    let binary = cargo::build(Program::LeanHost, Profile::Release)?;
    println!("\nRollcall bench: {}; host and load on the same machine, release builds", usage::machine()?);
    println!("{:<66} {:>11} {:5} target", "", "measured", "");
    fleet::throughput(&fresh_host(&binary)?)?;
    fleet::connections(&fresh_host(&binary)?)?;
    history::grow(&fresh_host(&binary)?, messages)?;
    Ok(ExitCode::SUCCESS)
}

/// The load generator too must be quick, and `cargo xtask` builds for development.
fn become_release(messages: u64) -> Result<ExitCode> {
    let binary = cargo::build(Program::Xtask, Profile::Release)?;
    let error = Command::new(binary).args(["bench", "--messages", &messages.to_string()]).exec();
    Err(anyhow!(error).context("cannot start the release build of xtask"))
}

/// A host's settings and the folder that they are about.
struct Fresh {
    settings: host::Settings,
    _dir: tempfile::TempDir,
}

fn fresh_host(binary: &Path) -> Result<Fresh> {
    let dir = workspace::temporary_dir()?;
    Ok(Fresh { settings: host::Settings::new(binary, dir.path())?, _dir: dir })
}
