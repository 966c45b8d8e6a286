//! Who is let in, and what else is said to a CONNECT.

use rollcall_harness::mqtt::{
    CONNACK, Client, ConnectPacket, DISCONNECT, PUBACK, Version, Will, property, publish,
};
use rollcall_host::model::Verdict;
use rollcall_host::source::{self, Credentials};

use crate::host::{Host, Open, bound, gateway, start};
use crate::{GOOD, topic};

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

#[test]
fn a_second_client_with_the_same_id_ends_the_first() {
    let host = Host::start();
    for first_version in [Version::V311, Version::V5] {
        for second_version in [Version::V311, Version::V5] {
            let connect = |version| {
                let mut client = Client::hello(host.address(), version, "sim-0", None);
                assert_eq!(client.receive().unwrap().reason(), 0);
                client
            };
            let mut first = connect(first_version);
            assert_eq!(first.publish(&topic(), GOOD).unwrap().reason(), 0);
            let mut second = connect(second_version);
            if first_version == Version::V5 {
                let disconnect = first.receive().unwrap();
                assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, 0x8e), "MQTT-3.1.4-3");
            }
            assert_eq!(first.receive(), None, "MQTT-3.1.4-2 of 3.1.1");
            assert_eq!(second.publish(&topic(), GOOD).unwrap().reason(), 0);
        }
    }
    assert_eq!(host.finish().len(), 1);
}

