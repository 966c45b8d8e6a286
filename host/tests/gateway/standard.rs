//! MQTT as the standard says it, by the numbers of its statements: what breaks them ends the connection.

use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{Client, ConnectPacket, DISCONNECT, PUBCOMP, SUBACK, Version, publish};
use rollcall_host::model::Verdict;

use crate::host::{Host, gateway};
use crate::{GOOD, common, next, topic};

/// A string with its length, as it stands in a packet.
fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

/// A packet with this first byte.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

#[test]
fn what_breaks_the_rules_of_mqtt_5_ends_the_connection_with_its_reason() {
    let host = Host::start();
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0];
    let topic = text(topic().as_bytes());
    let publish = |first: u8, properties: &[u8]| {
        let id: &[u8] = if first & 0b110 == 0 { &[] } else { &[0, 1] };
        packet(first, &[&topic, id, &[properties.len() as u8], properties, GOOD])
    };
    let subscribe = |first, filter: &[u8], options| packet(first, &[&[0, 9, 0], &text(filter), &[options]]);
    let nul_in_property = [&[0x26][..], &text(b"a"), &text(b"b\0")].concat();
    let invalid = packet(0x30, &[&text(b"rollcall/\xff"), &[0], GOOD]);
    let surrogate = packet(0x30, &[&text(b"rollcall/\xed\xa0\x80"), &[0], GOOD]);
    let nul = packet(0x30, &[&text(b"rollcall/1/sim-0/\0"), &[0], GOOD]);
    let response_to_wildcard = [&[0x08][..], &text(b"a/#")].concat();
    let cases: &[(&str, &[u8], u8)] = &[
        ("a second CONNECT, MQTT-3.1.0-2", &connect, 0x82),
        ("a length of five bytes, section 1.5.5", &[0x30, 0xff, 0xff, 0xff, 0xff, 1], 0x81),
        ("a length with more bytes than it needs, MQTT-1.5.5-1", &[0xc0, 0x80, 0], 0x81),
        ("a topic beyond the packet", &[0x30, 4, 0, 200, 0, 0], 0x81),
        ("properties beyond the packet", &[0x30, 5, 0, 1, b'a', 9, 0], 0x81),
        ("invalid UTF-8, MQTT-1.5.4-1", &invalid, 0x81),
        ("a surrogate, MQTT-1.5.4-1", &surrogate, 0x81),
        ("NUL in a topic, MQTT-4.7.3-2", &nul, 0x81),
        ("NUL in a property, MQTT-1.5.7-1", &publish(0x32, &nul_in_property), 0x81),
        ("an unknown property", &publish(0x32, &[0x7f]), 0x81),
        ("a property that is none of a PUBLISH", &publish(0x32, &[0x13, 0, 9]), 0x81),
        ("DUP with QoS 0, MQTT-3.3.1-2", &publish(0x38, &[]), 0x81),
        ("QoS 3, MQTT-3.3.1-4", &publish(0x36, &[]), 0x81),
        ("QoS 2, MQTT-3.2.2-11", &publish(0x34, &[]), 0x9b),
        ("packet id 0, MQTT-2.2.1-3", &packet(0x32, &[&topic, &[0, 0, 0], GOOD]), 0x81),
        ("a wildcard in a topic, MQTT-3.3.2-2", &packet(0x30, &[&text(b"rollcall/#"), &[0], GOOD]), 0x90),
        ("no topic and no alias, section 3.3.2.1", &[0x30, 3, 0, 0, 0], 0x82),
        ("topic alias 0, MQTT-3.3.2-8", &publish(0x30, &[0x23, 0, 0]), 0x81),
        ("a topic alias beyond the maximum, MQTT-3.2.2-17", &publish(0x30, &[0x23, 0, 33]), 0x94),
        ("a topic alias that stands for nothing", &[0x30, 6, 0, 0, 3, 0x23, 0, 1], 0x82),
        ("a wildcard in a Response Topic, MQTT-3.3.2-14", &publish(0x30, &response_to_wildcard), 0x82),
        ("a Subscription Identifier, MQTT-3.3.4-6", &publish(0x30, &[0x0b, 1]), 0x82),
        ("flags of a SUBSCRIBE, MQTT-3.8.1-1", &subscribe(0x80, b"a", 0), 0x81),
        ("SUBSCRIBE without a filter, MQTT-3.8.3-2", &[0x82, 3, 0, 9, 0], 0x82),
        ("SUBSCRIBE with packet id 0, MQTT-2.2.1-3", &packet(0x82, &[&[0, 0, 0], &text(b"a"), &[0]]), 0x81),
        ("a filter without a character, MQTT-4.7.3-1", &subscribe(0x82, b"", 0), 0x81),
        ("NUL in a filter, MQTT-4.7.3-2", &subscribe(0x82, b"\0", 0), 0x81),
        ("reserved bits of an option, MQTT-3.8.3-5", &subscribe(0x82, b"a", 0x40), 0x81),
        ("QoS 3 of a subscription, section 3.8.3.1", &subscribe(0x82, b"a", 0x03), 0x81),
        ("retain handling 3, section 3.8.3.1", &subscribe(0x82, b"a", 0x30), 0x81),
        ("no local for a shared subscription, MQTT-3.8.3-4", &subscribe(0x82, b"$share/g/a", 0x04), 0x82),
        ("flags of an UNSUBSCRIBE, MQTT-3.10.1-1", &packet(0xa0, &[&[0, 9, 0], &text(b"a")]), 0x81),
        ("UNSUBSCRIBE without a filter, MQTT-3.10.3-2", &[0xa2, 3, 0, 9, 0], 0x82),
        ("flags of a PINGREQ, MQTT-2.1.3-1", &[0xc1, 0], 0x81),
        ("a PINGREQ that holds something", &[0xc0, 1, 0], 0x81),
        ("flags of a DISCONNECT, MQTT-3.14.1-1", &[0xe1, 0], 0x81),
        ("a session asked for at the end, section 3.14.2.2.2", &[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9], 0x82),
        ("AUTH without a method, MQTT-4.12.0-7", &[0xf0, 0], 0x82),
        ("a CONNACK", &[0x20, 3, 0, 0, 0], 0x82),
        ("a PUBACK of nothing", &[0x40, 2, 0, 1], 0x82),
        ("a PUBREC of nothing", &[0x50, 2, 0, 1], 0x82),
        ("a PINGRESP", &[0xd0, 0], 0x82),
        ("packet type 0", &[0, 0], 0x81),
    ];
    for (name, packet, reason) in cases {
        let mut client = Client::connect(host.address(), Version::V5);
        client.send(packet);
        let disconnect = client.receive().unwrap_or_else(|| panic!("{name}: closed without a word"));
        assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, *reason), "{name}");
        assert_eq!(client.receive(), None, "{name}");
    }
    assert_eq!(host.finish(), []);
}

