//! MQTT as the standard says it, by the numbers of its statements: what breaks them ends the connection.

use rollcall_harness::mqtt::{Client, DISCONNECT, SUBACK, Version, publish, publish_with};

use crate::host::{Host, gateway};
use crate::{GOOD, common, topic};

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
fn qos_2_is_refused_with_a_reason_code() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    client.send(&publish_with(Version::V5, 0x34, Some(1), &topic(), GOOD, None));
    let disconnect = client.receive().unwrap();
    assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, 0x9b));
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
fn more_than_the_receive_maximum_in_flight_ends_the_connection_with_a_reason_code() {
    let (gateway, _messages) = gateway();
    let mut client = Client::connect(gateway.address(), Version::V5);
    for id in 1..=257 {
        client.send(&publish(Version::V5, id, &topic(), GOOD, None));
    }
    let disconnect = client.receive().unwrap();
    assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, 0x93), "MQTT-3.3.4-7");
}