/// A CONNECT with these flags and nothing but what follows the keep-alive and, in MQTT 5, the properties.
fn connect(version: Version, flags: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = [0, 4, b'M', b'Q', b'T', b'T', version as u8, flags, 0, 60];
    let length = [properties.len() as u8];
    let properties = if version == Version::V5 { [&length, properties].concat() } else { Vec::new() };
    let body = [&head[..], &properties, payload].concat();
    [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

#[test]
fn a_malformed_connect_is_told_so_in_mqtt_5_and_ends_without_a_word_in_3_1_1() {
    let (gateway, _messages) = gateway();
    let id = b"\0\x01a";
    let will = b"\0\x01a\0\x01t\0\x01m";
    let will_of_5 = b"\0\x01a\0\0\x01t\0\x01m";
    for version in [Version::V311, Version::V5] {
        let will: &[u8] = if version == Version::V5 { will_of_5 } else { will };
        for (name, flags, payload) in [
            ("the reserved flag, MQTT-3.1.2-3", 0b0000_0011, &id[..]),
            ("a will's QoS without a will, MQTT-3.1.2-11", 0b0000_1010, id),
            ("a will's retain without a will, MQTT-3.1.2-13, -15 of 3.1.1", 0b0010_0010, id),
            ("a will of QoS 3, MQTT-3.1.2-12, -14 of 3.1.1", 0b0001_1110, will),
            ("no will where one is announced, MQTT-3.1.2-9", 0b0000_0110, id),
            ("no user where one is announced, MQTT-3.1.2-17, -19 of 3.1.1", 0b1000_0010, id),
            ("no password where one is announced, MQTT-3.1.2-19, -21 of 3.1.1", 0b0100_0010, id),
            ("no id, MQTT-3.1.3-3", 0b0000_0010, b""),
            ("something behind the last field", 0b0000_0010, b"\0\x01a\0"),
            ("invalid UTF-8, MQTT-1.5.4-1, MQTT-1.5.3-1 of 3.1.1", 0b0000_0010, b"\0\x01\xff"),
            ("NUL in an id, MQTT-1.5.4-2, MQTT-1.5.3-2 of 3.1.1", 0b0000_0010, b"\0\x01\0"),
            ("NUL in a user name, MQTT-1.5.4-2", 0b1000_0010, b"\0\x01a\0\x01\0"),
        ] {
            let mut client = Client::raw(gateway.address(), version);
            client.send(&connect(version, flags, &[], payload));
            if version == Version::V5 {
                let connack = client.receive().unwrap_or_else(|| panic!("{name}: no answer"));
                assert_eq!((connack.kind(), connack.reason()), (CONNACK, 0x81), "{name}");
            }
            assert_eq!(client.receive(), None, "{name}, {version:?}");
        }
    }
}

#[test]
fn what_mqtt_5_has_a_code_for_is_refused_by_it() {
    let (gateway, _messages) = gateway();
    let method = b"\x15\0\x05PLAIN";
    for (name, packet, code) in [
        ("an authentication method, MQTT-4.12.0-1", connect(Version::V5, 2, method, b"\0\0"), 0x8c),
        ("authentication data alone", connect(Version::V5, 2, b"\x16\0\x01x", b"\0\0"), 0x82),
        (
            "a will of QoS 2, MQTT-3.2.2-12",
            connect(Version::V5, 0b0001_0110, &[], b"\0\0\0\0\x01t\0\0"),
            0x9b,
        ),
        (
            "a will to a wildcard, MQTT-3.3.2-2",
            connect(Version::V5, 0b0000_0110, &[], b"\0\0\0\0\x01#\0\0"),
            0x90,
        ),
    ] {
        let mut client = Client::raw(gateway.address(), Version::V5);
        client.send(&packet);
        let connack = client.receive().unwrap();
        assert_eq!((connack.kind(), connack.reason()), (CONNACK, code), "{name}");
        assert_eq!(client.receive(), None, "{name}");
    }
}

#[test]
fn a_password_without_a_user_is_an_error_in_3_1_1_alone() {
    let (gateway, _messages) = gateway();
    let answer = |version| {
        let mut client = Client::raw(gateway.address(), version);
        client.send(&connect(version, 0b0100_0010, &[], b"\0\x01a\0\x01p"));
        client.receive().map(|connack| connack.reason())
    };
    assert_eq!(answer(Version::V311), None, "MQTT-3.1.2-22");
    assert_eq!(answer(Version::V5), Some(0));
}

#[test]
fn a_client_of_3_1_1_without_an_id_cannot_have_a_session_that_lasts() {
    let (gateway, _messages) = gateway();
    let answer = |version, clean_start| {
        let connect = ConnectPacket { clean_start, ..ConnectPacket::new(version, "") };
        let mut client = Client::say(gateway.address(), &connect);
        (client.receive().unwrap().reason(), client)
    };
    assert_eq!(answer(Version::V311, true).0, 0, "MQTT-3.1.3-6");
    let (code, mut client) = answer(Version::V311, false);
    assert_eq!((code, client.receive()), (2, None), "MQTT-3.1.3-8");
    assert_eq!(answer(Version::V5, false).0, 0, "MQTT-3.1.3-6");
}

#[test]
fn no_packet_is_longer_than_its_client_takes() {
    let (gateway, mut messages) = gateway();
    let settling = std::thread::spawn(move || {
        while let Some(message) = messages.blocking_recv() {
            message.ack.settle(Verdict::Accepted);
        }
    });
    let (mut welcome, mut refused, mut silent) = (0, 0, 0);
    for most in 1..80 {
        let connect = ConnectPacket {
            properties: &property::maximum_packet_size(most),
            ..ConnectPacket::new(Version::V5, "")
        };
        let mut client = Client::say(gateway.address(), &connect);
        let Some(connack) = client.receive() else {
            silent += 1;
            continue;
        };
        assert_eq!(connack.kind(), CONNACK);
        assert!(2 + connack.body.len() <= most as usize, "MQTT-3.1.2-24: {most}");
        if connack.reason() == 0 {
            welcome += 1;
            client.send(&publish(Version::V5, 7, &topic(), GOOD, None));
            assert_eq!(client.receive().unwrap().kind(), PUBACK);
        } else {
            refused += 1;
            assert_eq!((connack.reason(), client.receive()), (0x95, None));
        }
    }
    assert!(
        welcome > 0 && refused > 0 && silent == 4,
        "{welcome} welcome, {refused} refused, {silent} not answered"
    );
    drop(gateway);
    settling.join().unwrap();
}

#[test]
fn no_client_has_a_keep_alive_above_an_hour() {
    let (gateway, _messages) = gateway();
    for (asked_s, told) in [(0, true), (60, false), (3_600, false), (3_601, true), (u16::MAX, true)] {
        let connect = ConnectPacket { keep_alive_s: asked_s, ..ConnectPacket::new(Version::V5, "test") };
        let connack = Client::say(gateway.address(), &connect).receive().unwrap();
        let hour = property::server_keep_alive(3_600);
        let is_told = connack.body.windows(hour.len()).any(|bytes| bytes == hour);
        assert_eq!((connack.reason(), is_told), (0, told), "MQTT-3.1.2-21: {asked_s}");
    }
}

#[test]
fn a_will_of_3_1_1_may_have_any_qos() {
    let (gateway, _messages) = gateway();
    for qos in 0..3 {
        let will = Will { qos, retain: false, properties: &[], topic: "t", payload: b"m" };
        let connect = ConnectPacket { will: Some(will), ..ConnectPacket::new(Version::V311, "") };
        assert_eq!(Client::say(gateway.address(), &connect).receive().unwrap().reason(), 0, "MQTT-3.1.2-14");
    }
}
