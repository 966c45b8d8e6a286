//! What a PUBACK means, and what its absence does.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_harness::mqtt::connack;
use rollcall_harness::mqtt::property::receive_maximum;

use crate::support::mqtt::{DevicePacket, puback};
use crate::support::net::{Dial, Peer, Reply, accept, answering};
use crate::support::time::now_ms;
use crate::support::{Bench, bench};

/// What may pass: RabbitMQ stored nothing; unspecified; implementation specific; not authorized; packet
/// identifier in use; quota exceeded.
const REFUSALS: [u8; 6] = [0x10, 0x80, 0x83, 0x87, 0x91, 0x97];

/// What will not pass: topic name invalid; payload format invalid.
const FINAL_REFUSALS: [u8; 2] = [0x90, 0x99];

#[test]
fn a_sample_that_was_refused_is_sent_again_until_it_is_taken() {
    for reason in REFUSALS {
        let mut refused = BTreeSet::new();
        // Every third sample is refused once.
        let mut script = Some(answering(move |publish| {
            let is_first = publish.is_status() && publish.seq() % 3 == 1 && refused.insert(publish.seq());
            Reply::Ack(if is_first { reason } else { 0 })
        }));
        let mut bench: Bench<300> = bench(move |_| Dial::Accept(script.take().expect("one connection")));
        let stats = bench.run_and_stop(60_500, 90_500);
        assert_eq!((stats.sampled, stats.acknowledged, stats.rejected), (61, 61, 20));
        assert_eq!(stats.last_rejection, Some(reason));
        assert_eq!(bench.net.granted(), 61);
    }
}

#[test]
fn with_several_in_flight_only_the_refused_one_is_sent_again() {
    for reason in REFUSALS {
        let mut refused = false;
        // Answers wait, so that the window is full when the refusal comes.
        let script = answering(move |publish| {
            let refuse = publish.is_status() && publish.seq() == 3 && !std::mem::replace(&mut refused, true);
            Reply::Ack(if refuse { reason } else { 0 })
        });
        let mut script = Some(Peer { delay_ms: 6_000, ..script });
        let mut bench: Bench<300> = bench(move |_| Dial::Accept(script.take().expect("one connection")));
        let stats = bench.run_and_stop(30_500, 60_500);
        assert_eq!((stats.acknowledged, stats.rejected, stats.published), (31, 1, 32));
        let mut sequence = bench.net.sequence();
        sequence.sort_unstable();
        let extra: Vec<_> =
            sequence.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        assert_eq!(extra, [3]);
    }
}

#[test]
fn a_broker_that_refuses_everything_is_not_met_with_a_storm() {
    for reason in REFUSALS {
        let script = move |_| {
            Dial::Accept(answering(move |publish| Reply::Ack(if publish.is_status() { reason } else { 0 })))
        };
        let mut bench: Bench<20> = bench(script);
        let stats = bench.run_until(600_500);
        assert_eq!((stats.acknowledged, stats.outbox, stats.overflowed), (0, 20, 581));
        // The same pace as that of connections: half of 30 s on average.
        assert!((10..90).contains(&stats.rejected), "{} refusals", stats.rejected);
        assert_eq!(stats.published, stats.rejected);
        assert_eq!(stats.connects, 1, "the link is not to blame");
    }
}

#[test]
fn a_window_that_is_refused_whole_counts_as_one_refusal() {
    let mut refused = 0;
    let script = move |_| match now_ms() < 20_000 {
        true => Dial::Refuse,
        false => Dial::Accept(Peer {
            delay_ms: 100,
            ..answering(move |publish| {
                refused += u32::from(publish.is_status());
                Reply::Ack(if publish.is_status() && refused <= 8 { 0x97 } else { 0 })
            })
        }),
    };
    let mut bench: Bench<300> = bench(script);
    let stats = bench.run_and_stop(60_500, 90_000);
    assert_eq!((stats.rejected, stats.outbox), (8, 0));
    let sent_ms: Vec<_> = bench.net.samples().iter().map(|sample| sample.0).collect();
    // Refusals arrive after 100 ms, that of the eighth sample last, as presence had the eighth place at
    // first. The wait is the first one, at most half a second.
    assert!((100..=600).contains(&(sent_ms[8] - sent_ms[7])), "{sent_ms:?}");
}

#[test]
fn after_refusals_end_the_backlog_flows_at_once() {
    let script = |_| {
        Dial::Accept(answering(|publish| {
            let refuse = publish.is_status() && now_ms() < 60_000;
            Reply::Ack(if refuse { 0x97 } else { 0 })
        }))
    };
    let mut bench: Bench<300> = bench(script);
    let stats = bench.run_until(91_000);
    assert_eq!(stats.outbox, 0, "{stats:?}");
    assert_eq!(stats.acknowledged, 91);
}

