//! Wills: what is published for a client that is gone, and when.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use rollcall_harness::mqtt::{Client, ConnectPacket, DISCONNECT, Version, Will, property, publish};
use rollcall_host::api::{Api, router};
use rollcall_host::model::{Message, Retain, Sender};
use rollcall_wire::{BootId, ConnectionId};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::host::{Host, Open, PATIENCE, gateway, wait};
use crate::{GOOD, next, topic};

fn presence() -> String {
    topic().replace("/status", "/presence")
}

/// A client whose will says that it is offline.
fn connect(gateway: &Open, version: Version, properties: &[u8], keep_alive_s: u16) -> Client {
    let presence = presence();
    let will = Will { qos: 1, retain: true, properties, topic: &presence, payload: b"offline" };
    let will = Some(will);
    let connect = ConnectPacket { will, keep_alive_s, ..ConnectPacket::new(version, "sim-0") };
    let mut client = Client::say(gateway.address(), &connect);
    assert_eq!(client.receive().unwrap().reason(), 0);
    client
}

/// Waits for the will.
fn expect_will(messages: &mut mpsc::Receiver<Message>) -> Message {
    let message = next(messages);
    assert_eq!((&*message.topic, &*message.payload), (presence().as_str(), &b"offline"[..]));
    assert_eq!(
        (message.retain, message.sender),
        (Retain::Yes, Sender::HearsNothing),
        "MQTT-3.1.2-15, -17 of 3.1.1"
    );
    message
}

#[test]
fn the_will_of_a_client_that_leaves_without_a_word_is_published() {
    for version in [Version::V311, Version::V5] {
        let (gateway, mut messages) = gateway();
        connect(&gateway, version, &[], 60).leave();
        expect_will(&mut messages);
        drop(connect(&gateway, version, &[], 60));
        expect_will(&mut messages);
    }
}

#[test]
fn a_client_that_leaves_as_it_should_has_no_will() {
    for version in [Version::V311, Version::V5] {
        let (gateway, mut messages) = gateway();
        let mut client = connect(&gateway, version, &[], 60);
        client.send(&[0xe0, 0]);
        assert_eq!(client.receive(), None);
        assert!(messages.try_recv().is_err(), "MQTT-3.14.4-3");
    }
}

#[test]
fn a_client_of_mqtt_5_may_leave_with_its_will() {
    let (gateway, mut messages) = gateway();
    for reason in [0x04, 0x80, 0x98] {
        let mut client = connect(&gateway, Version::V5, &[], 60);
        client.send(&[0xe0, 1, reason]);
        assert_eq!(client.receive(), None);
        expect_will(&mut messages);
    }
}

#[test]
fn the_will_of_a_client_that_is_cut_off_is_published() {
    for version in [Version::V311, Version::V5] {
        let (gateway, mut messages) = gateway();
        let silent = connect(&gateway, version, &[], 1);
        expect_will(&mut messages);
        drop(silent);
        let mut wrong = connect(&gateway, version, &[], 60);
        wrong.send(&[0, 0]);
        // MQTT-3.1.2-8, and the section on when it is published: a protocol error is one of the occasions.
        expect_will(&mut messages);
        let first = connect(&gateway, version, &[], 60);
        let second = connect(&gateway, version, &[], 60);
        expect_will(&mut messages);
        drop((first, second));
    }
}

#[test]
fn a_will_has_its_expiry_interval_and_waits_for_nothing() {
    let (gateway, mut messages) = gateway();
    for expiry_s in [0, 9] {
        let properties = [&[0x18, 0, 0, 0, 60][..], &property::message_expiry_interval(expiry_s)].concat();
        // The session ends with the connection, and with it the delay of its will (MQTT-3.1.2-8).
        drop(connect(&gateway, Version::V5, &properties, 60));
        assert_eq!(expect_will(&mut messages).expiry_left_s, Some(expiry_s));
    }
}

#[test]
fn what_a_client_sent_comes_before_its_will() {
    let (gateway, mut messages) = gateway();
    let mut client = connect(&gateway, Version::V311, &[], 60);
    for id in 1..=100 {
        client.send(&publish(Version::V311, id, &topic(), GOOD, None));
    }
    client.leave();
    for _ in 0..100 {
        assert_eq!(&*next(&mut messages).topic, topic());
    }
    expect_will(&mut messages);
}

