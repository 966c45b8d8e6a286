//! `cargo xtask`: builds, runs and tests all of Rollcall. This file only dispatches; one file or folder a command.

use std::process::ExitCode;

use anyhow::{Result, bail};
use pico_args::Arguments;

mod bench;
mod ci;
mod demo;
mod firmware;
mod flash;
mod fuzz;
mod help;
mod package;
mod probe;
mod provision;
mod run_device;
mod services;
mod simulate;
mod stack;
mod tally;
mod test;

fn main() -> ExitCode {
    match dispatch(Arguments::from_env()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(mut arguments: Arguments) -> Result<ExitCode> {
    let Some(command) = arguments.subcommand()? else {
        help::reject_unknown(arguments, help::ALL)?;
        print!("{}", help::ALL);
        return Ok(ExitCode::SUCCESS);
    };
    let (run, help): (fn(Arguments) -> Result<ExitCode>, _) = match command.as_str() {
        "demo" => (demo::run, demo::HELP),
        "run-device" => (run_device::run, run_device::HELP),
        "firmware" => (firmware::run, firmware::HELP),
        "flash" => (flash::run, flash::HELP),
        "provision" => (provision::run, provision::HELP),
        "package" => (package::run, package::HELP),
        "services" => (services::run, services::HELP),
        "fuzz" => (fuzz::run, fuzz::HELP),
        "simulate" => (simulate::run, simulate::HELP),
        "test" => (test::run, test::HELP),
        "ci" => (ci::run, ci::HELP),
        "bench" => (bench::run, bench::HELP),
        "help" => (help::run, help::ALL),
        unknown => bail!("there is no command {unknown:?}\n\n{}", help::ALL),
    };
    if arguments.contains(["-h", "--help"]) {
        print!("{help}");
        return Ok(ExitCode::SUCCESS);
    }
    run(arguments)
}
