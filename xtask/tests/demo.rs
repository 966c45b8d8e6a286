//! `cargo xtask demo` as a newcomer meets it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_harness::process::Process;
use rollcall_harness::{wait, workspace};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A cold build is part of it.
const LIMIT: Duration = Duration::from_secs(600);

/// One demo at a time: two that start at once would both find the usual ports free.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Demo {
    process: Process,
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    fn start(dir: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_in_turn(dir, arguments, my_turn())
    }

    fn start_in_turn(dir: &Path, arguments: &[&str], turn: MutexGuard<'static, ()>) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("demo").args(arguments);
        Ok(Self { process: Process::start("demo", command, dir)?, _turn: turn })
    }

    fn wait(mut self) -> Result<(ExitStatus, String)> {
        let status = self.process.wait(LIMIT)?;
        Ok((status, self.process.stdout()? + &self.process.stderr()?))
    }

    /// Waits for a line in which the total is not 0.
    fn wait_for_counts(&mut self) -> Result<()> {
        wait::until("counts to move", LIMIT, || {
            self.process.check_alive()?;
            let shown = self.process.stdout()?;
            Ok(shown.lines().filter_map(counted).any(|total| total > 0).then_some(()))
        })
    }

    /// The demo's child whose program is called `name`.
    fn child(&self, name: &str) -> Result<Pid> {
        let pid = self.process.pid();
        let mut children = Vec::new();
        // Any of its threads may have started it.
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(thread?.path().join("children"))?;
            children.extend(text.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
        let is_it = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').next().is_some_and(|program| program.ends_with(name)))
        };
        let pid = children.into_iter().find(is_it).with_context(|| format!("{name} is not a child"))?;
        Pid::from_raw(pid).context("a child with the id 0")
    }
}

/// The total in a line like `   3 s        15 counted  …`.
fn counted(line: &str) -> Option<u64> {
    line.split_once(" counted")?.0.split_whitespace().last()?.parse().ok()
}

fn total_in(line_start: &str, output: &str) -> Option<u64> {
    let line = output.lines().find(|line| line.starts_with(line_start))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn a_demo_of_three_seconds_ends_by_itself_and_adds_up() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let (status, output) = Demo::start(dir.path(), &["--seconds", "3"])?.wait()?;
    assert!(status.success(), "{status}\n{output}");
    let acknowledged = total_in("devices:", &output).context("no total of the devices")?;
    assert_eq!(total_in("host:", &output), Some(acknowledged), "{output}");
    assert!(acknowledged >= 10, "five devices took {acknowledged} samples in three seconds\n{output}");
    assert!(output.contains("every answer counted exactly once"), "{output}");
    assert!(output.contains("curl 'http://127.0.0.1:"), "{output}");
    let page = output.lines().find_map(|line| line.trim().strip_prefix("look     http://127.0.0.1:"));
    assert!(page.is_some_and(|page| page.ends_with('/')), "{output}");
    Ok(())
}

#[test]
fn with_the_usual_ports_taken_the_demo_says_which_it_uses() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let (status, output) = {
        let turn = my_turn();
        // Taken by us, or by somebody else already: either is what the test needs.
        let _mqtt = TcpListener::bind((Ipv4Addr::LOCALHOST, 1883));
        let _http = TcpListener::bind((Ipv4Addr::LOCALHOST, 5000));
        Demo::start_in_turn(dir.path(), &["--seconds=1", "--devices=2"], turn)?.wait()?
    };
    assert!(status.success(), "{status}\n{output}");
    assert!(output.contains("port 1883 is taken: MQTT is at "), "{output}");
    assert!(output.contains("port 5000 is taken: HTTP is at "), "{output}");
    Ok(())
}

#[test]
fn ctrl_c_ends_a_demo_with_the_comparison() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let mut demo = Demo::start(dir.path(), &["--period-ms", "100"])?;
    demo.wait_for_counts()?;
    demo.process.signal(Signal::INT)?;
    let (status, output) = demo.wait()?;
    assert!(status.success(), "{status}\n{output}");
    assert!(output.contains("every answer counted exactly once"), "{output}");
    Ok(())
}

#[test]
fn a_demo_with_mischief_shows_every_state_and_adds_up() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let mut demo = Demo::start(dir.path(), &["--mischief", "--period-ms", "100", "--devices", "2"])?;
    demo.wait_for_counts()?;
    let shown = demo.process.stdout()?;
    let page = shown.lines().find_map(|line| line.trim().strip_prefix("look     ")).context("no address")?;
    for (trouble, device) in
        [("never_seen", "never-came"), ("offline", "gone"), ("stale", "silent"), ("gaps", "gaps")]
    {
        wait::until(&format!("{device} to be {trouble}"), LIMIT, || {
            demo.process.check_alive()?;
            let url = format!("{page}v1/devices?trouble={trouble}");
            let listed: Value = serde_json::from_str(&ureq::get(&url).call()?.body_mut().read_to_string()?)?;
            let devices = listed["devices"].as_array().with_context(|| format!("{url}: {listed}"))?;
            Ok(devices.iter().any(|one| one["device"] == device).then_some(()))
        })?;
    }
    let (status, output) = {
        demo.process.signal(Signal::INT)?;
        demo.wait()?
    };
    assert!(status.success(), "{status}\n{output}");
    assert!(output.contains("every answer counted exactly once"), "{output}");
    Ok(())
}

#[test]
fn a_demo_whose_host_dies_says_so_and_leaves_nothing_running() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let mut demo = Demo::start(dir.path(), &["--period-ms", "100"])?;
    demo.wait_for_counts()?;
    let devices = demo.child("rollcall-device-linux")?;
    kill_process(demo.child("rollcall")?, Signal::KILL)?;
    let (status, output) = demo.wait()?;
    assert!(!status.success(), "{output}");
    assert!(output.contains("host ended unasked"), "{output}");
    assert!(kill_process(devices, Signal::TERM).is_err(), "the devices outlived the demo");
    Ok(())
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    for (arguments, named) in [
        (["demo", "--device", "5"], "--device"),
        (["demo", "--devices", "0"], "--devices"),
        (["demo", "--seconds", "soon"], "soon"),
        (["demo", "--mischief", "--broker=rabbitmq"], "--mischief"),
        (["run-device", "--board", "toaster"], "toaster"),
        (["test", "--fast", ""], "--fast"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} was accepted");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
    Ok(())
}
