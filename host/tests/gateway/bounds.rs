//! What one client can take of the gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{CONNACK, Client, Version};
use rollcall_host::ops::Ops;
use rollcall_host::source::{self, Credentials};

use crate::host::{Open, bound_with, wait};

const PING_REQUEST: [u8; 2] = [0xc0, 0];

#[test]
fn of_what_is_no_message_a_hundred_packets_a_second_are_read() {
    const PING_RESPONSE: u8 = 13;
    let ops = Arc::new(Ops::default());
    let (inbox, _messages) = source::inbox();
    let gateway = Open::new(bound_with(None, inbox, ops.clone()));
    for version in [Version::V5, Version::V311] {
        let start = Instant::now();
        let mut client = Client::connect(gateway.address(), version);
        client.send(&PING_REQUEST.repeat(250));
        for _ in 0..250 {
            assert_eq!(client.receive().unwrap().kind(), PING_RESPONSE);
        }
        assert!(start.elapsed() >= Duration::from_secs(2), "{version:?}: {:?}", start.elapsed());
    }
    wait(&ops, "rollcall_gateway_refusals_total{reason=\"packet_rate\"} 4");
}

#[test]
fn who_leaves_with_much_of_that_unread_keeps_no_connection_for_it() {
    let ops = Arc::new(Ops::default());
    let (inbox, _messages) = source::inbox();
    let gateway = Open::new(bound_with(None, inbox, ops.clone()));
    for version in [Version::V5, Version::V311] {
        let mut client = Client::connect(gateway.address(), version);
        // Five minutes of them.
        client.send(&PING_REQUEST.repeat(30_000));
        wait(&ops, "rollcall_connections_open 1");
        drop(client);
        wait(&ops, "rollcall_connections_open 0");
    }
}

#[test]
fn ten_wrong_passwords_are_answered_slowly_and_then_no_more_is_heard_of_that_name() {
    let ops = Arc::new(Ops::default());
    let (inbox, _messages) = source::inbox();
    let fleet = Some(Credentials { user: "fleet".into(), password: "secret".into() });
    let gateway = Open::new(bound_with(fleet, inbox, ops.clone()));
    let hello = |version, login| Client::hello(gateway.address(), version, "", Some(login));
    let code = |mut client: Client| {
        let connack = client.receive().unwrap();
        assert_eq!(connack.kind(), CONNACK);
        connack.body[1]
    };
    let start = Instant::now();
    let guesses: Vec<_> = (0..10).map(|_| hello(Version::V5, ("fleet", "wrong"))).collect();
    assert_eq!(guesses.into_iter().map(code).collect::<Vec<_>>(), [0x86; 10]);
    assert!(start.elapsed() >= Duration::from_secs(1));
    for password in ["wrong", "secret"] {
        assert_eq!(code(hello(Version::V5, ("fleet", password))), 0x97);
        assert_eq!(code(hello(Version::V311, ("fleet", password))), 5);
    }
    assert_eq!(code(hello(Version::V5, ("other", "secret"))), 0x86);
    wait(&ops, "rollcall_gateway_refusals_total{reason=\"too_many_failed_logins\"} 4");
}