#[test]
fn what_breaks_the_rules_of_mqtt_3_1_1_ends_the_connection() {
    let host = Host::start();
    let connect = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 0];
    let topic = text(topic().as_bytes());
    let publish = |first: u8, id: &[u8]| packet(first, &[&topic, id, GOOD]);
    let subscribe = |first, filter: &[u8], qos| packet(first, &[&[0, 9], &text(filter), &[qos]]);
    let cases: &[(&str, &[u8])] = &[
        ("a second CONNECT, MQTT-3.1.0-2", &connect),
        ("a length of five bytes, section 2.2.3", &[0x30, 0xff, 0xff, 0xff, 0xff, 1]),
        ("a topic beyond the packet", &[0x30, 4, 0, 200, 0, 0]),
        ("invalid UTF-8, MQTT-1.5.3-1", &packet(0x30, &[&text(b"rollcall/\xff"), GOOD])),
        ("NUL in a topic, MQTT-1.5.3-2", &packet(0x30, &[&text(b"rollcall/\0"), GOOD])),
        ("DUP with QoS 0, MQTT-3.3.1-2", &publish(0x38, &[])),
        ("QoS 3, MQTT-3.3.1-4", &publish(0x36, &[0, 1])),
        ("packet id 0, MQTT-2.3.1-1", &publish(0x32, &[0, 0])),
        ("a wildcard in a topic, MQTT-3.3.2-2", &packet(0x30, &[&text(b"rollcall/+"), GOOD])),
        ("a topic without a character, MQTT-4.7.3-1", &packet(0x30, &[&text(b""), GOOD])),
        ("flags of a SUBSCRIBE, MQTT-3.8.1-1", &subscribe(0x80, b"a", 0)),
        ("SUBSCRIBE without a filter, MQTT-3.8.3-3", &[0x82, 2, 0, 9]),
        ("a filter without a character, MQTT-4.7.3-1", &subscribe(0x82, b"", 0)),
        ("reserved bits of a QoS, MQTT-3.8.3-4", &subscribe(0x82, b"a", 0x40)),
        ("QoS 3 of a subscription, MQTT-3.8.3-4", &subscribe(0x82, b"a", 0x03)),
        ("flags of an UNSUBSCRIBE, MQTT-3.10.1-1", &packet(0xa0, &[&[0, 9], &text(b"a")])),
        ("UNSUBSCRIBE without a filter, MQTT-3.10.3-2", &[0xa2, 2, 0, 9]),
        ("flags of a PINGREQ, MQTT-2.2.2-2", &[0xc1, 0]),
        ("a PINGREQ that holds something", &[0xc0, 1, 0]),
        ("flags of a DISCONNECT, MQTT-3.14.1-1", &[0xe1, 0]),
        ("a CONNACK", &[0x20, 2, 0, 0]),
        ("a PUBACK of nothing", &[0x40, 2, 0, 1]),
        ("a PINGRESP", &[0xd0, 0]),
        ("packet type 0, section 2.2.1", &[0, 0]),
        ("packet type 15, section 2.2.1", &[0xf0, 0]),
    ];
    for (name, packet) in cases {
        let mut client = Client::connect(host.address(), Version::V311);
        client.send(packet);
        assert_eq!(client.receive(), None, "{name}");
    }
    assert_eq!(host.finish(), []);
}