#[test]
fn a_sample_that_is_refused_for_good_is_counted_and_not_sent_again() {
    for reason in FINAL_REFUSALS {
        let mut script = Some(answering(move |publish| {
            Reply::Ack(if publish.is_status() && publish.seq() % 3 == 1 { reason } else { 0 })
        }));
        let mut bench: Bench<300> = bench(move |_| Dial::Accept(script.take().expect("one connection")));
        let stats = bench.run_and_stop(60_500, 90_500);
        assert_eq!((stats.sampled, stats.acknowledged, stats.refused), (61, 41, 20));
        assert_eq!((stats.rejected, stats.failures, stats.last_rejection), (0, 0, Some(reason)));
        assert_eq!(bench.net.sequence(), (0..61).collect::<Vec<_>>());
    }
}

#[test]
fn a_refusal_that_will_not_pass_lets_the_next_sample_go_on_at_once() {
    for reason in FINAL_REFUSALS {
        let script = move |_| match now_ms() < 20_000 {
            true => Dial::Refuse,
            false => Dial::Accept(answering(move |p| Reply::Ack(if p.is_status() { reason } else { 0 }))),
        };
        let mut bench: Bench<300> = bench(script);
        let stats = bench.run_until(60_500);
        assert_eq!((stats.refused, stats.outbox, stats.connects), (61, 0, 1));
        for (sent_at_ms, _, publish) in bench.net.samples() {
            let taken_at_ms = publish.seq() * 1_000;
            let connected_at_ms = *bench.net.attempts_ms().last().unwrap();
            assert_eq!(sent_at_ms, taken_at_ms.max(connected_at_ms), "sample {}", publish.seq());
        }
    }
}

#[test]
fn a_sample_that_is_refused_for_good_in_the_middle_of_a_window_disturbs_no_other() {
    for reason in FINAL_REFUSALS {
        for place in 3..11 {
            // Answers wait, so that the window is full when the refusal comes.
            let script = answering(move |publish| {
                Reply::Ack(if publish.is_status() && publish.seq() == place { reason } else { 0 })
            });
            let mut script = Some(Peer { delay_ms: 9_000, ..script });
            let mut bench: Bench<300> = bench(move |_| Dial::Accept(script.take().expect("one connection")));
            let stats = bench.run_and_stop(30_500, 90_500);
            assert_eq!((stats.acknowledged, stats.refused, stats.rejected), (30, 1, 0));
            assert_eq!(bench.net.in_flight_max(), 8);
            assert_eq!(bench.net.sequence(), (0..31).collect::<Vec<_>>());
        }
    }
}

#[test]
fn in_one_window_what_may_pass_is_sent_again_and_what_will_not_is_not() {
    for (may_pass, reason) in REFUSALS.into_iter().zip(FINAL_REFUSALS.into_iter().cycle()) {
        for (first, second) in [(3, 4), (4, 3)] {
            let mut refused = false;
            let script = answering(move |publish| match publish.is_status().then(|| publish.seq()) {
                Some(seq) if seq == first && !std::mem::replace(&mut refused, true) => Reply::Ack(may_pass),
                Some(seq) if seq == second => Reply::Ack(reason),
                _ => Reply::Ack(0),
            });
            let mut script = Some(Peer { delay_ms: 6_000, ..script });
            let mut bench: Bench<300> = bench(move |_| Dial::Accept(script.take().expect("one connection")));
            let stats = bench.run_and_stop(30_500, 90_500);
            assert_eq!((stats.acknowledged, stats.refused, stats.rejected), (30, 1, 1));
            let mut sequence = bench.net.sequence();
            sequence.sort_unstable();
            let mut expected: Vec<_> = (0..31).chain([first]).collect();
            expected.sort_unstable();
            assert_eq!(sequence, expected);
        }
    }
}

#[test]
fn a_refusal_for_good_after_refusals_that_passed_ends_the_wait() {
    let script = |_| {
        Dial::Accept(answering(|publish| match (publish.is_status(), now_ms() < 60_000) {
            (false, _) => Reply::Ack(0),
            (true, true) => Reply::Ack(0x97),
            (true, false) => Reply::Ack(0x99),
        }))
    };
    let mut bench: Bench<300> = bench(script);
    let stats = bench.run_until(91_000);
    assert_eq!((stats.refused, stats.acknowledged, stats.outbox), (91, 0, 0));
}

#[test]
fn a_refused_presence_does_not_hold_the_samples_up() {
    for reason in REFUSALS.into_iter().chain(FINAL_REFUSALS) {
        let script =
            move |_| Dial::Accept(answering(move |p| Reply::Ack(if p.is_status() { 0 } else { reason })));
        let mut bench: Bench<300> = bench(script);
        let stats = bench.run_and_stop(10_500, 20_000);
        assert_eq!((stats.acknowledged, stats.rejected, stats.refused, stats.outbox), (11, 0, 0, 0));
    }
}

