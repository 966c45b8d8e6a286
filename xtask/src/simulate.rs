//! `cargo xtask simulate`: builds the simulation with optimizations and runs it.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Workspace};

pub(crate) const HELP: &str = include_str!("../simulate/help.txt");

/// How many seeds each run of CI looks at, from one that is printed.
const CI_SEEDS: &str = "200";

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut command = program(&arguments.finish());
    let status = command.status().with_context(|| format!("cannot start {}", cargo::show(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What CI runs: new seeds, those that found something once, and those that find mutants.
pub(crate) fn check() -> Result<()> {
    cargo::run(command("test", &["--tests".into()]))?;
    cargo::run(program(&["--seeds".into(), CI_SEEDS.into()]))
}

fn program(arguments: &[OsString]) -> Command {
    command("run", &[&["--".into()], arguments].concat())
}

fn command(subcommand: &str, arguments: &[OsString]) -> Command {
    let mut command = Workspace::Root.cargo(&[subcommand, "--quiet", "--profile", "simulate"]);
    command.args(["--package", "rollcall-simulate", "--features", "mutants"]).args(arguments);
    command
}
