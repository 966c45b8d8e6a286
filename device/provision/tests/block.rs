//! The block of settings: golden bytes, a round trip, and refusal of everything that is not whole.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::net::Ipv4Addr;
use std::num::{NonZeroU16, NonZeroU32};

use rollcall_provision::{
    BLOCK_SIZE, Block, BlockError, Broker, Field, HOST_MAX, Host, HostName, Login, PASSWORD_MAX, PIN_SIZE,
    Pin, SEED_SIZE, Settings, Tls, USER_MAX,
};
use rollcall_wire::DeviceId;

fn settings() -> Settings<'static> {
    Settings {
        broker: Broker {
            host: Host::Name(HostName::new("broker.example").unwrap()),
            port: NonZeroU16::new(1883).unwrap(),
        },
        device: Some(DeviceId::new("porch-1").unwrap()),
        login: Some(Login::new("fleet", b"s3cret").unwrap()),
        period_ms: NonZeroU32::new(1000).unwrap(),
        tls: None,
    }
}

fn pin(byte: u8) -> Pin {
    let mut bytes = [byte; PIN_SIZE];
    bytes[0] = 4;
    Pin::new(&bytes).unwrap()
}

fn with_tls(next: Option<Pin>) -> Settings<'static> {
    Settings { tls: Some(Tls { pin: pin(1), next, seed: [3; SEED_SIZE] }), ..settings() }
}

/// The header, the body and the CRC of [`settings`], computed apart from this crate (Python's zlib).
const GOLDEN: &[u8] = b"RCFG\x01\x00\x2a\x00\xe8\x03\x00\x00\x5b\x07\
    \x0ebroker.example\x07porch-1\x05fleet\x06s3cret";
const GOLDEN_CRC: u32 = 0xd81b_f597;

/// IEEE 802.3, written anew here so that the crate's own does not check itself.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 };
        }
    }
    !crc
}

/// A block with this body, whose header and CRC are right.
fn block_of(version: u16, body: &[u8]) -> Block {
    let mut bytes = [0xff; BLOCK_SIZE];
    bytes[..4].copy_from_slice(b"RCFG");
    bytes[4..6].copy_from_slice(&version.to_le_bytes());
    bytes[6..8].copy_from_slice(&(body.len() as u16).to_le_bytes());
    bytes[8..][..body.len()].copy_from_slice(body);
    let crc = crc32(&bytes[..8 + body.len()]);
    bytes[8 + body.len()..][..4].copy_from_slice(&crc.to_le_bytes());
    Block::from_bytes(bytes)
}

fn body(period_ms: u32, port: u16, texts: [&[u8]; 4]) -> Vec<u8> {
    let mut body = [&period_ms.to_le_bytes()[..], &port.to_le_bytes()[..]].concat();
    for text in texts {
        body.push(text.len() as u8);
        body.extend(text);
    }
    body
}

#[test]
fn the_bytes_are_those_of_version_1() {
    let block = Block::encode(&settings());
    let (used, padding) = block.as_bytes().split_at(GOLDEN.len() + 4);
    assert_eq!(used, [GOLDEN, &GOLDEN_CRC.to_le_bytes()[..]].concat());
    assert!(padding.iter().all(|byte| *byte == 0xff));
}

#[test]
fn with_tls_the_bytes_are_those_of_version_2() {
    let block = Block::encode(&with_tls(Some(pin(2))));
    let rest = [&pin(1).as_bytes()[..], &[65], pin(2).as_bytes(), &[3; SEED_SIZE]].concat();
    let expected = block_of(2, &[&GOLDEN[8..], &rest].concat());
    assert_eq!(block.as_bytes(), expected.as_bytes());
}

