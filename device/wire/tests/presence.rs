//! What devices say of their presence: golden bytes, both ways, and what is not understood.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use rollcall_wire::codec::PAYLOAD_MAX;
use rollcall_wire::presence::{Announcement, ConnectionId, ENCODED_MAX, decode, encode};
use rollcall_wire::{BootId, RunId};

const BOOT: BootId = BootId(0x9f3c_5a0b_e1d2_4c77);

/// These bytes are on the wire of every device out there: they change only with a new version.
#[test]
fn golden_payloads() {
    let first = ConnectionId { boot: BOOT, run: None, number: 1 };
    let run = Some(RunId(0x0b5a_7e11_90d3_c2f4));
    for (is_online, connection, golden) in [
        (true, first, r#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":1}"#),
        (false, first, r#"{"state":"offline","boot":"9f3c5a0be1d24c77","connection":1}"#),
        (
            false,
            ConnectionId { run, number: 40, ..first },
            r#"{"state":"offline","boot":"9f3c5a0be1d24c77","run":"0b5a7e1190d3c2f4","connection":40}"#,
        ),
    ] {
        assert_eq!(encode(is_online, &connection), golden);
        let connection = Some(connection);
        assert_eq!(decode(golden.as_bytes()), Some(Announcement { is_online, connection }));
    }
}

#[test]
fn the_longest_payload_is_not_cut_off() {
    let widest = ConnectionId { boot: BootId(u64::MAX), run: Some(RunId(u64::MAX)), number: u32::MAX };
    assert_eq!(encode(false, &widest).len(), ENCODED_MAX);
}

#[test]
fn what_does_not_say_which_connection_is_read_too() {
    for (payload, is_online) in [
        ("online", true),
        ("offline", false),
        (r#"{"state":"online"}"#, true),
        (r#" {"x":{"state":1}, "state" : "offline", "run":"0b5a7e1190d3c2f4"} "#, false),
    ] {
        assert_eq!(
            decode(payload.as_bytes()),
            Some(Announcement { is_online, connection: None }),
            "{payload}"
        );
    }
    let mut longest = r#"{"state":"online"}"#.to_owned();
    longest.push_str(&" ".repeat(PAYLOAD_MAX - longest.len()));
    assert!(decode(longest.as_bytes()).is_some());
    assert_eq!(decode(format!("{longest} ").as_bytes()), None);
}

#[test]
fn what_is_something_else_is_not_understood() {
    for payload in [
        "",
        "1",
        "Online",
        "online ",
        "\"online\"",
        "{}",
        r#"{"state":"online"}}"#,
        r#"{"state":"away"}"#,
        r#"{"state":true}"#,
        r#"{"state":"online","state":"offline"}"#,
        r#"{"boot":"9f3c5a0be1d24c77","connection":1}"#,
        r#"{"state":"online","boot":"9f3c5a0be1d24c77"}"#,
        r#"{"state":"online","connection":1}"#,
        r#"{"state":"online","boot":"9F3C5A0BE1D24C77","connection":1}"#,
        r#"{"state":"online","boot":7,"connection":1}"#,
        r#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":-1}"#,
        r#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":1.0}"#,
        r#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":"1"}"#,
        r#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":4294967296}"#,
        r#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":1,"connection":1}"#,
        r#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":1,"run":null}"#,
        r#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":1,"run":"1"}"#,
    ] {
        assert_eq!(decode(payload.as_bytes()), None, "{payload}");
    }
    assert_eq!(decode(b"{\"state\":\"online\",\"x\":\"\xff\"}"), None);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        is_online in any::<bool>(),
        boot in any::<u64>().prop_map(BootId),
        run in prop::option::of(any::<u64>().prop_map(RunId)),
        number in any::<u32>(),
    ) {
        let connection = ConnectionId { boot, run, number };
        let payload = encode(is_online, &connection);
        prop_assert!(payload.len() <= ENCODED_MAX);
        let announcement = Announcement { is_online, connection: Some(connection) };
        prop_assert_eq!(decode(payload.as_bytes()), Some(announcement));
        // A version to come may say more.
        let more = payload.replace("{\"state\"", "{\"x\":[1],\"state\"");
        prop_assert_eq!(decode(more.as_bytes()), Some(announcement));
    }

    #[test]
    fn any_bytes_are_read_or_not(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&payload);
    }
}
