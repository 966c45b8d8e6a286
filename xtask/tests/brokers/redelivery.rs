//! RabbitMQ 4 throws a message of a quorum queue away once it was redelivered 20 times. An ingest that dies over
//! and over, or a link that breaks over and over, must not cost a sample.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::host::{HostProcess, Role};
use rollcall_harness::mqtt::{ConnectPacket, Connection, PUBLISH, Version, property};
use rollcall_harness::ports;
use rollcall_harness::services::{PASSWORD, Rabbitmq, RabbitmqNode, USER};

use crate::setup::{TestSystem, check_at_rest, settle, wait_for_flow};

/// The ingest's session, for the test to take it over.
const CLIENT_ID: &str = "dies-often";

/// More than RabbitMQ's default delivery limit.
const DEATHS: u32 = 25;

/// Messages that wait for an ingest are delivered at once.
const DELIVERY_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_quorum_queue_keeps_what_an_ingest_took_and_dropped_many_times() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let node = RabbitmqNode::new(&system.folder("rabbitmq")?, ports::free()?)?;
    let rabbitmq = Rabbitmq::start_node(node.with_settings("mqtt.durable_queue_type = quorum\n"))?;
    let mongod = system.mongod()?;
    let mut ingest_settings =
        system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    ingest_settings.arguments = ["--client-id", CLIENT_ID].map(str::to_owned).to_vec();
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    ingest.kill();
    for _ in 0..DEATHS {
        take_and_die(&rabbitmq.address())?;
        fleet.check_alive()?;
    }
    let ingest = HostProcess::start(&ingest_settings)?;
    wait_for_flow(&api, &mut fleet)?;
    let (_, counted) = settle(fleet, &api)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}

/// Connects to the ingest's session, waits for messages and breaks the link without a word.
fn take_and_die(broker: &str) -> Result<()> {
    let mut connection = Connection::open(broker, DELIVERY_LIMIT)?;
    let connack = connection.connect(&ConnectPacket {
        clean_start: false,
        keep_alive_s: 0,
        // An hour after the link.
        properties: &property::session_expiry_interval(3_600),
        login: Some((USER, PASSWORD)),
        ..ConnectPacket::new(Version::V5, CLIENT_ID)
    })?;
    ensure!(connack.body[0] == 1, "the session is gone");
    let packet = connection.receive()?.context("the broker closed")?;
    ensure!(packet.kind() == PUBLISH, "not a message: {packet:02x?}");
    Ok(())
}
