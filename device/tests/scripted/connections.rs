//! Links: how they are made, tried again and taken for dead.

use rollcall_device::stats::LinkError;
use rollcall_device::{Credentials, RunId, Snapshot};
use rollcall_harness::mqtt::property::{maximum_packet_size, maximum_qos};
use rollcall_harness::mqtt::{connack, disconnect};
use rollcall_wire::{Announcement, ConnectionId, presence};

use crate::support::mqtt::DevicePacket;
use crate::support::net::{Dial, Peer, Reply, accept, answering};
use crate::support::{BOOT, Bench, bench, bench_with, config, period};

use embedded_io_async::ErrorKind;

const TEN_MINUTES_MS: u64 = 600_000;

/// Waits are below 30 s and half of that on average, and the first few are shorter.
const ATTEMPTS_MAX: usize = 90;

/// Ten minutes with such a peer: it must show as an error, and be met again and again but not in a loop.
fn ten_minutes_with(peer: impl Fn() -> Dial + 'static) -> Snapshot {
    let mut bench: Bench<300> = bench(move |_| peer());
    let stats = bench.run_until(TEN_MINUTES_MS + 500);
    let attempts = bench.net.attempts_ms().len();
    assert!((10..ATTEMPTS_MAX).contains(&attempts), "{attempts} attempts");
    assert_eq!((stats.sampled, stats.acknowledged), (601, 0));
    stats
}

fn with_connack(connack: Vec<u8>) -> impl Fn() -> Dial {
    move || Dial::Accept(Peer { connack: Some(connack.clone()), ..Peer::default() })
}

#[test]
fn attempts_back_off_from_half_a_second_to_thirty_with_full_jitter() {
    let mut bench: Bench<300> = bench(|_| Dial::Refuse);
    let stats = bench.run_until(TEN_MINUTES_MS);
    assert_eq!(stats.last_error, Some(LinkError::Connect(ErrorKind::ConnectionRefused)));
    let attempts = bench.net.attempts_ms();
    let waits: Vec<u64> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (n, wait) in waits.iter().enumerate() {
        assert!((1..=(500 << n.min(6)).min(30_000)).contains(wait), "wait {n} of {wait} ms");
    }
    let long = &waits[6..];
    assert!(long.iter().any(|wait| *wait < 15_000) && long.iter().any(|wait| *wait > 15_000), "{waits:?}");
}

#[test]
fn a_connection_that_does_not_open_is_given_up_after_ten_seconds() {
    let mut bench: Bench<300> = bench(|attempt| if attempt == 0 { Dial::Hang } else { accept() });
    let stats = bench.run_until(11_000);
    let attempts = bench.net.attempts_ms();
    assert_eq!(attempts.len(), 2);
    assert!((10_001..=10_500).contains(&attempts[1]), "{attempts:?}");
    assert_eq!(stats.last_error, Some(LinkError::ConnectTimeout));
}

#[test]
fn a_peer_that_does_not_answer_connect_is_given_up_after_ten_seconds() {
    let mut bench: Bench<300> = bench(|attempt| match attempt {
        0 => Dial::Accept(Peer { connack: None, ..Peer::default() }),
        _ => accept(),
    });
    let stats = bench.run_until(11_000);
    assert!((10_001..=10_500).contains(&bench.net.attempts_ms()[1]));
    assert_eq!(stats.last_error, Some(LinkError::HandshakeTimeout));
    assert_eq!(stats.outbox, 0);
}

#[test]
fn garbage_instead_of_connack_is_a_visible_error_and_not_a_loop() {
    let long_connack = [vec![0x20, 0xff, 0x7f], vec![0; 300]].concat();
    for (garbage, error) in [
        (vec![0xff; 40], LinkError::Protocol),
        (vec![0x40, 2, 0, 1], LinkError::Protocol),
        (long_connack, LinkError::Protocol),
        // Reads as a packet of 84 bytes that never comes to its end.
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), LinkError::HandshakeTimeout),
    ] {
        assert_eq!(ten_minutes_with(with_connack(garbage)).last_error, Some(error));
    }
}

