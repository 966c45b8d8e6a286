//! Each part of the system in turn dies, or is away, while devices publish.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_harness::fleet::FleetProcess;
use rollcall_harness::host::{HostProcess, Role};
use rollcall_harness::process::memory;
use rollcall_harness::proxy::Proxy;
use rollcall_harness::services::{Rabbitmq, RabbitmqNode, ReplicaSet};
use rollcall_harness::{number_from_environment, pace, ports, wait};

use crate::setup::{RATE, TestSystem, check_at_rest, settle, wait_for_flow, wait_for_rest};

/// A kill comes so many milliseconds after messages flow again.
const KILL_AFTER_MS: std::ops::Range<u64> = 0..1_500;

const INGEST_AWAY_S: u64 = 30;
const MONGODB_AWAY_S: u64 = 60;

/// How many bytes an ingest may grow by while it can store nothing: its queues are bounded.
const GROWTH_MAX: u64 = 32 << 20;

#[test]
fn an_ingest_that_is_killed_at_random_loses_and_doubles_nothing() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let ingest_settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (mut ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    for _ in 0..3 {
        wait_for_flow(&api, &mut fleet)?;
        thread::sleep(Duration::from_millis(system.random.u64(KILL_AFTER_MS)));
        ingest.kill();
        ingest = HostProcess::start(&ingest_settings)?;
    }
    wait_for_flow(&api, &mut fleet)?;
    let (_, counted) = settle(fleet, &api)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}

#[test]
fn what_was_committed_and_not_acknowledged_before_a_kill_is_counted_once() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let port = rabbitmq.address().rsplit(':').next().context("no port")?.parse()?;
    let proxy = Proxy::start(port)?;
    let mut settings =
        system.host("ingest", Role::Ingest, &proxy.url(&rabbitmq.url()), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    proxy.hold();
    // Until RabbitMQ delivers no more, because nothing is acknowledged any more.
    wait_for_rest(&api)?;
    ingest.kill();
    settings.broker = Some(rabbitmq.url());
    let ingest = HostProcess::start(&settings)?;
    wait_for_flow(&api, &mut fleet)?;
    let (_, counted) = settle(fleet, &api)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}

#[test]
fn a_rabbitmq_that_is_killed_and_restarted_loses_and_doubles_nothing() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (mut rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let ingest_settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    thread::sleep(Duration::from_millis(system.random.u64(KILL_AFTER_MS)));
    rabbitmq.restart()?;
    wait_for_flow(&api, &mut fleet)?;
    let (report, counted) = settle(fleet, &api)?;
    assert!(report.reconnects > 0, "no device noticed");
    check_at_rest(ingest, api, &api_settings, &counted)
}

#[test]
fn a_mongod_that_is_killed_and_restarted_loses_and_doubles_nothing() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mut mongod) = (system.rabbitmq()?, system.mongod()?);
    let ingest_settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    for _ in 0..2 {
        wait_for_flow(&api, &mut fleet)?;
        thread::sleep(Duration::from_millis(system.random.u64(KILL_AFTER_MS)));
        mongod.restart()?;
    }
    wait_for_flow(&api, &mut fleet)?;
    let (_, counted) = settle(fleet, &api)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}

#[test]
fn a_replica_set_whose_primary_is_killed_loses_and_doubles_nothing() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let rabbitmq = system.rabbitmq()?;
    let mut set = ReplicaSet::start(&system.folder("set")?, 3)?;
    let ingest_settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &set.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &set.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    thread::sleep(Duration::from_millis(system.random.u64(KILL_AFTER_MS)));
    let primary = set.primary()?;
    set.member(primary).kill();
    assert_ne!(set.primary()?, primary);
    set.member(primary).restart()?;
    wait_until_it_answers(&api)?;
    wait_for_flow(&api, &mut fleet)?;
    let (_, counted) = settle(fleet, &api)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}

/// While there is no primary, an API answers with an error, not with a wrong number.
fn wait_until_it_answers(api: &HostProcess) -> Result<()> {
    wait::until("the API to answer again", Duration::from_secs(60), || Ok(api.all_counts().ok()))?;
    Ok(())
}

#[test]
fn samples_that_waited_in_the_broker_are_counted_in_the_second_in_which_they_were_taken() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let ingest_settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    ingest.stop()?;
    let from = pace::now_s()? + 2;
    thread::sleep(Duration::from_secs(number_from_environment("ROLLCALL_AWAY_S").unwrap_or(INGEST_AWAY_S)));
    let to = pace::now_s()? - 2;
    let ingest = HostProcess::start(&ingest_settings)?;
    let (_, counted) = settle(fleet, &api)?;
    pace::check(&api, from, to, RATE, RATE)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}

#[test]
fn while_mongodb_is_away_the_ingest_waits_and_does_not_grow() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mut mongod) = (system.rabbitmq()?, system.mongod()?);
    let ingest_settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (mut ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    let before = memory(ingest.process().pid())?.now;
    mongod.kill();
    thread::sleep(Duration::from_secs(number_from_environment("ROLLCALL_AWAY_S").unwrap_or(MONGODB_AWAY_S)));
    ingest.check_alive()?;
    let after = memory(ingest.process().pid())?.now;
    println!("the ingest grew from {before} to {after} bytes");
    assert!(after < before + GROWTH_MAX, "from {before} to {after} bytes");
    mongod.restart()?;
    wait_until_it_answers(&api)?;
    wait_for_flow(&api, &mut fleet)?;
    let (report, counted) = settle(fleet, &api)?;
    assert_eq!(report.dropped, 0, "the broker takes what the ingest cannot");
    check_at_rest(ingest, api, &api_settings, &counted)
}

#[test]
fn a_cluster_whose_queue_leader_is_killed_loses_and_doubles_nothing() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let mongod = system.mongod()?;
    let mut nodes = Vec::new();
    for node in RabbitmqNode::cluster(&system.folder("cluster")?, 3)? {
        nodes.push(Rabbitmq::launch(node.with_settings("mqtt.durable_queue_type = quorum\n"))?);
    }
    for node in &mut nodes {
        node.wait_until_ready()?;
    }
    let port = |node: &Rabbitmq| -> Result<u16> {
        Ok(node.address().rsplit(':').next().context("no port")?.parse()?)
    };
    // A queue's leader is on the node at which it was declared: the one that the ingest connects to first.
    let proxy = Proxy::start(port(&nodes[0])?)?;
    let broker = proxy.url(&nodes[0].url());
    let ingest_settings = system.host("ingest", Role::Ingest, &broker, &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet: FleetProcess = system.fleet(&nodes[1].address())?;
    wait_for_flow(&api, &mut fleet)?;
    proxy.lead_to(port(&nodes[2])?);
    nodes[0].kill()?;
    wait_for_flow(&api, &mut fleet)?;
    let (_, counted) = settle(fleet, &api)?;
    assert!(ports::is_free(port(&nodes[0])?), "the leader's node was not killed");
    check_at_rest(ingest, api, &api_settings, &counted)
}