#[test]
fn what_is_refused_or_answered_does_not_end_the_connection() {
    let host = Host::start();
    for (version, unsubscribe, unsubscribed, completed) in [
        (Version::V311, &[0xa2, 5, 0, 9, 0, 1, b'a'][..], &[0, 9][..], &[0, 9][..]),
        (Version::V5, &[0xa2, 6, 0, 9, 0, 0, 1, b'a'], &[0, 9, 0, 0x11], &[0, 9, 0x92]),
    ] {
        let mut client = Client::connect(host.address(), version);
        client.send(unsubscribe);
        let unsuback = client.receive().unwrap();
        assert_eq!((unsuback.first, &*unsuback.body), (0xb0, unsubscribed), "MQTT-3.11.3-2, MQTT-3.10.4-5");
        // The last word on a message of QoS 2 that another server had.
        client.send(&[0x62, 2, 0, 9]);
        let pubcomp = client.receive().unwrap();
        assert_eq!(pubcomp.kind(), PUBCOMP, "MQTT-4.3.3-2 of 3.1.1, MQTT-4.3.3-11 of 5");
        assert!(pubcomp.body.starts_with(completed), "{pubcomp:?}");
        client.send(&[0xc0, 0]);
        assert_eq!(client.receive().unwrap().first, 0xd0, "MQTT-3.12.4-1");
        assert_eq!(client.publish(&topic(), GOOD).unwrap().reason(), 0);
    }
}

#[test]
fn a_message_that_expires_at_once_is_taken() {
    let (gateway, mut messages) = gateway();
    let mut client = Client::connect(gateway.address(), Version::V5);
    client.send(&publish(Version::V5, 1, &topic(), GOOD, Some(0)));
    let message = next(&mut messages);
    assert_eq!((message.expiry_left_s, &*message.payload), (Some(0), GOOD));
    message.ack.settle(Verdict::Accepted);
    assert_eq!(client.receive().unwrap().reason(), 0);
}

#[test]
fn a_topic_alias_stands_for_the_topic_that_it_got_last() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    let other = topic().replace("/status", "/presence");
    let mut publish = |topic: &str, payload: &[u8]| {
        client.send(&packet(0x32, &[&text(topic.as_bytes()), &[0, 1, 3, 0x23, 0, 1], payload]));
        client.receive().unwrap().reason()
    };
    assert_eq!(publish(&other, b"online"), 0);
    assert_eq!(publish("", b"offline"), 0, "section 3.3.2.3.4");
    assert_eq!(publish(&topic(), GOOD), 0);
    assert_eq!(publish("", br#"{"status":3,"seq":18,"boot":"9f3c5a0be1d24c77"}"#), 0);
    assert_eq!(host.finish().len(), 2);
}

#[test]
fn a_client_that_is_silent_for_one_and_a_half_times_its_keep_alive_is_cut_off() {
    let (gateway, _messages) = gateway();
    for version in [Version::V311, Version::V5] {
        let connect = ConnectPacket { keep_alive_s: 1, ..ConnectPacket::new(version, "") };
        let silent_since = Instant::now();
        let mut client = Client::say(gateway.address(), &connect);
        assert_eq!(client.receive().unwrap().reason(), 0);
        // What is not a whole packet is no sign of life.
        client.send(&[0x30, 100]);
        let last = client.receive();
        assert!(silent_since.elapsed() >= Duration::from_millis(1_500), "MQTT-3.1.2-24, MQTT-3.1.2-22");
        let said = last.map(|packet| (packet.kind(), packet.reason()));
        assert_eq!(said, (version == Version::V5).then_some((DISCONNECT, 0x8d)));
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