#[test]
fn a_refused_connect_is_a_visible_error_and_not_a_loop() {
    for reason in [0x85, 0x86, 0x87] {
        let stats = ten_minutes_with(with_connack(connack(false, reason, &[])));
        assert_eq!(stats.last_error, Some(LinkError::Refused(reason)));
    }
}

#[test]
fn a_maximum_packet_size_that_is_too_small_is_a_visible_error_and_not_a_loop() {
    // Too small for presence already, and for a reading only.
    for size in [20, 95] {
        let stats = ten_minutes_with(with_connack(connack(false, 0, &maximum_packet_size(size))));
        assert_eq!(stats.last_error, Some(LinkError::PacketTooLarge));
    }
}

#[test]
fn a_broker_without_qos_1_is_a_visible_error_and_not_a_loop() {
    let stats = ten_minutes_with(with_connack(connack(false, 0, &maximum_qos(0))));
    assert_eq!(stats.last_error, Some(LinkError::QosUnsupported));
}

#[test]
fn a_broker_that_sends_the_device_away_is_a_visible_error_and_not_a_loop() {
    let taken_over = || Dial::Accept(answering(|_| Reply::Raw(disconnect(0x8e))));
    assert_eq!(ten_minutes_with(taken_over).last_error, Some(LinkError::Refused(0x8e)));
}

#[test]
fn a_minute_of_health_starts_the_backoff_anew_and_less_does_not() {
    for (lives_s, is_healthy) in [(30, false), (70, true)] {
        // Every connection ends after that many samples.
        let mut bench: Bench<300> = bench(move |_| {
            let mut left = lives_s;
            Dial::Accept(answering(move |_| {
                left -= 1;
                if left == 0 { Reply::Close } else { Reply::Ack(0) }
            }))
        });
        bench.run_until(3_600_000);
        let attempts = bench.net.attempts_ms();
        let ends = bench.net.samples();
        let end_of =
            |connection| ends.iter().rev().find(|sample| sample.1 == connection).map(|sample| sample.0);
        let waits: Vec<u64> = attempts
            .iter()
            .enumerate()
            .skip(1)
            .filter_map(|(n, at_ms)| Some(at_ms - end_of(n - 1)?))
            .collect();
        assert_eq!(waits.iter().all(|wait| *wait <= 500), is_healthy, "{waits:?}");
    }
}

#[test]
fn a_peer_that_goes_silent_is_noticed_by_its_missing_acknowledgement() {
    let mut bench: Bench<300> = bench(|attempt| match attempt {
        0 => Dial::Accept(answering(|publish| match publish.is_status() && publish.seq() >= 5 {
            true => Reply::Nothing,
            false => Reply::Ack(0),
        })),
        _ => accept(),
    });
    let stats = bench.run_until(16_500);
    assert_eq!(stats.last_error, Some(LinkError::AckTimeout));
    // Sample 5 was sent at 5 s.
    assert!((15_001..=15_500).contains(&bench.net.attempts_ms()[1]));
    assert_eq!((stats.acknowledged, stats.outbox), (17, 0));
}

#[test]
fn an_idle_peer_that_goes_silent_is_noticed_by_its_missing_ping_response() {
    let mut config = config();
    config.period_ms = period(3_600_000);
    let silent = |_| Dial::Accept(Peer { answers_pings: false, ..Peer::default() });
    let mut bench: Bench<300> = bench_with(config, silent);
    let stats = bench.run_until(90_000);
    assert_eq!((stats.last_error, stats.failures), (Some(LinkError::Closed), 1));
}

#[test]
fn a_transport_that_takes_no_more_data_is_given_up_after_ten_seconds() {
    let mut bench: Bench<300> = bench(|attempt| match attempt {
        0 => Dial::Accept(Peer { stall_after: 300, ..Peer::default() }),
        _ => accept(),
    });
    let stats = bench.run_until(30_500);
    assert_eq!(stats.last_error, Some(LinkError::WriteTimeout));
    assert_eq!((stats.connects, stats.outbox, stats.missed), (2, 0, 0));
}

