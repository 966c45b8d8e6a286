//! The small broker under the same ingest: MQTT 5 is what counts, not who speaks it.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_harness::host::{HostProcess, Role};
use rollcall_harness::proxy::Proxy;
use rollcall_harness::services::Mosquitto;
use rollcall_harness::{pace, ports, wait};

use crate::setup::{RATE, TestSystem, check_at_rest, settle, wait_for_flow};

/// An ingest that was away knows nothing of the devices' clocks but what the broker says of each message's wait, in whole
/// seconds and by the difference of two clocks: its first dates may be two seconds late.
const SLACK: u64 = 2 * RATE;

/// So long is the ingest away.
const AWAY: Duration = Duration::from_secs(10);

#[test]
fn mosquitto_restarted_and_an_ingest_killed_and_away_lose_and_double_nothing() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (mut mosquitto, mongod) = (Mosquitto::start(&system.folder("mosquitto")?)?, system.mongod()?);
    let ingest_settings = system.host("ingest", Role::Ingest, &mosquitto.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&mosquitto.address())?;
    wait_for_flow(&api, &mut fleet)?;

    ingest.kill();
    let from = pace::now_s()? + 2;
    thread::sleep(AWAY);
    let to = pace::now_s()? - 2;
    let ingest = HostProcess::start(&ingest_settings)?;
    wait_for_flow(&api, &mut fleet)?;
    mosquitto.restart()?;
    wait_for_flow(&api, &mut fleet)?;
    let (report, counted) = settle(fleet, &api)?;
    assert!(report.reconnects > 0, "no device noticed the restart");
    pace::check(&api, from, to, RATE, SLACK)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}

/// An ingest whose broker is gone has another within less.
const LOG_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn an_ingest_goes_to_another_broker_and_counts_what_the_first_held_when_it_comes_back() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let mut first = Mosquitto::start(&system.folder("first")?)?;
    let (second, mongod) = (Mosquitto::start(&system.folder("second")?)?, system.mongod()?);
    let port = first.address().rsplit(':').next().context("no port")?.parse()?;
    let proxy = Proxy::start(port)?;
    let brokers = format!("mqtt://{} {}", proxy.address(), second.url());
    let ingest_settings = system.host("ingest", Role::Ingest, &brokers, &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&first.address())?;
    wait_for_flow(&api, &mut fleet)?;

    // To the ingest the first one is gone; the devices have it back, and it keeps what they say.
    proxy.lead_to(ports::free()?);
    first.restart()?;
    let connected = format!("connected to the broker address={}", second.url());
    wait::until("the ingest to take the other broker", LOG_LIMIT, || {
        Ok(ingest.process().stderr()?.contains(&connected).then_some(()))
    })?;
    let from = pace::now_s()? + 2;
    thread::sleep(AWAY);
    let to = pace::now_s()? - 2;
    proxy.lead_to(port);
    drop(second);
    wait_for_flow(&api, &mut fleet)?;
    let (_, counted) = settle(fleet, &api)?;
    pace::check(&api, from, to, RATE, SLACK)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}
