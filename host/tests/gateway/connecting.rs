//! Who is let in, and what else is said to a CONNECT.

use rollcall_harness::mqtt::{CONNACK, Client, Version};
use rollcall_host::source::{self, Credentials};

use crate::host::{Open, bound, gateway, start};

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
