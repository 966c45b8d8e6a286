//! `cargo xtask` alone: the list of commands.

use std::process::ExitCode;

use anyhow::{Result, bail};
use pico_args::Arguments;

/// The list of commands.
pub(crate) const ALL: &str = "\
Builds, runs and tests all of Rollcall.

  cargo xtask demo         gateway, store, HTTP and simulated devices, from nothing, with live counts
  cargo xtask run-device   devices on this machine, at a broker of your choice
  cargo xtask firmware     builds each board's firmware and tells what it takes in flash and RAM
  cargo xtask flash        builds a board's firmware and writes it through a debug probe
  cargo xtask provision    tells a board its broker, id and password, through a debug probe
  cargo xtask package      a Debian package of the host
  cargo xtask services     a real RabbitMQ and a real mongod, to try things out with
  cargo xtask simulate     all of it in one thread from one seed, with faults of everything that can fail
  cargo xtask fuzz         everything that reads bytes, with inputs that nobody thought of
  cargo xtask test         every test that this machine can run
  cargo xtask ci           formatting, lints, documentation and tests: what CI runs
  cargo xtask bench        how quick host and firmware are, beside their targets

cargo xtask COMMAND --help says more, with examples.
";

/// Prints the list.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    reject_unknown(arguments, ALL)?;
    print!("{ALL}");
    Ok(ExitCode::SUCCESS)
}

/// Fails when arguments are left that no one has read.
pub(crate) fn reject_unknown(mut arguments: Arguments, help: &str) -> Result<()> {
    if arguments.contains(["-h", "--help"]) {
        return Ok(());
    }
    match arguments.finish().first() {
        None => Ok(()),
        Some(unknown) => bail!("unexpected argument {unknown:?}\n\n{help}"),
    }
}
