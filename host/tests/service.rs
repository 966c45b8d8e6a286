//! What whoever runs the program as a service hears of it, and what it says of its own commands.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::serve::{Process, rollcall};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn terminate(pid: u32) {
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn systemd_is_told_when_the_doors_are_open_and_when_the_process_drains() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut said = [0; 64];
        let length = systemd.recv(&mut said).unwrap();
        String::from_utf8(said[..length].to_vec()).unwrap().trim().to_owned()
    };
    let mut command = rollcall("serve", &format!("redb:{}", dir.path().join("data").display()));
    command.env("NOTIFY_SOCKET", &path);
    let mut process = Process::start_as(command);
    assert_eq!(hear(), "READY=1");
    terminate(process.child.id());
    assert_eq!(hear(), "STOPPING=1");
    assert!(process.child.wait().unwrap().success());
}

#[test]
fn where_nobody_looks_a_service_logs_an_object_a_line_and_a_command_text() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("redb:{}", dir.path().join("data").display());
    let log = dir.path().join("log");
    let mut host = rollcall("serve", &store)
        .args(["--mqtt-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .env_remove("ROLLCALL_LOG_FORMAT")
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    while !fs::read_to_string(&log).unwrap().contains("the page is at") {
        assert!(start.elapsed() < PATIENCE, "it did not start");
        std::thread::yield_now();
    }
    terminate(host.id());
    assert!(host.wait().unwrap().success());
    let text = fs::read_to_string(&log).unwrap();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(event["timestamp"].is_string() && event["message"].is_string(), "{line}");
    }
    let mut backup = rollcall("backup", &format!("redb:{}", dir.path().join("nothing").display()));
    let output = backup.args(["--to", "nowhere"]).env_remove("ROLLCALL_LOG_FORMAT").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(" ERROR ") && !said.contains('{'), "{said}");
}

#[test]
fn the_commands_are_described_for_shells_and_for_man() {
    let binary = env!("CARGO_BIN_EXE_rollcall");
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(binary).args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("mqtt-tls-listen"), "{shell}: {script}");
    }
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(binary).arg("man").arg("--dir").arg(dir.path().join("man1")).status().unwrap();
    assert!(status.success());
    let help = Command::new(binary).arg("help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for command in names.filter(|name| !["", "help"].contains(name)) {
        let page = fs::read_to_string(dir.path().join(format!("man1/rollcall-{command}.1")));
        assert!(page.is_ok_and(|page| page.contains("SYNOPSIS")), "{command} has no page");
    }
}
