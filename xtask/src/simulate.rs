//! `cargo xtask simulate`: builds the simulation with optimizations and runs it.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Workspace};

pub(crate) const HELP: &str = include_str!("../simulate/help.txt");

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut command = command(&arguments.finish());
    let status = command.status().with_context(|| format!("cannot start {}", cargo::show(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn command(arguments: &[OsString]) -> std::process::Command {
    let mut command = Workspace::Root.cargo(&[
        "run",
        "--quiet",
        "--profile",
        "simulate",
        "--package",
        "rollcall-simulate",
        "--",
    ]);
    command.args(arguments);
    command
}
