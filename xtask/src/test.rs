//! `cargo xtask test`: every test that this machine can run, with a summary that adds them all up.

use std::fs;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Workspace};
use rollcall_harness::hardware_board;
use rollcall_harness::skip;
use rollcall_harness::workspace;

use crate::help;
use crate::tally::TestTally;

pub(crate) const HELP: &str = "\
Runs every test that this machine can run: the root workspace's (the system tests with real processes among
them), the boards', a check that the device crate compiles for a Cortex-M3, and that the firmware of boards one can buy
links, without TLS and with it.

  cargo xtask test

What a test needs beyond the toolchain (mosquitto_pub, paho-mqtt) is fetched into target/xtask. What cannot be
had is skipped and named; with CI=true in the environment a skip is a failure.

One test alone, and the long run of the kill -9 test:
  cargo test --package xtask --test exactly_once
  ROLLCALL_KILL_ROUNDS=20 cargo test --package xtask --test exactly_once -- --nocapture
";

/// The smallest core that the design names: what compiles for it needs neither std nor an allocator.
const FIRMWARE_TARGET: &str = "thumbv7m-none-eabi";

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    help::reject_unknown(arguments, HELP)?;
    everything(TestTally::new())
}

/// All tests, added to `tally`; each part runs whatever became of the one before.
pub(crate) fn everything(mut tally: TestTally) -> Result<ExitCode> {
    let skips = workspace::kept_dir("")?.join("skipped.txt");
    fs::write(&skips, "").with_context(|| format!("cannot write {}", skips.display()))?;
    for workspace in Workspace::ALL {
        let mut command = workspace.cargo(&["test", "--no-fail-fast"]);
        command.args(workspace.hosted_packages());
        command.env(skip::FILE, &skips);
        run_tests(command, &mut tally)?;
    }
    check_firmware(&mut tally);
    for board in hardware_board::all()? {
        for (features, with) in [("", ""), ("tls", " with TLS")] {
            let name = format!("the firmware of {}{with} links", board.name);
            match board.add_target() {
                Ok(()) => tally.check(&name, board.build_with(features).map(drop)),
                Err(error) => tally.skipped.push(format!("{name}: {error:#}")),
            }
        }
    }
    tally.skipped.extend(read_skips(&skips)?);
    Ok(conclude(&tally))
}

/// Shows what the tests print as it comes, and reads the harness's lines in it.
fn run_tests(mut command: Command, tally: &mut TestTally) -> Result<()> {
    let shown = cargo::show(&command);
    eprintln!("\n$ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {shown}"))?;
    let output = child.stdout.take().context("cargo has no stdout")?;
    let failed_before = tally.failed;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(stdout(), "{line}")?;
        tally.read(&line);
    }
    let status = child.wait()?;
    tally.took(&shown);
    if !status.success() && tally.failed == failed_before {
        // It did not compile, or a test process died before it could say so.
        tally.fail(format!("{shown}: {status}"));
    }
    Ok(())
}

fn check_firmware(tally: &mut TestTally) {
    let name = format!("the device crate compiles for {FIRMWARE_TARGET}");
    if let Err(error) = cargo::add_target(FIRMWARE_TARGET) {
        tally.skipped.push(format!("{name}: {error:#}"));
        return;
    }
    let check =
        ["check", "--package", "rollcall-device", "--no-default-features", "--target", FIRMWARE_TARGET];
    tally.check(&name, cargo::run(Workspace::Root.cargo(&check)));
}

fn read_skips(path: &Path) -> Result<Vec<String>> {
    let skips = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(skips.lines().map(str::to_owned).collect())
}

/// What takes less is not told.
const LONG: Duration = Duration::from_secs(20);

fn conclude(tally: &TestTally) -> ExitCode {
    println!();
    for (name, time) in tally.times.iter().filter(|(_, time)| *time >= LONG) {
        println!("{:>5} s  {name}", time.as_secs());
    }
    for line in &tally.reasons {
        println!("{line}");
    }
    for failure in &tally.failures {
        println!("failed: {failure}");
    }
    for skip in &tally.skipped {
        println!("skipped: {skip}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped.len());
    let skip_counts_as_failure = skip::is_failure() && !tally.skipped.is_empty();
    if skip_counts_as_failure {
        println!("with CI=true a skipped test is a failure");
    }
    if tally.failed > 0 || skip_counts_as_failure { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