#[test]
fn acknowledgements_of_unknown_packets_change_nothing() {
    for reason in [0, 0x10, 0x97, 0x99] {
        let script = move |_| {
            Dial::Accept(answering(move |p| Reply::AckAfter(puback(p.packet_id.wrapping_add(100), reason))))
        };
        let mut bench: Bench<300> = bench(script);
        let stats = bench.run_and_stop(10_500, 20_000);
        assert_eq!((stats.acknowledged, stats.rejected, stats.refused, stats.connects), (11, 0, 0, 1));
    }
}

#[test]
fn the_receive_maximum_of_the_broker_bounds_what_is_in_flight() {
    for (maximum, expected) in [(1, 1), (3, 3), (100, 8)] {
        let dial = move |_| {
            let connack = Some(connack(false, 0, &receive_maximum(maximum)));
            match now_ms() < 20_000 {
                true => Dial::Refuse,
                false => Dial::Accept(Peer { connack, delay_ms: 400, ..Peer::default() }),
            }
        };
        let mut bench: Bench<300> = bench(dial);
        let stats = bench.run_and_stop(90_500, 120_000);
        assert_eq!((stats.acknowledged, stats.connects), (91, 1));
        assert_eq!(bench.net.in_flight_max(), expected, "a backlog fills the window");
    }
}

#[test]
fn a_session_that_is_not_resumed_gets_the_samples_again_with_their_new_age() {
    // Three samples unanswered, then the connection ends.
    let mut bench: Bench<300> = bench(|attempt| match attempt {
        0 => Dial::Accept(answering(|publish| match publish.is_status().then(|| publish.seq()) {
            None => Reply::Ack(0),
            Some(3) => Reply::Close,
            Some(_) => Reply::Nothing,
        })),
        _ => accept(),
    });
    let stats = bench.run_and_stop(10_500, 20_000);
    assert_eq!((stats.acknowledged, stats.outbox), (11, 0));
    let samples = bench.net.samples();
    let first: Vec<_> = samples.iter().filter(|sample| sample.1 == 0).collect();
    let again: Vec<_> = samples.iter().filter(|sample| sample.1 == 1).collect();
    assert_eq!(first.len(), 4);
    for (before, after) in first.iter().zip(&again) {
        let (before, after) = (&before.2.reading(), (after.0, after.2.reading()));
        assert_eq!((before.id, before.status), (after.1.id, after.1.status));
        assert_eq!(after.0 - u64::from(after.1.age_ms), before.id.unwrap().seq.get() * 1_000);
    }
    assert!(again[0].2.reading().age_ms > 3_000);
}

#[test]
fn every_copy_of_a_sample_says_the_same_instant_and_the_next_sample_one_period_later() {
    // The first two connections answer presence alone, so that acknowledgements are waited for in vain.
    let mut bench: Bench<300> = bench(|attempt| match attempt {
        0 | 1 => Dial::Accept(answering(|publish| match publish.is_status() {
            true => Reply::Nothing,
            false => Reply::Ack(0),
        })),
        _ => accept(),
    });
    let stats = bench.run_and_stop(40_500, 60_000);
    assert_eq!((stats.acknowledged, stats.connects), (41, 3));
    let samples = bench.net.samples();
    let mut encoded_at_ms = BTreeMap::<_, BTreeSet<_>>::new();
    for (at_ms, _, publish) in &samples {
        let (seq, reading) = (publish.seq(), publish.reading());
        assert_eq!(reading.up_ms, Some(*at_ms), "what the clock said when the copy was encoded");
        assert_eq!(at_ms - u64::from(reading.age_ms), seq * 1_000, "sample {seq}");
        encoded_at_ms.entry(seq).or_default().insert(*at_ms);
    }
    assert_eq!(encoded_at_ms.len(), 41);
    assert_eq!(encoded_at_ms[&0].len(), 3, "a copy a connection, each later than the one before");
}

#[test]
fn every_connection_asks_for_a_clean_start_and_believes_no_kept_session() {
    // A broker that claims to have kept a session all the same.
    let mut bench: Bench<300> = bench(|attempt| {
        let script = answering(move |p| match p.is_status() && p.seq() >= 2 && attempt == 0 {
            true => Reply::Close,
            false => Reply::Ack(0),
        });
        Dial::Accept(Peer { connack: Some(connack(true, 0, &[])), ..script })
    });
    let stats = bench.run_and_stop(10_500, 20_000);
    assert_eq!((stats.acknowledged, stats.connects), (11, 2));
    let connects = bench.net.seen().into_iter().filter_map(|seen| match seen.packet {
        DevicePacket::Connect(connect) => Some(connect[7] & 0b10),
        _ => None,
    });
    assert_eq!(connects.collect::<Vec<_>>(), [0b10, 0b10]);
}
