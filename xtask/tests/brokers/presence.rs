//! What brokers publish for a device that is gone, when another connection of it is there.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rollcall_harness::host::{HostProcess, HostSettings, Role};
use rollcall_harness::mqtt::{Client, ConnectPacket, Version, Will, publish};
use rollcall_harness::services::{Mosquitto, PASSWORD, USER};
use rollcall_harness::wait;
use rollcall_wire::{BootId, ConnectionId, DeviceId, Kind, Topic, presence};
use serde_json::Value;

use crate::setup::TestSystem;

const LIMIT: Duration = Duration::from_secs(20);

const DEVICE: &str = "porch-17";

fn topic(kind: Kind) -> Result<String> {
    let device = DeviceId::new(DEVICE).map_err(|_| anyhow!("no device"))?;
    Ok(Topic { device, kind }.to_string())
}

/// A client whose will says that its connection has ended, and that says that it has begun.
fn connect(broker: SocketAddr, login: Option<(&str, &str)>, client_id: &str, number: u32) -> Result<Client> {
    let connection = ConnectionId { boot: BootId(7), run: None, number };
    let (topic, offline) = (topic(Kind::Presence)?, presence::encode(false, &connection));
    let will = Will { qos: 1, retain: true, properties: &[], topic: &topic, payload: offline.as_bytes() };
    let connect = ConnectPacket { will: Some(will), login, ..ConnectPacket::new(Version::V5, client_id) };
    let mut client = Client::say(broker, &connect);
    ensure!(client.receive().context("no CONNACK")?.reason() == 0, "not welcome");
    let online = presence::encode(true, &connection);
    client.send(&publish(Version::V5, 1, &topic, online.as_bytes(), None));
    ensure!(client.receive().context("no PUBACK")?.reason() == 0, "it may not say that it is there");
    Ok(client)
}

fn is(host: &HostProcess, state: &str) -> Result<bool> {
    let url = host.url(&format!("/v1/devices/{DEVICE}"));
    let Ok(mut reply) = ureq::get(&url).call() else { return Ok(false) };
    let device: Value = serde_json::from_str(&reply.body_mut().read_to_string()?)?;
    Ok(device["state"] == state)
}

fn wait_for_presence(host: &HostProcess, messages: f64) -> Result<()> {
    wait::until("presence to be heard", LIMIT, || {
        Ok((host.metric("rollcall_messages_presence_total")? >= messages).then_some(()))
    })
}

fn a_late_will_marks_no_live_device_offline(
    settings: &HostSettings,
    broker: &str,
    login: Option<(&str, &str)>,
) -> Result<()> {
    let broker = broker.to_socket_addrs()?.next().context("no address")?;
    let host = HostProcess::start(settings)?;
    wait::until("the host to be ready", LIMIT, || {
        Ok(ureq::get(&host.url("/readyz")).call().is_ok().then_some(()))
    })?;
    let mut half_open = connect(broker, login, "one", 1)?;
    half_open.publish(&topic(Kind::Status)?, br#"{"status":3}"#);
    wait::until("a row", LIMIT, || Ok(is(&host, "online")?.then_some(())))?;
    let live = connect(broker, login, "other", 2)?;
    wait_for_presence(&host, 2.0)?;
    half_open.leave();
    wait_for_presence(&host, 3.0)?;
    assert!(is(&host, "online")?, "the will of a connection that another one followed");
    live.leave();
    wait_for_presence(&host, 4.0)?;
    assert!(is(&host, "offline")?, "it has left");
    host.stop()
}

#[test]
fn a_late_will_that_mosquitto_publishes_marks_no_live_device_offline() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let (mosquitto, mongod) = (Mosquitto::start(&system.folder("mosquitto")?)?, system.mongod()?);
    let settings = system.host("serve", Role::Serve, &mosquitto.url(), &mongod.url("rollcall"))?;
    a_late_will_marks_no_live_device_offline(&settings, &mosquitto.address(), None)
}

#[test]
fn a_late_will_that_rabbitmq_publishes_marks_no_live_device_offline() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let settings = system.host("serve", Role::Serve, &rabbitmq.url(), &mongod.url("rollcall"))?;
    a_late_will_marks_no_live_device_offline(&settings, &rabbitmq.address(), Some((USER, PASSWORD)))
}
