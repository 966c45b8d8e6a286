//! Samples: their cadence, their bytes, and what becomes of them when the network is away.

use rollcall_harness::mqtt::connack;
use rollcall_harness::mqtt::property::server_keep_alive;
use rollcall_wire::Taken;

use crate::support::net::{Dial, Peer, accept, away_until};
use crate::support::{Bench, bench, bench_with, config, period};

#[test]
fn a_sample_reaches_the_broker_in_the_millisecond_in_which_it_was_taken() {
    let mut bench: Bench<300> = bench(|_| accept());
    bench.run_until(10_500);
    let samples = bench.net.samples();
    assert_eq!(bench.net.sequence(), (0..=10).collect::<Vec<_>>());
    for (at_ms, _, publish) in samples {
        let reading = publish.reading();
        assert_eq!((at_ms, reading.age_ms), (publish.seq() * 1_000, 0));
        assert_eq!((reading.up_ms, reading.run, reading.taken), (Some(at_ms), None, Taken::ThisRun));
        assert_eq!(u64::from(reading.status.get()), publish.seq() % 7);
        assert!(!publish.retained);
    }
    assert_eq!(bench.stats.snapshot().acknowledged_by_status, [2, 2, 2, 2, 1, 1, 1]);
}

#[test]
fn the_bytes_of_a_publish_are_these() {
    let mut bench: Bench<300> = bench(|_| accept());
    bench.run_until(500);
    let (_, _, publish) = &bench.net.samples()[0];
    let mut golden = vec![0x32, 100];
    golden.extend([0, 23]);
    golden.extend(b"rollcall/6/dev-1/status");
    // Packet id 2, after presence; 5 bytes of properties: message expiry, 2,592,000 s.
    golden.extend([0, 2, 5, 0x02, 0x00, 0x27, 0x8d, 0x00]);
    golden.extend(br#"{"status":0,"seq":0,"boot":"9f3c5a0be1d24c77","age_ms":0,"up_ms":0}"#);
    assert_eq!(publish.bytes, golden);
}

#[test]
fn sampling_never_waits_for_the_network() {
    for make in [|| Dial::Hang, || Dial::Refuse] {
        let mut bench: Bench<300> = bench(move |_| make());
        let stats = bench.run_until(200_500);
        assert_eq!((stats.sampled, stats.outbox, stats.missed), (201, 201, 0));
    }
}

#[test]
fn an_outage_longer_than_the_outbox_drops_the_oldest_and_keeps_the_order() {
    let mut bench: Bench<20> = bench(away_until(60_000));
    let stats = bench.run_and_stop(120_500, 180_000);
    assert!(stats.overflowed >= 41, "{stats:?}");
    assert_eq!(stats.acknowledged + stats.overflowed, stats.sampled);
    let sequence = bench.net.sequence();
    assert!(sequence.is_sorted(), "{sequence:?}");
    // The gap in front is what was dropped, and the sequence has no other.
    assert_eq!(sequence[0], stats.overflowed);
    assert_eq!(sequence.len() as u64, stats.acknowledged);
    assert_eq!(stats.sampled, sequence[sequence.len() - 1] + 1);
}

#[test]
fn a_sample_that_waited_says_how_long() {
    let mut bench: Bench<300> = bench(away_until(60_000));
    let stats = bench.run_and_stop(120_500, 180_000);
    assert_eq!(stats.acknowledged, stats.sampled);
    let samples = bench.net.samples();
    for (at_ms, _, publish) in &samples {
        assert_eq!(at_ms - u64::from(publish.reading().age_ms), publish.seq() * 1_000);
    }
    assert!(samples[0].2.reading().age_ms > 0);
}

#[test]
fn a_sample_beyond_the_retention_horizon_is_dropped_and_counted() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    let mut config = config();
    config.period_ms = period(DAY_MS);
    let mut bench: Bench<300> = bench_with(config, away_until(40 * DAY_MS + 1));
    // 41 samples, of which those of the first 11 days are more than 30 days old when the link is there.
    let stats = bench.run_and_stop(40 * DAY_MS + 60_000, 40 * DAY_MS + 120_000);
    assert_eq!((stats.sampled, stats.expired, stats.acknowledged), (41, 11, 30));
    assert_eq!(bench.net.sequence()[0], 11);
}

#[test]
fn an_idle_link_is_kept_alive_as_often_as_the_broker_asks() {
    let cases = [(60, vec![]), (10, server_keep_alive(10).to_vec()), (600, server_keep_alive(600).to_vec())];
    for (keep_alive_s, properties) in cases {
        let mut config = config();
        config.period_ms = period(3_600_000);
        let mut bench: Bench<300> = bench_with(config, move |_| {
            Dial::Accept(Peer { connack: Some(connack(false, 0, &properties)), ..Peer::default() })
        });
        let stats = bench.run_until(7_200_500);
        assert_eq!((stats.connects, stats.acknowledged), (1, 3));
        let sent_ms: Vec<_> = bench.net.seen().into_iter().map(|seen| seen.at_ms).collect();
        let longest_ms = sent_ms.windows(2).map(|pair| pair[1] - pair[0]).max();
        // MQTT 5, section 3.1.2.10: the broker ends the connection after one and a half keep-alives.
        assert!(
            longest_ms.is_some_and(|gap| gap < keep_alive_s * 1_500),
            "{longest_ms:?} of {keep_alive_s} s"
        );
        assert!(sent_ms.len() as u64 <= 10 + 7_200 / (keep_alive_s / 2), "{} packets", sent_ms.len());
    }
}
