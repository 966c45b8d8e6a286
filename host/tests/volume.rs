//! Many messages over many connections, to the embedded store: what is acknowledged is counted, and what arrived
//! whole is counted without an acknowledgement too. Every (device, sequence) is looked at.
//!
//! `ROLLCALL_MESSAGES` says how many (40,000 for each shape); a million:
//! `ROLLCALL_MESSAGES=1000000 cargo test --release --package rollcall-host --test volume -- --nocapture`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/host.rs"]
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use host::{ingest, logged, start};
use rollcall_harness::mqtt::{Client, PUBACK, Version, disconnect, publish_with, receive_maximum};
use rollcall_host::log::RedbStore;
use rollcall_host::source;
use rollcall_wire::{DeviceId, Kind, Topic};

const MESSAGES: u64 = 40_000;

const CLIENTS: u64 = 50;

/// As many as a broker has in flight for a client of 3.1.1, which announces nothing.
const IN_FLIGHT_V311: u64 = 256;

#[test]
fn every_acknowledged_message_is_counted_over_3_1_1_with_256_in_flight() {
    for_each_client("3.1.1", |address, number, messages| {
        pipeline(address, Version::V311, number, messages);
    });
}

#[test]
fn every_acknowledged_message_is_counted_over_5_with_the_announced_maximum_in_flight() {
    for_each_client("5", |address, number, messages| pipeline(address, Version::V5, number, messages));
}

#[test]
fn every_message_of_a_burst_of_qos_0_is_counted_whose_client_leaves_at_once() {
    for_each_client("bursts of QoS 0", |address, number, messages| bursts(address, 0, number, messages));
}

#[test]
fn every_message_of_a_burst_of_qos_1_is_counted_whose_client_leaves_at_once() {
    for_each_client("bursts of QoS 1", |address, number, messages| bursts(address, 1, number, messages));
}

/// Lets all clients send their share of the messages; each sequence of each has to be in the log once.
fn for_each_client(shape: &str, send: impl Fn(SocketAddr, u64, u64) + Copy + Send + 'static) {
    let messages = rollcall_harness::number_from_environment("ROLLCALL_MESSAGES").unwrap_or(MESSAGES);
    let share = messages.div_ceil(CLIENTS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _runtime = runtime.enter();
    let data = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open(data.path()).unwrap());
    let (inbox, received) = source::inbox();
    let ingest = ingest(store.clone(), received, Arc::default());
    let gateway = start(None, inbox);
    let (address, begun) = (gateway.address(), Instant::now());
    let clients = (0..CLIENTS).map(|number| thread::spawn(move || send(address, number, share)));
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    let logged = runtime.block_on(async {
        gateway.source.drain().await;
        ingest.await.unwrap().unwrap();
        logged(&*store).await
    });
    let mut counted = BTreeMap::<DeviceId, BTreeSet<u64>>::new();
    for record in &logged {
        let seq = record.id.unwrap().seq.get();
        assert!(counted.entry(record.device).or_default().insert(seq), "{record:?} is there twice");
    }
    for number in 0..CLIENTS {
        let seqs = counted.remove(&device(number)).unwrap_or_default();
        let missing = (0..share).filter(|seq| !seqs.contains(seq)).count();
        assert_eq!((missing, seqs.len() as u64), (0, share), "{shape}, client {number}");
    }
    assert!(counted.is_empty());
    println!("{shape}: {} sent and counted in {:.1} s", share * CLIENTS, begun.elapsed().as_secs_f32());
}

/// Publishes in order with as many in flight as may be, until all are acknowledged with success.
fn pipeline(address: SocketAddr, version: Version, number: u64, messages: u64) {
    let (mut client, connack) =
        Client::try_connect_as(address, version, &format!("client-{number}")).unwrap();
    let most = match version {
        Version::V311 => IN_FLIGHT_V311,
        Version::V5 => receive_maximum(&connack).unwrap().into(),
    };
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < messages {
        let up_to = messages.min(acknowledged + most);
        let packets = (sent..up_to).flat_map(|seq| packet(version, 1, number, seq));
        client.send(&packets.collect::<Vec<_>>());
        sent = up_to;
        let puback = client.receive().expect("the connection goes on");
        assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0));
        assert_eq!(puback.body[..2], packet_id(acknowledged).to_be_bytes()[..]);
        acknowledged += 1;
    }
}

/// As `mosquitto_pub` sends a file line by line: connect, burst, DISCONNECT at once, again and again.
fn bursts(address: SocketAddr, qos: u8, number: u64, messages: u64) {
    let mut sent = 0;
    while sent < messages {
        let version = if sent % 2 == 0 { Version::V5 } else { Version::V311 };
        // Odd, so that the versions take turns, and more than one read of the gateway.
        let up_to = messages.min(sent + 101);
        let mut client = Client::connect(address, version);
        let packets = (sent..up_to).flat_map(|seq| packet(version, qos, number, seq));
        client.send(&packets.chain(disconnect(0)).collect::<Vec<_>>());
        client.leave();
        sent = up_to;
    }
}

fn packet(version: Version, qos: u8, number: u64, seq: u64) -> Vec<u8> {
    let topic = Topic { device: device(number), kind: Kind::Status }.name();
    let payload = format!(r#"{{"status":{},"seq":{seq},"boot":"9f3c5a0be1d24c77"}}"#, seq % 7);
    let id = (qos > 0).then(|| packet_id(seq));
    publish_with(version, 0x30 | qos << 1, id, &topic, payload.as_bytes(), None)
}

/// Free again long before it comes round.
fn packet_id(seq: u64) -> u16 {
    (seq % 1_000) as u16 + 1
}

fn device(number: u64) -> DeviceId {
    DeviceId::new(&format!("device-{number}")).unwrap()
}
