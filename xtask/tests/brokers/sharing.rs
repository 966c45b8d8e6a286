//! Several workers: as they should share a fleet, and as they should not.

use std::time::Duration;

use anyhow::Result;
use rollcall_harness::host::{HostProcess, Role};
use rollcall_harness::mqtt::{ConnectPacket, Connection, Version, disconnect};
use rollcall_harness::wait;
use rustix::process::Signal;

use crate::setup::{TestSystem, check_at_rest, settle, wait_for_flow, wait_for_rest};

const LOG_LIMIT: Duration = Duration::from_secs(30);

/// A broker that is asked for nothing but its CONNACK answers in less.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What a worker logs when somebody else writes its slot.
const CONFLICT: &str = "another worker writes this slot too";

fn wait_for_log(host: &HostProcess, text: &str) -> Result<()> {
    wait::until(&format!("{text:?} in the log"), LOG_LIMIT, || {
        Ok(host.process().stderr()?.contains(text).then_some(()))
    })
}

#[test]
fn two_workers_share_a_fleet_and_a_slot_that_both_take_is_counted_once() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let worker = |name: &str, slots: &str| -> Result<HostProcess> {
        let mut settings = system.host(name, Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
        settings.arguments = vec!["--slots".to_owned(), slots.to_owned()];
        HostProcess::start(&settings)
    };
    // By mistake, both have slots 6 to 9.
    let (first, second) = (worker("first", "0-9")?, worker("second", "6-f")?);
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let other_settings = system.host("other-api", Role::Api, "", &mongod.url("rollcall"))?;
    let (api, other) = (HostProcess::start(&api_settings)?, HostProcess::start(&other_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    wait_for_log(&first, CONFLICT)?;
    wait_for_log(&second, CONFLICT)?;
    for _ in 0..3 {
        wait_for_flow(&api, &mut fleet)?;
    }
    let (_, counted) = settle(fleet, &api)?;
    assert_eq!(other.all_counts()?, counted, "the APIs differ");
    first.stop()?;
    check_at_rest(second, api, &api_settings, &counted)
}

#[test]
fn a_worker_that_wakes_up_after_another_took_its_session_doubles_nothing() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let replacement = system.host("replacement", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    ingest.process().signal(Signal::STOP)?;
    let replacement = HostProcess::start(&replacement)?;
    wait_for_flow(&api, &mut fleet)?;
    ingest.process().signal(Signal::CONT)?;
    wait_for_log(&ingest, "no connection to")?;
    wait_for_flow(&api, &mut fleet)?;
    replacement.kill();
    wait_for_flow(&api, &mut fleet)?;
    let (_, counted) = settle(fleet, &api)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}

#[test]
fn a_session_that_the_broker_lost_is_reported_and_nothing_is_counted_twice() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    let counted = api.all_counts()?;
    ingest.kill();
    end_session(&rabbitmq.address(), "rollcall-ingest-0-f")?;
    let ingest = HostProcess::start(&settings)?;
    wait_for_log(&ingest, "gap: the broker lost our session")?;
    wait_for_flow(&api, &mut fleet)?;
    let report = fleet.stop()?;
    // What lay in the lost queue is gone; the devices were told that it had arrived there.
    wait_for_rest(&api)?;
    let end = api.all_counts()?;
    for ((before, end), acknowledged) in counted.0.iter().zip(end.0).zip(report.acknowledged.0) {
        assert!(*before <= end && end <= acknowledged, "{counted}, then {end} of {acknowledged}");
    }
    check_at_rest(ingest, api, &api_settings, &end)
}

/// Connects as the ingest would, with a clean start: the broker forgets its session and queue.
fn end_session(address: &str, client_id: &str) -> Result<()> {
    let mut connection = Connection::open(address, ANSWER_LIMIT)?;
    connection.connect(&ConnectPacket::new(Version::V5, client_id))?;
    connection.send(&disconnect(0))?;
    // The broker closes when it is done.
    while let Ok(Some(_)) = connection.receive() {}
    Ok(())
}
