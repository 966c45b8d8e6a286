//! With faults: nothing that an outbox can hold is lost, nothing is counted twice, and the boards come back soon.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_harness::services;

use crate::machines::{Site, can_emulate};

/// Five samples a second: the outbox holds a minute of them.
const WORDS: [&str; 1] = ["period_ms=200"];

const FLOW_LIMIT: Duration = Duration::from_secs(30);

/// Longer than an acknowledgement is waited for.
const LONG: Duration = Duration::from_secs(14);

const SHORT: Duration = Duration::from_secs(6);

/// After a fault has ended, and a pause that the board announced, it is connected within so long.
const RECONNECT: Duration = Duration::from_secs(2);

/// The pause is at most 30 s, however long a broker takes to start.
const RECONNECT_LIMIT: Duration = Duration::from_secs(35);

/// What the firmware logs before a pause, in milliseconds, and after it.
const PAUSE: &str = "next attempt in ";

/// Starts a host and the boards, has `fault` happen to them while samples flow, and checks that all is counted.
fn survive(test: &str, words: &[&str], fault: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
    if !can_emulate(test)? {
        return Ok(());
    }
    let mut site = Site::start(words)?;
    strike(test, &mut site, fault)?;
    finish(site)
}

/// Runs `fault` while samples flow; every board is connected again soon after it has ended.
fn strike(test: &str, site: &mut Site, fault: impl FnOnce(&mut Site) -> Result<()>) -> Result<()> {
    site.wait_for_flow(20, FLOW_LIMIT)?;
    let connections = site.connections()?;
    fault(site)?;
    let took = site.wait_for_connections(&connections, RECONNECT_LIMIT)?;
    for (machine, took) in site.machines.iter().zip(took) {
        let log = machine.emulator.log()?;
        let pause = last_pause(&log).with_context(|| format!("no pause in {log}"))?;
        println!("{test}: {machine} connected again after {took:?}; its last pause was {pause:?}");
        assert!(took <= pause + RECONNECT, "{machine}: {took:?} with a pause of {pause:?}\n{log}");
    }
    site.wait_for_flow(20, FLOW_LIMIT)
}

fn finish(site: Site) -> Result<()> {
    for report in site.finish()? {
        assert!(report.totals.reconnects >= 1);
    }
    Ok(())
}

fn last_pause(log: &str) -> Option<Duration> {
    let digits = log.rsplit_once(PAUSE)?.1.split_once(' ')?.0;
    digits.parse().ok().map(Duration::from_millis)
}

/// The network away, the broker frozen, the broker killed, one after the other.
fn survive_all(test: &str, start: impl FnOnce(&[&str]) -> Result<Site>) -> Result<()> {
    if !can_emulate(test)? || !services::can_run(test)? {
        return Ok(());
    }
    let mut site = start(&WORDS)?;
    strike(test, &mut site, |site| site.pull_links(|_| pause(LONG)))?;
    strike(test, &mut site, |site| site.freeze_broker(LONG))?;
    strike(test, &mut site, Site::kill_broker)?;
    finish(site)
}

fn pause(time: Duration) -> Result<()> {
    thread::sleep(time);
    Ok(())
}

#[test]
fn a_broker_that_is_stopped_for_six_seconds_costs_nothing() -> Result<()> {
    let test = "a_broker_that_is_stopped_for_six_seconds_costs_nothing";
    survive(test, &WORDS, |site| site.stop_gateway(SHORT))
}

#[test]
fn a_broker_that_is_killed_costs_nothing() -> Result<()> {
    survive("a_broker_that_is_killed_costs_nothing", &WORDS, Site::kill_broker)
}

#[test]
fn a_broker_that_freezes_for_fourteen_seconds_costs_nothing() -> Result<()> {
    let test = "a_broker_that_freezes_for_fourteen_seconds_costs_nothing";
    survive(test, &WORDS, |site| site.freeze_broker(LONG))
}

#[test]
fn a_link_that_is_down_for_fourteen_seconds_costs_nothing() -> Result<()> {
    let test = "a_link_that_is_down_for_fourteen_seconds_costs_nothing";
    survive(test, &WORDS, |site| site.pull_links(|_| pause(LONG)))
}

#[test]
fn a_rabbitmq_that_is_cut_off_frozen_and_killed_costs_nothing() -> Result<()> {
    survive_all("a_rabbitmq_that_is_cut_off_frozen_and_killed_costs_nothing", Site::with_rabbitmq)
}

#[test]
fn a_mosquitto_that_is_cut_off_frozen_and_restarted_costs_nothing() -> Result<()> {
    survive_all("a_mosquitto_that_is_cut_off_frozen_and_restarted_costs_nothing", Site::with_mosquitto)
}

#[test]
fn an_address_that_expires_is_asked_for_again() -> Result<()> {
    let words = [&WORDS[..], &["lease_s=8"]].concat();
    survive("an_address_that_expires_is_asked_for_again", &words, |site| {
        site.pull_links(|site| {
            for machine in &mut site.machines {
                machine.emulator.wait_for_log("the address is gone", 2 * LONG)?;
            }
            // Until each connection has failed too.
            for machine in &mut site.machines {
                machine.emulator.wait_for_log("next attempt in", 2 * LONG)?;
            }
            Ok(())
        })
    })
}
