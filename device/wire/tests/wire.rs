//! The wire format: golden bytes, both ways, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use rollcall_wire::codec::{
    AGE_MAX_MS, ENCODED_MAX, EXPIRY_LEFT_MIN_S, MESSAGE_EXPIRY_S, PAYLOAD_MAX, Rejection, UP_MAX_MS, decode,
    encode, waited_s,
};
use rollcall_wire::topic::{TOPIC_MAX, TopicError};
use rollcall_wire::{BootId, DeviceId, Kind, Reading, RunId, SampleId, Sequence, Slot, Status, Taken, Topic};

fn reading(status: u8, id: Option<(u64, u64)>, age_ms: u32) -> Reading {
    let id = id.map(|(boot, seq)| SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() });
    let (up_ms, run, taken) = (None, None, Taken::ThisRun);
    Reading { status: Status::new(status).unwrap(), id, age_ms, up_ms, run, taken }
}

/// These bytes are on the wire of every device out there: they change only with a new version.
#[test]
fn golden_payloads() {
    let uptime = Reading { up_ms: Some(86_412_345), ..reading(3, Some((0x9f3c_5a0b_e1d2_4c77, 17)), 0) };
    let run = Some(RunId(0x0b5a_7e11_90d3_c2f4));
    for (reading, golden) in [
        (
            reading(3, Some((0x9f3c_5a0b_e1d2_4c77, 17)), 0),
            r#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":0}"#,
        ),
        (reading(0, Some((0, 0)), 1_000), r#"{"status":0,"seq":0,"boot":"0000000000000000","age_ms":1000}"#),
        (
            reading(6, Some((u64::MAX, Sequence::MAX.get())), AGE_MAX_MS),
            r#"{"status":6,"seq":9007199254740991,"boot":"ffffffffffffffff","age_ms":2592000000}"#,
        ),
        (uptime, r#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":0,"up_ms":86412345}"#),
        (
            Reading { run, ..uptime },
            r#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":0,"up_ms":86412345,"run":"0b5a7e1190d3c2f4"}"#,
        ),
        (
            Reading { run, taken: Taken::EarlierRun, ..uptime },
            r#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":0,"up_ms":86412345,"run":"0b5a7e1190d3c2f4","restored":true}"#,
        ),
    ] {
        assert_eq!(encode(&reading), golden);
        assert_eq!(decode(golden.as_bytes()), Ok(reading));
    }
}

/// A number beyond what is read is written whole all the same, so that the host can name it.
#[test]
fn no_reading_is_cut_off_whatever_its_numbers() {
    let widest = Reading {
        up_ms: Some(u64::MAX),
        run: Some(RunId(u64::MAX)),
        taken: Taken::EarlierRun,
        ..reading(6, Some((u64::MAX, Sequence::MAX.get())), u32::MAX)
    };
    let payload = encode(&widest);
    assert_eq!(payload.len(), ENCODED_MAX);
    assert!(payload.ends_with(r#""restored":true}"#), "{payload}");
}

/// Slots decide which log a device's samples meet in: these never change.
#[test]
fn golden_topics() {
    for (device, status, presence) in [
        ("a", "rollcall/c/a/status", "rollcall/c/a/presence"),
        ("sim-0", "rollcall/1/sim-0/status", "rollcall/1/sim-0/presence"),
    ] {
        let device = DeviceId::new(device).unwrap();
        assert_eq!(Topic { device, kind: Kind::Status }.name(), status);
        assert_eq!(Topic { device, kind: Kind::Presence }.name(), presence);
    }
}

/// Test vectors of the FNV draft: FNV-1a of "a" is e40c292c, of "foobar" bf9cf968.
#[test]
fn the_slot_is_fnv_1a_modulo_16() {
    assert_eq!(Slot::of(&DeviceId::new("a").unwrap()).index(), 0xc);
    assert_eq!(Slot::of(&DeviceId::new("foobar").unwrap()).index(), 0x8);
}

#[test]
fn a_device_id_is_1_to_32_of_a_small_alphabet() {
    const CHECKED_WHEN_COMPILED: Result<DeviceId, rollcall_wire::reading::InvalidDeviceId> =
        DeviceId::new("pump-7_b");
    assert_eq!(CHECKED_WHEN_COMPILED.unwrap().as_str(), "pump-7_b");
    assert!(DeviceId::new(&"a".repeat(32)).is_ok());
    for id in ["", &"a".repeat(33), "a.b", "A", "a/b", "a+b", "a#", "ä", "a b", "a\0"] {
        assert!(DeviceId::new(id).is_err(), "{id:?}");
    }
}

#[test]
fn the_wait_in_a_broker_is_what_is_gone_of_the_expiry_interval() {
    assert_eq!(waited_s(None), Some(0));
    assert_eq!(waited_s(Some(MESSAGE_EXPIRY_S)), Some(0));
    assert_eq!(waited_s(Some(MESSAGE_EXPIRY_S - 5)), Some(5));
    assert_eq!(waited_s(Some(u32::MAX)), Some(0));
    assert_eq!(waited_s(Some(EXPIRY_LEFT_MIN_S)), Some(MESSAGE_EXPIRY_S - EXPIRY_LEFT_MIN_S));
}

#[test]
fn what_is_refused_is_refused_by_name() {
    use Rejection::*;
    let cases: &[(&str, Rejection)] = &[
        ("", Empty),
        (" ", BadJson),
        ("3", BadJson),
        ("null", BadJson),
        ("[]", BadJson),
        ("{", BadJson),
        (r#"{"status":3"#, BadJson),
        (r#"{"status":3}}"#, BadJson),
        (r#"{"status":3,}"#, BadJson),
        (r#"{"status":03}"#, BadJson),
        (r#"{"status":+3}"#, BadJson),
        (r#"{"status":3.}"#, BadJson),
        (r#"{"status":.3}"#, BadJson),
        (r#"{"status":3e}"#, BadJson),
        (r#"{"status":NaN}"#, BadJson),
        (r#"{status:3}"#, BadJson),
        (r#"{'status':3}"#, BadJson),
        ("{\"status\":3,\"x\":\"\n\"}", BadJson),
        (r#"{"status":3,"x":"\q"}"#, BadJson),
        (r#"{"status":3,"x":"\u12"}"#, BadJson),
        (r#"{"status":3,"x":@}"#, BadJson),
        (r#"{"status":3,"x":[1,]}"#, BadJson),
        ("{}", MissingStatus),
        (r#"{"Status":3}"#, MissingStatus),
        (r#"{"st\u0061tus":3}"#, MissingStatus),
        (r#"{"status":7}"#, StatusOutOfRange),
        (r#"{"status":255}"#, StatusOutOfRange),
        (r#"{"status":256}"#, StatusOutOfRange),
        (r#"{"status":-1}"#, StatusOutOfRange),
        (r#"{"status":-0}"#, StatusOutOfRange),
        (r#"{"status":99999999999999999999999}"#, StatusOutOfRange),
        (r#"{"status":3.0}"#, StatusNotAnInteger),
        (r#"{"status":3e0}"#, StatusNotAnInteger),
        (r#"{"status":"3"}"#, StatusNotAnInteger),
        (r#"{"status":true}"#, StatusNotAnInteger),
        (r#"{"status":[3]}"#, StatusNotAnInteger),
        (r#"{"status":3,"status":3}"#, DuplicateField),
        (r#"{"status":3,"age_ms":0,"age_ms":0}"#, DuplicateField),
        (r#"{"status":3,"seq":1}"#, IncompleteIdentity),
        (r#"{"status":3,"boot":"9f3c5a0be1d24c77"}"#, IncompleteIdentity),
        (r#"{"status":3,"boot":"9f3c5a0be1d24c77","seq":-1}"#, BadSeq),
        (r#"{"status":3,"boot":"9f3c5a0be1d24c77","seq":9007199254740992}"#, BadSeq),
        (r#"{"status":3,"boot":"9f3c5a0be1d24c77","seq":"1"}"#, BadSeq),
        (r#"{"status":3,"boot":"9F3C5A0BE1D24C77","seq":1}"#, BadBoot),
        (r#"{"status":3,"boot":"9f3c","seq":1}"#, BadBoot),
        (r#"{"status":3,"boot":"+f3c5a0be1d24c77","seq":1}"#, BadBoot),
        (r#"{"status":3,"boot":11469023,"seq":1}"#, BadBoot),
        (r#"{"status":3,"age_ms":-1}"#, NegativeAge),
        (r#"{"status":3,"age_ms":2592000001}"#, AgeBeyondHorizon),
        (r#"{"status":3,"age_ms":99999999999999999999999}"#, AgeBeyondHorizon),
        (r#"{"status":3,"age_ms":1.5}"#, BadAge),
        (r#"{"status":3,"age_ms":null}"#, BadAge),
        (r#"{"status":3,"up_ms":1,"up_ms":1}"#, DuplicateField),
        (r#"{"status":3,"up_ms":9007199254740992}"#, BadUptime),
        (r#"{"status":3,"up_ms":18446744073709551615}"#, BadUptime),
        (r#"{"status":3,"up_ms":18446744073709551616}"#, BadUptime),
        (r#"{"status":3,"up_ms":-1}"#, BadUptime),
        (r#"{"status":3,"up_ms":-0}"#, BadUptime),
        (r#"{"status":3,"up_ms":1.5}"#, BadUptime),
        (r#"{"status":3,"up_ms":1e3}"#, BadUptime),
        (r#"{"status":3,"up_ms":"1"}"#, BadUptime),
        (r#"{"status":3,"up_ms":null}"#, BadUptime),
        (r#"{"status":3,"run":"0b5a7e11"}"#, BadRun),
        (r#"{"status":3,"run":"0B5A7E1190D3C2F4"}"#, BadRun),
        (r#"{"status":3,"run":7}"#, BadRun),
        (r#"{"status":3,"restored":1}"#, BadRestored),
        (r#"{"status":3,"restored":"true"}"#, BadRestored),
        (r#"{"status":3,"restored":null}"#, BadRestored),
        (r#"{"status":3,"restored":tru}"#, BadJson),
    ];
    for (payload, rejection) in cases {
        assert_eq!(decode(payload.as_bytes()), Err(*rejection), "{payload}");
    }
    assert_eq!(decode(b"{\"status\":3,\"x\":\"\xff\"}"), Err(NotUtf8));
    assert_eq!(decode(&[b' '; PAYLOAD_MAX + 1]), Err(TooLong));
}

#[test]
fn what_is_unusual_but_right_is_read() {
    let three = Ok(reading(3, None, 0));
    for payload in [
        r#"{"status":3}"#,
        " \t\r\n{ \"status\" : 3 } \n",
        r#"{"x":{"status":9},"status":3,"y":[[],{},-1.5e-3,"\"\u00e4",true,false,null]}"#,
        r#"{"age_ms":0,"status":3}"#,
        r#"{"":1,"status":3}"#,
        r#"{"status":3,"restored":false}"#,
    ] {
        assert_eq!(decode(payload.as_bytes()), three, "{payload}");
    }
    let mut longest = r#"{"status":3}"#.to_owned();
    longest.push_str(&" ".repeat(PAYLOAD_MAX - longest.len()));
    assert_eq!(decode(longest.as_bytes()), three);
}

/// As `age_ms` is, although nothing can be told from them there.
#[test]
fn a_bare_message_may_say_what_only_a_sample_with_an_identity_need_say() {
    let payload =
        r#"{"status":3,"age_ms":5,"up_ms":9007199254740991,"run":"0000000000000001","restored":true}"#;
    let said = Reading {
        up_ms: Some(UP_MAX_MS),
        run: Some(RunId(1)),
        taken: Taken::EarlierRun,
        ..reading(3, None, 5)
    };
    assert_eq!(decode(payload.as_bytes()), Ok(said));
}

/// The known fields, and one that is not.
const FIELDS: [&str; 8] = ["status", "seq", "boot", "age_ms", "up_ms", "run", "restored", "x"];

/// JSON that resembles a payload, right and wrong.
fn near_json() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (0..9_u8).prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        Just(r#""9f3c5a0be1d24c77""#.to_owned()),
        "\"[a-z\\\\u0-9\"]{0,6}\"",
        "[\\[\\]{},:0-9.eE+-]{0,6}",
        Just("null".to_owned()),
        any::<bool>().prop_map(|truth| truth.to_string()),
    ];
    let name = prop::sample::select(&FIELDS[..]);
    let fields = prop::collection::vec((name, value), 0..6);
    (fields, "[ ,}]{0,2}").prop_map(|(fields, end)| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}{end}", fields.join(","))
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        status in 0..7_u8,
        id in prop::option::of((any::<u64>(), 0..=Sequence::MAX.get())),
        age_ms in 0..=AGE_MAX_MS,
        up_ms in prop::option::of(0..=UP_MAX_MS),
        run in prop::option::of(any::<u64>().prop_map(RunId)),
        taken in prop::sample::select(&[Taken::ThisRun, Taken::EarlierRun][..]),
    ) {
        let reading = Reading { up_ms, run, taken, ..reading(status, id, age_ms) };
        let payload = encode(&reading);
        prop_assert!(payload.len() <= ENCODED_MAX);
        prop_assert_eq!(decode(payload.as_bytes()), Ok(reading));
    }

    #[test]
    fn any_bytes_are_read_or_refused(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&payload);
    }

    #[test]
    fn a_json_library_agrees_on_what_is_json(payload in prop_oneof![near_json(), "\\PC{0,40}"]) {
        prop_assume!(!payload.is_empty() && payload.len() <= PAYLOAD_MAX);
        let is_object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&payload).is_ok();
        let ours = decode(payload.as_bytes());
        // A surrogate without its other half and a number beyond f64 are JSON by RFC 8259, but not to the library.
        prop_assume!(is_object || !(payload.contains("\\u") || payload.contains(['e', 'E'])));
        // A bad value is named before the rest is read, so only these two verdicts are about JSON.
        prop_assert!(ours.is_err() || is_object, "read, but no JSON: {}", payload);
        prop_assert!(ours != Err(Rejection::BadJson) || !is_object, "JSON, but refused as none: {}", payload);
    }

    #[test]
    fn a_topic_is_parsed_back(id in "[a-z0-9_-]{1,32}", presence in any::<bool>()) {
        let kind = if presence { Kind::Presence } else { Kind::Status };
        let topic = Topic { device: DeviceId::new(&id).unwrap(), kind };
        prop_assert!(topic.name().len() <= TOPIC_MAX);
        prop_assert_eq!(Topic::parse(&topic.name()), Ok(topic));
    }

    #[test]
    fn any_topic_is_read_or_refused(name in "\\PC{0,60}", id in "[a-z0-9_-]{1,32}", slot in "[0-9a-f]") {
        prop_assert!(Topic::parse(&name).is_err());
        let device = DeviceId::new(&id).unwrap();
        let right = slot == Slot::of(&device).to_string();
        let parsed = Topic::parse(&format!("rollcall/{slot}/{id}/status"));
        prop_assert_eq!(parsed, if right { Ok(Topic { device, kind: Kind::Status }) } else { Err(TopicError::WrongSlot) });
    }
}
