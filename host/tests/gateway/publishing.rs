//! Messages: which are taken, which are refused and how, and when they are acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rollcall_harness::mqtt::{Client, DISCONNECT, PUBACK, Version, publish, publish_with};
use rollcall_host::model::Verdict;
use rollcall_host::ops::Ops;
use rollcall_wire::codec::{MESSAGE_EXPIRY_S, Rejection};
use tokio::sync::mpsc;

use crate::common;
use crate::host::{Host, Open, bound_with, gateway, wait};
use crate::{GOOD, topic};

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
