//! The gateway over real sockets: what it takes, what it refuses and how, and when it acknowledges.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "common/host.rs"]
mod host;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use host::{Host, Open, bound, bound_with, gateway, start, wait};
use rollcall_harness::mqtt::{CONNACK, Client, DISCONNECT, PUBACK, SUBACK, Version, publish, publish_with};
use rollcall_host::model::Verdict;
use rollcall_host::ops::Ops;
use rollcall_host::source::{self, Credentials};
use rollcall_wire::codec::{MESSAGE_EXPIRY_S, Rejection};
use rollcall_wire::{DeviceId, Kind, Topic};
use tokio::sync::mpsc;

const GOOD: &[u8] = br#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":0}"#;

fn topic() -> String {
    Topic { device: DeviceId::new("sim-0").unwrap(), kind: Kind::Status }.name().to_string()
}

#[test]
fn a_publish_is_acknowledged_when_it_is_settled_and_not_before() {
    for version in [Version::V5, Version::V311] {
        let (gateway, mut messages) = gateway();
        let mut client = Client::connect(gateway.address(), version);
        client.send(&publish(version, 7, &topic(), GOOD, Some(MESSAGE_EXPIRY_S)));
        let message = messages.blocking_recv().unwrap();
        assert_eq!((&*message.topic, &*message.payload), (topic().as_str(), GOOD));
        assert_eq!(message.expiry_left_s, (version == Version::V5).then_some(MESSAGE_EXPIRY_S));
        assert!(client.silent(), "acknowledged too early");
        message.ack.settle(Verdict::Accepted);
        let puback = client.receive().unwrap();
        assert_eq!((puback.kind(), &puback.body[..2], puback.reason()), (PUBACK, &[0, 7][..], 0));
    }
}

#[test]
fn a_message_that_may_not_be_stored_is_not_acknowledged_and_its_connection_ends() {
    for version in [Version::V5, Version::V311] {
        let (gateway, mut messages) = gateway();
        let mut client = Client::connect(gateway.address(), version);
        client.send(&publish(version, 7, &topic(), GOOD, None));
        drop(messages.blocking_recv().unwrap());
        let last = client.receive();
        assert!(last.is_none_or(|packet| packet.kind() == DISCONNECT));
        assert_eq!(client.receive(), None);
    }
}

#[test]
fn pubacks_come_in_the_order_of_their_publishes() {
    let (gateway, mut messages) = gateway();
    let mut client = Client::connect(gateway.address(), Version::V5);
    for id in 1..=5 {
        client.send(&publish(Version::V5, id, &topic(), GOOD, None));
    }
    let mut acks: Vec<_> = (0..5).map(|_| messages.blocking_recv().unwrap().ack).collect();
    while let Some(ack) = acks.pop() {
        ack.settle(Verdict::Accepted);
    }
    let order: Vec<_> = (0..5).map(|_| client.receive().unwrap().body[1]).collect();
    assert_eq!(order, [1, 2, 3, 4, 5], "MQTT-4.6.0-2");
}

