//! RabbitMQ 4 throws a message of a quorum queue away once it was redelivered 20 times. An ingest that dies over
//! and over, or a link that breaks over and over, must not cost a sample.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use rollcall_harness::host::{HostProcess, Role};
use rollcall_harness::services::{PASSWORD, Rabbitmq, RabbitmqNode, USER};
use rollcall_harness::{ports, wait};

use crate::setup::{TestSystem, check_at_rest, settle, wait_for_flow};

/// The ingest's session, for the test to take it over.
const CLIENT_ID: &str = "dies-often";

/// More than RabbitMQ's default delivery limit.
const DEATHS: u32 = 25;

/// Messages that wait for an ingest are delivered at once.
const DELIVERY_LIMIT: Duration = Duration::from_secs(10);

/// MQTT 5.0, sections 3.1 and 3.3: the first nibble of a PUBLISH, and of a CONNACK.
const PUBLISH: u8 = 3;
const CONNACK: u8 = 2;

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
    let report = settle(fleet, &api)?;
    check_at_rest(ingest, api, &api_settings, &report.acknowledged)
}

/// Connects to the ingest's session, waits for messages and breaks the link without a word.
fn take_and_die(broker: &str) -> Result<()> {
    let mut stream = TcpStream::connect(broker)?;
    stream.set_read_timeout(Some(DELIVERY_LIMIT))?;
    stream.write_all(&connect())?;
    let mut reply = [0; 4096];
    let length = stream.read(&mut reply)?;
    ensure!(length > 3 && reply[0] >> 4 == CONNACK && reply[3] == 0, "refused: {:02x?}", &reply[..length]);
    ensure!(reply[2] == 1, "the session is gone");
    // What came with the CONNACK, or comes now.
    let acknowledged = 2 + usize::from(reply[1]);
    let first = if length > acknowledged {
        reply[acknowledged]
    } else {
        wait::until("a message", DELIVERY_LIMIT, || Ok((stream.read(&mut reply)? > 0).then_some(reply[0])))?
    };
    ensure!(first >> 4 == PUBLISH, "not a message: {first:#04x}");
    Ok(())
}

/// CONNECT, MQTT 5.0 section 3.1: clean start 0, and a session that lasts for an hour after the link.
fn connect() -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05\xc0\x00\x00\x05\x11\x00\x00\x0e\x10".to_vec();
    for text in [CLIENT_ID, USER, PASSWORD] {
        body.extend((text.len() as u16).to_be_bytes());
        body.extend(text.bytes());
    }
    let mut packet = vec![0x10, body.len() as u8];
    packet.append(&mut body);
    packet
}