#[test]
fn a_pin_is_read_as_it_is_printed_and_nothing_else_is() {
    let text = "BAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    assert_eq!(Pin::parse(text), Ok(pin(2)));
    for bad in ["", "BA==", "no base64", &text[..86], &format!("{text}AAAA"), &text.replace("BA", "AA")] {
        assert!(Pin::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let longest_host = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    assert_eq!(longest_host.len(), HOST_MAX);
    let (longest_user, longest_password) = ("u".repeat(USER_MAX), [0xffu8; PASSWORD_MAX]);
    let mut longest = settings();
    longest.broker.host = Host::parse(&longest_host).unwrap();
    longest.device = Some(DeviceId::new(&"d".repeat(32)).unwrap());
    longest.login = Some(Login::new(&longest_user, &longest_password).unwrap());
    let mut shortest = settings();
    shortest.broker.host = Host::Address(Ipv4Addr::new(1, 2, 3, 4));
    (shortest.device, shortest.login) = (None, None);
    let mut address = settings();
    address.broker.host = Host::Address(Ipv4Addr::new(192, 0, 20, 100));
    let mut longest_with_tls = longest;
    longest_with_tls.tls = with_tls(Some(pin(9))).tls;
    for settings in [settings(), longest, shortest, address, with_tls(None), longest_with_tls] {
        let block = Block::encode(&settings);
        assert_eq!(block.settings(), Ok(settings));
    }
}

#[test]
fn an_erased_sector_is_told_from_a_bad_one() {
    assert_eq!(Block::from_bytes([0xff; BLOCK_SIZE]).settings(), Err(BlockError::Erased));
    assert_eq!(Block::from_bytes([0; BLOCK_SIZE]).settings(), Err(BlockError::Magic));
}

#[test]
fn a_block_with_any_one_bit_wrong_is_refused() {
    let good = *Block::encode(&settings()).as_bytes();
    for bit in 0..(GOLDEN.len() + 4) * 8 {
        let mut bytes = good;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let outcome = Block::from_bytes(bytes).settings().map(|_| ());
        assert!(outcome.is_err(), "bit {bit} went unnoticed");
    }
}

#[test]
fn a_block_whose_writing_was_cut_off_is_refused_wherever_that_was() {
    let good = *Block::encode(&settings()).as_bytes();
    for written in 0..GOLDEN.len() + 4 {
        let mut bytes = [0xff; BLOCK_SIZE];
        bytes[..written].copy_from_slice(&good[..written]);
        let outcome = Block::from_bytes(bytes).settings().map(|_| ());
        assert!(outcome.is_err(), "cut off after {written} bytes and not noticed");
    }
}

#[test]
fn another_version_is_named() {
    let body = body(1000, 1883, [b"broker.example", b"", b"", b""]);
    for version in [0, 3] {
        assert_eq!(block_of(version, &body).settings(), Err(BlockError::Version(version)));
    }
    assert!(block_of(1, &body).settings().is_ok());
    // The next one may be longer than a block of this firmware.
    for (version, expected) in [(3, BlockError::Version(3)), (2, BlockError::Length), (0, BlockError::Length)]
    {
        let mut bytes = *block_of(version, &body).as_bytes();
        bytes[6..8].copy_from_slice(&(BLOCK_SIZE as u16).to_le_bytes());
        assert_eq!(Block::from_bytes(bytes).settings(), Err(expected));
    }
}

#[test]
fn each_bad_field_is_named_although_the_crc_is_right() {
    let cases: [(Field, Vec<u8>); 12] = [
        (Field::Period, body(0, 1883, [b"h", b"", b"", b""])),
        (Field::Period, vec![1, 2]),
        (Field::Port, body(1, 0, [b"h", b"", b"", b""])),
        (Field::Host, body(1, 1, [b"", b"", b"", b""])),
        (Field::Host, body(1, 1, [b"192.0.2.300", b"", b"", b""])),
        (Field::Host, body(1, 1, [b"a b", b"", b"", b""])),
        (Field::Host, body(1, 1, [b"\xff", b"", b"", b""])),
        (Field::Host, body(1, 1, [b"h", b"", b"", b""])[..7].to_vec()),
        (Field::Device, body(1, 1, [b"h", b"Porch", b"", b""])),
        (Field::Login, body(1, 1, [b"h", b"", b"", b"password without user"])),
        (Field::Login, body(1, 1, [b"h", b"", &[b'u'; USER_MAX + 1], b""])),
        (Field::Login, body(1, 1, [b"h", b"", b"u", &[b'p'; PASSWORD_MAX + 1]])),
    ];
    for (field, body) in cases {
        assert_eq!(block_of(1, &body).settings(), Err(BlockError::Field(field)), "{body:?}");
    }
}

#[test]
fn what_tls_needs_is_whole_and_pins_are_points() {
    let body = body(1, 1, [b"h", b"", b"", b""]);
    let (good, no_point, seed) = (pin(1), [1; PIN_SIZE], [3; SEED_SIZE]);
    let next = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
    let read = |parts: &[&[u8]]| block_of(2, &[&body, &parts.concat()[..]].concat()).settings().map(drop);
    assert_eq!(read(&[good.as_bytes(), &[0], &seed]), Ok(()));
    assert_eq!(read(&[good.as_bytes(), &next(good.as_bytes()), &seed]), Ok(()));
    assert_eq!(read(&[good.as_bytes(), &[0], &seed, &[0]]), Err(BlockError::Length));
    let bad: [&[&[u8]]; 6] = [
        &[],
        &[&no_point, &[0], &seed],
        &[good.as_bytes()],
        &[good.as_bytes(), &[0], &seed[1..]],
        &[good.as_bytes(), &next(&no_point), &seed],
        &[good.as_bytes(), &next(&good.as_bytes()[1..]), &seed],
    ];
    for parts in bad {
        assert_eq!(read(parts), Err(BlockError::Field(Field::Tls)), "{parts:?}");
    }
}

#[test]
fn a_length_other_than_the_fields_is_refused() {
    let mut long = body(1, 1, [b"h", b"", b"", b""]);
    long.push(0);
    assert_eq!(block_of(1, &long).settings(), Err(BlockError::Length));
    let mut bytes = *block_of(1, &long).as_bytes();
    bytes[6..8].copy_from_slice(&(BLOCK_SIZE as u16 - 11).to_le_bytes());
    assert_eq!(Block::from_bytes(bytes).settings(), Err(BlockError::Length));
}

#[test]
fn host_names_are_those_that_dns_can_be_asked_for() {
    for name in ["a", "broker", "broker.example", "4u.example", "xn--bcher-kva.example", "a-b.c3"] {
        assert!(HostName::new(name).is_ok(), "{name}");
    }
    let long_label = "a".repeat(64);
    let long_name = format!("{}.aa", ["a"; 126].join("."));
    assert_eq!(long_name.len(), HOST_MAX + 1);
    for name in ["", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "1.2.3", "::1", &long_label, &long_name] {
        assert!(HostName::new(name).is_err(), "{name}");
    }
}

#[test]
fn debug_shows_no_password() {
    let shown = format!("{:?} {:?}", settings(), Block::encode(&settings()));
    assert!(shown.contains("fleet") && !shown.contains("s3cret") && !shown.contains("115, 51"), "{shown}");
    let shown = format!("{:?}", with_tls(None));
    assert!(!shown.contains("3, 3"), "the seed is shown: {shown}");
}