#[test]
fn a_host_that_ends_says_nothing_of_its_clients() {
    let (gateway, mut messages) = gateway();
    let mut client = connect(&gateway, Version::V5, &[], 60);
    tokio::runtime::Runtime::new().unwrap().block_on(gateway.source.drain());
    let goodbye = client.receive().unwrap();
    assert_eq!((goodbye.kind(), goodbye.reason()), (DISCONNECT, 0x8b));
    assert!(messages.blocking_recv().is_none());
}

/// How the host shows the device, once it has a row.
fn state(api: &Router) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = runtime.block_on(async {
        let request = Request::get("/v1/devices/sim-0").body(Body::empty()).unwrap();
        let response = api.clone().oneshot(request).await.unwrap();
        axum::body::to_bytes(response.into_body(), 1_000_000).await.unwrap()
    });
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    answer["state"].as_str().map(str::to_owned)
}

/// A client that says so of its connection, and whose will does.
fn connect_as(host: &Host, client_id: &str, connection: &ConnectionId) -> Client {
    let (topic, offline) = (presence(), rollcall_wire::presence::encode(false, connection));
    let will = Will { qos: 1, retain: true, properties: &[], topic: &topic, payload: offline.as_bytes() };
    let connect = ConnectPacket { will: Some(will), ..ConnectPacket::new(Version::V5, client_id) };
    let mut client = Client::say(host.address(), &connect);
    assert_eq!(client.receive().unwrap().reason(), 0);
    let online = rollcall_wire::presence::encode(true, connection);
    client.send(&publish(Version::V5, 1, &topic, online.as_bytes(), None));
    assert_eq!(client.receive().unwrap().reason(), 0);
    client
}

#[test]
fn the_late_will_of_a_connection_that_was_followed_marks_no_live_device_offline() {
    let host = Host::start();
    let api = router(Api { store: host.store.clone(), ops: host.ops.clone(), issued: None });
    let is = |wanted: &str| state(&api).as_deref() == Some(wanted);
    let mut numbers = 1..;
    let mut connection = || ConnectionId { boot: BootId(7), run: None, number: numbers.next().unwrap() };
    let mut heard = 0;
    let mut wait_for_presence = |more: u32| {
        heard += more;
        wait(&host.ops, &format!("rollcall_messages_presence_total {heard}"));
    };
    // By another client id the gateway cannot see that it is the same device; by the same it ends the first, whose will
    // comes while the second is there.
    for follower in ["other", "one"] {
        let mut half_open = connect_as(&host, "one", &connection());
        half_open.publish(&topic(), GOOD);
        rollcall_harness::wait::until("a row", PATIENCE, || Ok(is("online").then_some(()))).unwrap();
        let live = connect_as(&host, follower, &connection());
        half_open.leave();
        wait_for_presence(3);
        assert!(is("online"), "a late will, and it is {:?}", state(&api));
        live.leave();
        wait_for_presence(1);
        assert!(is("offline"), "it has left, and is {:?}", state(&api));
    }
    host.finish();
}

#[test]
fn a_will_is_presence_or_a_sample_as_any_message() {
    let host = Host::start();
    for (will_topic, payload) in [(presence(), &b"offline"[..]), (topic(), GOOD), ("t".to_owned(), b"m")] {
        let will = Will { qos: 0, retain: false, properties: &[], topic: &will_topic, payload };
        let connect = ConnectPacket { will: Some(will), ..ConnectPacket::new(Version::V5, "") };
        let mut client = Client::say(host.address(), &connect);
        assert_eq!(client.receive().unwrap().reason(), 0);
        client.leave();
    }
    let ops = host.ops.clone();
    assert_eq!(host.finish().len(), 1);
    let metrics = &ops.metrics;
    let counted = (metrics.received.get(), metrics.presence.get(), metrics.accepted.get());
    assert_eq!(counted, (3, 1, 1), "and one is rejected by its topic");
}
