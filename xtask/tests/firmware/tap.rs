//! The Linux board over smoltcp on a TAP interface, without TLS and with it, in a network namespace of the test's own.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::host::{HostProcess, HostSettings, tls_init};
use rollcall_harness::{skip, workspace};
use serde_json::Value;

const TEST: &str = "the_tap_path_of_the_linux_board_agrees_with_the_gateway";

/// Set where the test runs within its namespace.
const INSIDE: &str = "ROLLCALL_TEST_IN_NAMESPACE";

/// A new namespace has a loopback interface that is down.
const WITH_LOOPBACK: &str = "ip link set lo up && exec \"$0\" \"$@\"";

#[test]
fn the_tap_path_of_the_linux_board_agrees_with_the_gateway() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    // Built outside, where a registry can be reached.
    for program in [Program::LeanHost, Program::LinuxBoard] {
        cargo::build(program, Profile::Dev)?;
    }
    let namespace = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", WITH_LOOPBACK]);
        command
    };
    let tried = namespace().arg("true").output();
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        let reason = tried.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        return skip::report(
            TEST,
            &format!("no network namespace (it needs root, unshare and ip): {reason:?}"),
        );
    }
    let mut command = namespace();
    command.arg(env::current_exe()?).args([&format!("tap::{TEST}"), "--exact", "--nocapture"]);
    let output = command.env(INSIDE, "1").output()?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn inside() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let mut settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    let pin = tls_init(&settings.binary, dir.path())?;
    let mqtts = settings.listen_with_tls(dir.path())?;
    let host = HostProcess::start(&settings)?;
    let mut expected = StatusCounts::default();
    for (broker, flags) in [(host.broker(), &[][..]), (mqtts, &["--tls-pin", &pin])] {
        expected += run_board(&broker, flags)?;
        assert_eq!(host.all_counts()?, expected);
    }
    host.stop()
}

/// What the board over TAP says was acknowledged, which is all that it sampled.
fn run_board(broker: &str, flags: &[&str]) -> Result<StatusCounts> {
    let mut board = Command::new(cargo::build(Program::LinuxBoard, Profile::Dev)?);
    board.args(["--net", "tap", "--devices", "5", "--period-ms", "20", "--seconds", "5"]);
    let output = board.args(["--broker", broker]).args(flags).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).context("the board's report is not JSON")?;
    println!("over TAP: {report}");
    let acknowledged = StatusCounts::from_array(&report["acknowledged_by_status"])?;
    assert_eq!(report["sampled"].as_u64(), Some(acknowledged.total()));
    assert!(acknowledged.total() >= 1_000, "{acknowledged}");
    Ok(acknowledged)
}