#[test]
fn presence_is_announced_and_the_last_will_takes_it_back() {
    let mut bench: Bench<300> = bench(|_| accept());
    bench.run_until(500);
    let seen = bench.net.seen();
    let DevicePacket::Connect(connect) = &seen[0].packet else { panic!("{seen:?}") };
    // Name, version 5, flags: will retained, will QoS 1, will, clean start; keep-alive 60 s; properties.
    let mut golden = b"\x00\x04MQTT\x05\x2e\x00\x3c\x0d".to_vec();
    // Maximum packet size 256, session expiry 0, receive maximum 8; then client id and will.
    golden.extend([0x27, 0, 0, 1, 0, 0x11, 0, 0, 0, 0, 0x21, 0, 8]);
    let offline = br#"{"state":"offline","boot":"9f3c5a0be1d24c77","connection":1}"#;
    golden.extend(b"\x00\x05dev-1\x00\x00\x19rollcall/6/dev-1/presence\x00");
    golden.push(offline.len() as u8);
    golden.extend(offline);
    assert_eq!(*connect, golden);
    let DevicePacket::Publish(online) = &seen[1].packet else { panic!("{seen:?}") };
    let payload = &br#"{"state":"online","boot":"9f3c5a0be1d24c77","connection":1}"#[..];
    assert_eq!((online.topic.as_str(), &*online.payload), ("rollcall/6/dev-1/presence", payload));
    assert!(online.retained);
}

#[test]
fn each_connection_has_a_larger_number_than_those_before_and_its_will_has_the_same() {
    let mut config = config();
    config.run = Some(RunId(7));
    let mut bench: Bench<300> = bench_with(config, |attempt| match attempt {
        0 => Dial::Refuse,
        // Whether the broker took CONNECT and has the will nobody knows.
        1 => Dial::Accept(Peer { connack: None, ..Peer::default() }),
        2 => {
            Dial::Accept(answering(|publish| if publish.is_status() { Reply::Close } else { Reply::Ack(0) }))
        }
        _ => accept(),
    });
    bench.run_and_stop(60_500, 90_500);
    bench.run_and_stop(100_500, 120_500);
    let said = bench.net.seen().into_iter().filter_map(|seen| match seen.packet {
        DevicePacket::Connect(connect) => {
            let will = connect.iter().position(|byte| *byte == b'{').expect("a will");
            Some(presence::decode(&connect[will..]).expect("an announcement"))
        }
        DevicePacket::Publish(publish) if !publish.is_status() => {
            Some(presence::decode(&publish.payload).expect("an announcement"))
        }
        _ => None,
    });
    let of = |is_online, number| {
        let connection = ConnectionId { boot: BOOT, run: Some(RunId(7)), number };
        Announcement { is_online, connection: Some(connection) }
    };
    let (first, second) = ([of(false, 1)], [of(false, 2), of(true, 2)]);
    let last = |number| [of(false, number), of(true, number), of(false, number)];
    assert_eq!(said.collect::<Vec<_>>(), [&first[..], &second, &last(3), &last(4)].concat());
}

#[test]
fn credentials_are_in_connect_and_the_password_is_not_in_debug() {
    let mut config = config();
    config.credentials = Some(Credentials::new("fleet", b"hunter2").unwrap());
    let shown = format!("{config:?}");
    assert!(shown.contains("fleet") && !shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    let mut bench: Bench<300> = bench_with(config, |_| accept());
    bench.run_until(500);
    let seen = bench.net.seen();
    let DevicePacket::Connect(connect) = &seen[0].packet else { panic!("{seen:?}") };
    assert_eq!(connect[7], 0xee, "flags: user name and password beside the will");
    assert!(connect.ends_with(b"\x00\x05fleet\x00\x07hunter2"));
}

#[test]
fn the_longest_names_and_credentials_fit_the_buffers() {
    let mut config = config();
    config.device = rollcall_device::DeviceId::new(&"z".repeat(32)).unwrap();
    config.credentials = Some(Credentials::new(&"u".repeat(64).leak()[..], &[b'p'; 128]).unwrap());
    // A full window of them, with ages in them.
    let mut bench: Bench<300> = bench_with(config, |attempt| match attempt {
        0 => Dial::Accept(answering(|_| Reply::Nothing)),
        _ => accept(),
    });
    let stats = bench.run_until(60_500);
    assert_eq!((stats.connects, stats.acknowledged), (2, 61));
    assert_eq!(stats.last_error, Some(LinkError::AckTimeout));
}