#[test]
fn bad_payloads_are_refused_with_their_name_and_a_good_one_goes_through_after_them() {
    let host = Host::start();
    let mut v5 = Client::connect(host.address(), Version::V5);
    let mut v311 = Client::connect(host.address(), Version::V311);
    let deep = "[".repeat(120);
    let long = format!("{{\"status\":3,\"x\":\"{}\"}}", "x".repeat(7_000));
    let nested = format!("{{\"status\":3,\"x\":{}", "[".repeat(7_000));
    let cases: &[(&[u8], Rejection)] = &[
        (br#"{"status":7}"#, Rejection::StatusOutOfRange),
        (br#"{"status":255}"#, Rejection::StatusOutOfRange),
        (br#"{"status":-1}"#, Rejection::StatusOutOfRange),
        (br#"{"status":99999999999999999999}"#, Rejection::StatusOutOfRange),
        (br#"{"status":3.0}"#, Rejection::StatusNotAnInteger),
        (br#"{"status":"3"}"#, Rejection::StatusNotAnInteger),
        (br#"{"status":null}"#, Rejection::StatusNotAnInteger),
        (b"{}", Rejection::MissingStatus),
        (b"", Rejection::Empty),
        (b"\xff\xfe{}", Rejection::NotUtf8),
        (b"3", Rejection::BadJson),
        (deep.as_bytes(), Rejection::BadJson),
        (nested.as_bytes(), Rejection::TooLong),
        (long.as_bytes(), Rejection::TooLong),
        (br#"{"status":3,"status":3}"#, Rejection::DuplicateField),
        (br#"{"status":3,"seq":1}"#, Rejection::IncompleteIdentity),
        (br#"{"status":3,"age_ms":-1}"#, Rejection::NegativeAge),
        (br#"{"status":3,"age_ms":2592000001}"#, Rejection::AgeBeyondHorizon),
    ];
    for (payload, rejection) in cases {
        let puback = v5.publish(&topic(), payload).unwrap();
        assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0x99), "{rejection}");
        assert!(String::from_utf8_lossy(&puback.body).contains(rejection.name()), "{puback:?}");
        assert_eq!(v311.publish(&topic(), payload).unwrap().kind(), PUBACK, "{rejection}");
    }
    assert_eq!(v5.publish(&topic(), GOOD).unwrap().reason(), 0);
    assert_eq!(v5.publish(&topic(), br#"{"status":2,"unknown":[{"field":null}]}"#).unwrap().reason(), 0);
    assert_eq!(host.finish().len(), 2);
}

#[test]
fn a_foreign_topic_is_refused_with_a_reason_code() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    for topic in [
        "status",
        "rollcall/1/sim.0/status",
        "rollcall/1/SIM-0/status",
        "rollcall/f/sim-0/status",
        &format!("rollcall/1/{}/status", "a".repeat(33)),
    ] {
        assert_eq!(client.publish(topic, GOOD).unwrap().reason(), 0x90, "{topic}");
    }
    assert_eq!(host.finish(), []);
}

#[test]
fn a_wildcard_in_a_topic_ends_the_connection_with_a_reason_code() {
    for topic in ["rollcall/+/sim-0/status", "rollcall/#"] {
        let host = Host::start();
        let mut client = Client::connect(host.address(), Version::V5);
        let disconnect = client.publish(topic, GOOD).unwrap();
        assert_eq!(disconnect.kind(), DISCONNECT);
        assert!(disconnect.reason() >= 0x80, "{disconnect:?}");
    }
}

#[test]
fn a_packet_of_a_megabyte_ends_its_connection_with_packet_too_large_and_no_other() {
    let host = Host::start();
    let mut good = Client::connect(host.address(), Version::V5);
    let mut large = Client::connect(host.address(), Version::V5);
    // The limit is known from the length in the first bytes, so the rest need not be sent.
    large.send(&publish(Version::V5, 1, &topic(), &vec![b' '; 1 << 20], None)[..100]);
    let disconnect = large.receive().unwrap();
    assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, 0x95));
    assert_eq!(good.publish(&topic(), GOOD).unwrap().reason(), 0);
}

#[test]
fn a_subscription_is_refused_with_a_reason_code() {
    let host = Host::start();
    for (version, code) in [(Version::V5, 0x87), (Version::V311, 0x80)] {
        let suback = Client::connect(host.address(), version).subscribe("rollcall/#").unwrap();
        assert_eq!((suback.kind(), suback.body.last()), (SUBACK, Some(&code)));
    }
}

#[test]
fn a_retained_status_is_refused_and_retained_presence_is_taken() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    let mut retained = |topic: &str, payload: &[u8]| {
        client.send(&publish_with(Version::V5, 0x33, Some(1), topic, payload, None));
        client.receive().unwrap().reason()
    };
    assert_eq!(retained(&topic(), GOOD), 0x99);
    assert_eq!(retained(&topic().replace("/status", "/presence"), b"online"), 0);
    assert_eq!(host.finish(), []);
}

#[test]
fn two_thousand_poison_messages_do_not_keep_a_good_one_from_being_counted() {
    let mut random = common::random();
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    for _ in 0..2_000 {
        let poison: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
        assert_eq!(client.publish(&topic(), &poison).unwrap().reason(), 0x99);
    }
    assert_eq!(client.publish(&topic(), GOOD).unwrap().reason(), 0);
    assert_eq!(host.finish().len(), 1);
}

#[test]
fn bytes_that_are_no_mqtt_end_their_connection_only() {
    let mut random = common::random();
    let host = Host::start();
    for _ in 0..200 {
        let mut client = Client::raw(host.address(), Version::V5);
        let garbage: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        client.send(&garbage);
        let mut torn = Client::connect(host.address(), Version::V5);
        let publish = publish(Version::V5, 1, &topic(), GOOD, None);
        torn.send(&publish[..random.usize(..publish.len())]);
    }
    let mut client = Client::connect(host.address(), Version::V5);
    assert_eq!(client.publish(&topic(), GOOD).unwrap().reason(), 0);
    assert_eq!(host.finish().len(), 1);
}

#[test]
fn a_message_of_qos_0_is_counted_even_if_its_sender_leaves_at_once() {
    for version in [Version::V5, Version::V311] {
        let host = Host::start();
        let mut client = Client::connect(host.address(), version);
        client.send(&publish_with(version, 0x30, None, &topic(), GOOD, None));
        client.send(&[0xe0, 0]);
        assert_eq!(client.receive(), None);
        assert_eq!(host.finish().len(), 1);
    }
}

#[test]
fn the_newest_sample_first_does_not_keep_the_older_ones_from_being_counted() {
    for version in [Version::V5, Version::V311] {
        let host = Host::start();
        let mut client = Client::connect(host.address(), version);
        for seq in std::iter::once(300).chain(0..300) {
            assert_eq!(client.publish(&topic(), &sample(1, seq)).unwrap().reason(), 0);
        }
        assert_eq!(host.finish().len(), 301, "{version:?}");
    }
}

#[test]
fn forged_boots_and_a_forged_sequence_make_no_sample_count_twice_or_not_at_all() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    let mut publish = |boot, seq| client.publish(&topic(), &sample(boot, seq)).unwrap();
    for seq in 0..10 {
        assert_eq!(publish(1, seq).reason(), 0);
    }
    assert_eq!(publish(1, (1 << 53) - 1).reason(), 0);
    for boot in 2..11 {
        assert_eq!(publish(boot, 0).reason(), 0);
    }
    for seq in 0..60 {
        assert_eq!(publish(1, seq).reason(), 0, "ten of these are repetitions, and none is beyond telling");
    }
    // So many boots that the first is closed: its samples can be told no more, and that is what is said.
    for boot in 11..30 {
        assert_eq!(publish(boot, 0).reason(), 0);
    }
    let puback = publish(1, 3);
    assert_eq!(puback.reason(), 0x99);
    assert!(String::from_utf8_lossy(&puback.body).contains("cannot_tell"), "{puback:?}");
    let counted: Vec<_> = host.finish().iter().map(|record| record.id.unwrap()).collect();
    assert_eq!(counted.len(), 60 + 1 + 28);
    assert_eq!(counted.iter().collect::<BTreeSet<_>>().len(), counted.len(), "one of them twice");
}

/// A full payload.
fn sample(boot: u64, seq: u64) -> Vec<u8> {
    format!(r#"{{"status":3,"seq":{seq},"boot":"{boot:016x}","age_ms":0}}"#).into_bytes()
}

#[test]
fn a_publish_that_arrives_in_two_pieces_is_counted_even_if_its_sender_leaves_at_once() {
    const ROUNDS: u64 = 30;
    for version in [Version::V5, Version::V311] {
        for (qos, goodbye) in [(0, &[0xe0, 0][..]), (0, &[]), (1, &[0xe0, 0]), (1, &[])] {
            let host = Host::start();
            for seq in 0..ROUNDS {
                let payload = format!(r#"{{"status":3,"seq":{seq},"boot":"9f3c5a0be1d24c77"}}"#);
                let id = (qos == 1).then_some(7);
                let packet = publish_with(version, 0x30 | qos << 1, id, &topic(), payload.as_bytes(), None);
                let (first, rest) = packet.split_at(packet.len() - 4);
                let mut client = Client::connect(host.address(), version);
                client.send(first);
                // The pause is the fault: it makes two segments.
                std::thread::sleep(Duration::from_millis(2));
                client.send(&[rest, goodbye].concat());
                client.leave();
            }
            assert_eq!(host.finish().len() as u64, ROUNDS, "{version:?}, QoS {qos}, {goodbye:?}");
        }
    }
}

#[test]
fn a_client_of_3_1_1_cannot_have_more_in_flight_than_the_bound() {
    let (gateway, mut messages) = gateway();
    let mut client = Client::connect(gateway.address(), Version::V311);
    for id in 1..=300 {
        client.send(&publish(Version::V311, id, &topic(), GOOD, None));
    }
    let mut taken: VecDeque<_> = (0..256).map(|_| messages.blocking_recv().unwrap()).collect();
    for expected in 1..=300_u16 {
        taken.extend(std::iter::from_fn(|| messages.try_recv().ok()));
        assert!(taken.len() <= 256, "{} in flight", taken.len());
        let message = taken.pop_front().unwrap_or_else(|| messages.blocking_recv().unwrap());
        message.ack.settle(Verdict::Accepted);
        assert_eq!(client.receive().unwrap().body, expected.to_be_bytes());
    }
}

#[test]
fn an_answer_is_not_held_up_by_the_next_message_of_its_client_that_waits_for_room() {
    let (inbox, mut messages) = mpsc::channel(1);
    let ops = Arc::new(Ops::default());
    let gateway = Open::new(bound_with(None, inbox, ops.clone()));
    let mut client = Client::connect(gateway.address(), Version::V5);
    client.send(&publish(Version::V5, 1, &topic(), GOOD, None));
    let first = messages.blocking_recv().unwrap();
    // The second takes the only place, the third waits for it, and the fourth is behind that one.
    client.send(&[2, 3, 4].map(|id| publish(Version::V5, id, &topic(), GOOD, None)).concat());
    wait(&ops, "rollcall_messages_received_total 3");
    first.ack.settle(Verdict::Accepted);
    assert_eq!(client.receive().unwrap().body[..2], [0, 1]);
    for id in 2..=4 {
        messages.blocking_recv().unwrap().ack.settle(Verdict::Accepted);
        assert_eq!(client.receive().unwrap().body[..2], [0, id]);
    }
}

#[test]
fn qos_2_is_refused_with_a_reason_code() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    client.send(&publish_with(Version::V5, 0x34, Some(1), &topic(), GOOD, None));
    let disconnect = client.receive().unwrap();
    assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, 0x9b));
}

#[test]
fn only_who_shows_the_credentials_is_let_in() {
    let (inbox, _messages) = source::inbox();
    let gateway = start(Some(Credentials { user: "fleet".into(), password: "secret".into() }), inbox);
    let answer = |version, login| {
        let connack = Client::hello(gateway.address(), version, "test", login).receive().unwrap();
        assert_eq!(connack.kind(), CONNACK);
        connack.body[1]
    };
    assert_eq!(answer(Version::V5, Some(("fleet", "secret"))), 0);
    assert_eq!(answer(Version::V311, Some(("fleet", "secret"))), 0);
    for login in [None, Some(("fleet", "wrong")), Some(("other", "secret")), Some(("fleet", ""))] {
        assert_eq!(answer(Version::V5, login), 0x86, "{login:?}");
        assert_eq!(answer(Version::V311, login), 4, "{login:?}");
    }
}

#[test]
fn a_client_without_an_id_is_told_the_one_it_got() {
    let (gateway, _messages) = gateway();
    let connack = Client::hello(gateway.address(), Version::V5, "", None).receive().unwrap();
    assert_eq!(connack.body[1], 0);
    assert!(String::from_utf8_lossy(&connack.body).contains("unnamed-0"), "{connack:?}");
}

#[test]
fn draining_acknowledges_all_that_was_taken() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (gateway, mut messages) = gateway();
    let mut client = Client::connect(gateway.address(), Version::V5);
    let settling = std::thread::spawn(move || {
        let mut taken = 0;
        while let Some(message) = messages.blocking_recv() {
            message.ack.settle(Verdict::Accepted);
            taken += 1;
        }
        taken
    });
    for id in 1..=200 {
        client.send(&publish(Version::V5, id, &topic(), GOOD, None));
    }
    assert_eq!(client.receive().unwrap().body[1], 1);
    runtime.block_on(gateway.source.drain());
    let rest: Vec<_> = std::iter::from_fn(|| client.receive()).collect();
    let (goodbye, pubacks) = rest.split_last().unwrap();
    assert_eq!((goodbye.kind(), goodbye.reason()), (DISCONNECT, 0x8b), "server shutting down");
    let answered =
        |reason| pubacks.iter().filter(|packet| packet.kind() == PUBACK && packet.reason() == reason).count();
    assert_eq!(answered(0) + answered(0x83), pubacks.len(), "success or not taken");
    assert_eq!(1 + answered(0), settling.join().unwrap());
}

#[test]
fn a_version_that_is_not_spoken_here_is_told_so() {
    let (gateway, _messages) = gateway();
    let body = |name: &[u8], level| [&[0, name.len() as u8][..], name, &[level, 2, 0, 60, 0, 0]].concat();
    for (name, level, answer) in [
        (&b"MQTT"[..], 0x84, &[0, 1][..]),
        (b"MQIsdp", 3, &[0, 1]),
        (b"MQTT", 3, &[0, 1]),
        (b"MQTT", 6, &[0, 0x84, 0]),
    ] {
        let mut client = Client::raw(gateway.address(), Version::V5);
        let body = body(name, level);
        client.send(&[&[0x10, body.len() as u8][..], &body].concat());
        let connack = client.receive().unwrap();
        assert_eq!((connack.kind(), connack.body.as_slice()), (CONNACK, answer), "MQTT-3.1.2-2, {level}");
        assert_eq!(client.receive(), None);
    }
}

#[test]
fn an_unsubscribe_is_answered_and_its_connection_goes_on() {
    let host = Host::start();
    for (version, unsubscribe, answer) in [
        (Version::V311, &[0xa2, 5, 0, 9, 0, 1, b'a'][..], &[0, 9][..]),
        (Version::V5, &[0xa2, 6, 0, 9, 0, 0, 1, b'a'], &[0, 9, 0, 0x11]),
    ] {
        let mut client = Client::connect(host.address(), version);
        client.send(unsubscribe);
        assert_eq!(client.receive().unwrap().body, answer, "MQTT-3.11.3-2");
        assert_eq!(client.publish(&topic(), GOOD).unwrap().reason(), 0);
    }
}

#[test]
fn what_breaks_the_rules_of_mqtt_5_ends_the_connection_with_its_reason() {
    let host = Host::start();
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0];
    let nul = publish(Version::V5, 1, "rollcall/1/sim-0/\0", GOOD, None);
    for (name, packet, reason) in [
        ("a second CONNECT, MQTT-3.1.0-2", &connect[..], 0x82),
        ("SUBSCRIBE without a filter, MQTT-3.8.3-2", &[0x82, 3, 0, 9, 0], 0x82),
        ("UNSUBSCRIBE without a filter, MQTT-3.10.3-2", &[0xa2, 3, 0, 9, 0], 0x82),
        ("NUL in a topic, MQTT-4.7.3-2", &nul, 0x81),
        ("an unknown topic alias", &[0x30, 6, 0, 0, 3, 0x23, 0, 1], 0x94),
        ("a length of five bytes", &[0x30, 0xff, 0xff, 0xff, 0xff, 1], 0x81),
        ("a topic beyond the packet", &[0x30, 4, 0, 200, 0, 0], 0x81),
    ] {
        let mut client = Client::connect(host.address(), Version::V5);
        client.send(packet);
        let disconnect = client.receive().unwrap_or_else(|| panic!("{name}: closed without a word"));
        assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, reason), "{name}");
        assert_eq!(client.receive(), None, "{name}");
    }
    assert_eq!(host.finish(), []);
}

#[test]
fn more_than_the_receive_maximum_in_flight_ends_the_connection_with_a_reason_code() {
    let (gateway, _messages) = gateway();
    let mut client = Client::connect(gateway.address(), Version::V5);
    for id in 1..=257 {
        client.send(&publish(Version::V5, id, &topic(), GOOD, None));
    }
    let disconnect = client.receive().unwrap();
    assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, 0x93), "MQTT-3.3.4-7");
}

#[test]
fn until_it_is_opened_the_gateway_says_that_it_is_unavailable() {
    let (inbox, _messages) = source::inbox();
    let gateway = bound(None, inbox);
    for (version, code) in [(Version::V5, 0x88), (Version::V311, 3)] {
        let mut client = Client::hello(gateway.address(), version, "test", None);
        let connack = client.receive().unwrap();
        assert_eq!((connack.kind(), connack.body[1]), (CONNACK, code));
        assert_eq!(client.receive(), None);
    }
    let gateway = Open::new(gateway);
    Client::connect(gateway.address(), Version::V5);
}
