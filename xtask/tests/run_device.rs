//! `cargo xtask run-device`: it becomes the board's program, flags, signals, exit code and all.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::process::Process;
use rollcall_harness::{ports, wait, workspace};
use rustix::process::Signal;
use serde_json::Value;

/// A cold build of the board is part of it.
const LIMIT: Duration = Duration::from_secs(600);

fn run_device(broker: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["run-device", "--broker", broker]).args(flags);
    command
}

#[test]
fn flags_reach_the_board_and_ctrl_c_ends_it_with_its_own_report_and_exit_code() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let host =
        HostProcess::start(&HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?)?;
    let command = run_device(&host.broker(), &["--devices", "3", "--period-ms", "50", "--seed", "7"]);
    let mut board = Process::start("run-device", command, dir.path())?;
    wait::until("counts to move", LIMIT, || {
        board.check_alive()?;
        Ok((host.all_counts()?.total() > 0).then_some(()))
    })?;
    board.signal(Signal::INT)?;
    let status = board.wait(LIMIT)?;
    assert!(status.success(), "{status}\n{}", board.last_words());
    let report: Value = serde_json::from_str(&board.stdout()?).context("stdout is not one line of JSON")?;
    assert_eq!(report["devices"], 3);
    assert_eq!(report["acknowledged"].as_u64(), Some(host.all_counts()?.total()));
    host.stop()
}

#[test]
fn without_a_broker_it_says_what_to_run() -> Result<()> {
    let broker = format!("127.0.0.1:{}", ports::free()?);
    let output = run_device(&broker, &[]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&format!("nothing listens at {broker}")), "{said}");
    assert!(said.contains("cargo run --package rollcall-host -- serve"), "{said}");
    Ok(())
}
