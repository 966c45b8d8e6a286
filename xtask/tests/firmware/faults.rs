//! With faults: nothing that an outbox can hold is lost, nothing is counted twice, and the boards come back soon.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_harness::host::HostProcess;
use rustix::process::Signal;

use crate::machines::{Site, can_emulate};

/// Five samples a second: the outbox holds a minute of them.
const WORDS: [&str; 1] = ["period_ms=200"];

const FLOW_LIMIT: Duration = Duration::from_secs(30);

/// Longer than an acknowledgement is waited for.
const LONG: Duration = Duration::from_secs(14);

const SHORT: Duration = Duration::from_secs(6);

/// After a fault has ended, and a pause that the board announced, it is connected within so long.
const RECONNECT: Duration = Duration::from_secs(2);

/// The pause is at most 16 s after six failures.
const RECONNECT_LIMIT: Duration = Duration::from_secs(20);

/// What the firmware logs before a pause, in milliseconds, and after it.
const PAUSE: &str = "next attempt in ";

/// Runs `fault` while samples flow; it gives how often each board had connected when the fault ended.
fn survive(test: &str, words: &[&str], fault: impl FnOnce(&mut Site) -> Result<Vec<usize>>) -> Result<()> {
    if !can_emulate(test)? {
        return Ok(());
    }
    let mut site = Site::start(words)?;
    site.wait_for_flow(20, FLOW_LIMIT)?;
    let connections = fault(&mut site)?;
    let took = site.wait_for_connections(&connections, RECONNECT_LIMIT)?;
    for (machine, took) in site.machines.iter().zip(took) {
        let log = machine.emulator.log()?;
        let pause = last_pause(&log).with_context(|| format!("no pause in {log}"))?;
        println!("{test}: {} connected again after {took:?}; its last pause was {pause:?}", machine.board);
        assert!(took <= pause + RECONNECT, "{}: {took:?} with a pause of {pause:?}\n{log}", machine.board);
    }
    site.wait_for_flow(20, FLOW_LIMIT)?;
    for report in site.finish()? {
        assert!(report.totals.reconnects >= 1);
    }
    Ok(())
}

fn last_pause(log: &str) -> Option<Duration> {
    let digits = log.rsplit_once(PAUSE)?.1.split_once(' ')?.0;
    digits.parse().ok().map(Duration::from_millis)
}

#[test]
fn a_broker_that_is_stopped_for_six_seconds_costs_nothing() -> Result<()> {
    survive("a_broker_that_is_stopped_for_six_seconds_costs_nothing", &WORDS, |site| {
        let connections = site.connections()?;
        site.host.take().context("the host runs")?.stop()?;
        thread::sleep(SHORT);
        site.host = Some(HostProcess::start(&site.settings)?);
        Ok(connections)
    })
}

#[test]
fn a_broker_that_is_killed_costs_nothing() -> Result<()> {
    survive("a_broker_that_is_killed_costs_nothing", &WORDS, |site| {
        let connections = site.connections()?;
        site.host.take().context("the host runs")?.kill();
        site.host = Some(HostProcess::start(&site.settings)?);
        Ok(connections)
    })
}

#[test]
fn a_broker_that_freezes_for_fourteen_seconds_costs_nothing() -> Result<()> {
    survive("a_broker_that_freezes_for_fourteen_seconds_costs_nothing", &WORDS, |site| {
        let connections = site.connections()?;
        let host = site.host.as_ref().context("the host runs")?.process();
        host.signal(Signal::STOP)?;
        thread::sleep(LONG);
        host.signal(Signal::CONT)?;
        Ok(connections)
    })
}

#[test]
fn a_link_that_is_down_for_fourteen_seconds_costs_nothing() -> Result<()> {
    survive("a_link_that_is_down_for_fourteen_seconds_costs_nothing", &WORDS, |site| {
        let connections = site.connections()?;
        for machine in &site.machines {
            machine.emulator.link_down()?;
        }
        thread::sleep(LONG);
        for machine in &site.machines {
            machine.emulator.link_up()?;
        }
        Ok(connections)
    })
}

#[test]
fn an_address_that_expires_is_asked_for_again() -> Result<()> {
    let words = [&WORDS[..], &["lease_s=8"]].concat();
    survive("an_address_that_expires_is_asked_for_again", &words, |site| {
        let connections = site.connections()?;
        for machine in &site.machines {
            machine.emulator.link_down()?;
        }
        for machine in &mut site.machines {
            machine.emulator.wait_for_log("the address is gone", 2 * LONG)?;
        }
        // Until each connection has failed too.
        for machine in &mut site.machines {
            machine.emulator.wait_for_log("next attempt in", 2 * LONG)?;
        }
        for machine in &site.machines {
            machine.emulator.link_up()?;
        }
        Ok(connections)
    })
}
