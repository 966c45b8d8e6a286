//! Faults at every place: each byte, each await, and many at once from a seed.

use std::cell::RefCell;
use std::rc::Rc;

use rollcall_harness::mqtt::connack;
use rollcall_harness::mqtt::property::receive_maximum;
use rollcall_harness::seed;

use crate::support::net::{Dial, Peer, Reply, accept, answering};
use crate::support::time::now_ms;
use crate::support::{Bench, Limit, TestRng, bench};

#[test]
fn a_link_that_moves_a_byte_at_a_time_is_as_good_as_any() {
    for (chunk, yields) in [(1, false), (1, true), (3, true), (usize::MAX, true)] {
        let peer = move |_| Dial::Accept(Peer { chunk, yields, ..Peer::default() });
        let mut bench: Bench<300> = bench(peer);
        let stats = bench.run_and_stop(30_500, 60_000);
        assert_eq!((stats.acknowledged, stats.connects, stats.published), (31, 1, 31));
    }
}

#[test]
fn answers_that_stall_are_waited_for() {
    let mut bench: Bench<300> = bench(|_| Dial::Accept(Peer { delay_ms: 9_000, ..Peer::default() }));
    let stats = bench.run_and_stop(60_500, 120_000);
    assert_eq!((stats.acknowledged, stats.connects), (61, 1));
}

#[test]
fn a_connection_cut_after_any_byte_loses_and_repeats_nothing_that_was_acknowledged() {
    // CONNECT, presence and the first two publishes end before this.
    for cut_after in 1..=420 {
        let mut bench: Bench<300> = bench(move |attempt| match attempt {
            0 => Dial::Accept(Peer { cut_after, ..Peer::default() }),
            _ => accept(),
        });
        let stats = bench.run_and_stop(5_500, 30_000);
        assert_eq!((stats.acknowledged, stats.outbox), (6, 0), "cut after {cut_after}");
        // Sent twice is only what was cut, or what was taken and whose answer was lost.
        assert!(bench.net.sequence().len() <= 6 + 2, "cut after {cut_after}: {:?}", bench.net.sequence());
    }
}

#[test]
fn a_run_dropped_at_any_await_goes_on_with_the_same_outbox() {
    // Each read, write and flush is pending once, so that the future can be dropped in every one of them.
    let peer = || Dial::Accept(Peer { chunk: 7, yields: true, ..Peer::default() });
    let mut polls = 0;
    loop {
        let mut bench: Bench<300> = bench(move |_| peer());
        let done = bench.run(Some((2_500, 30_000)), Limit { until_ms: u64::MAX, polls });
        let dropped = done.is_none();
        let stats = bench.run_and_stop(4_500, 40_000);
        assert_eq!((stats.acknowledged, stats.outbox), (stats.sampled, 0), "dropped after {polls} polls");
        assert_eq!(bench.net.granted(), stats.sampled);
        if !dropped {
            break;
        }
        polls += 1;
    }
    assert!(polls > 60, "{polls} awaits");
}

/// From then on the network of [`random_peer`] is without faults.
const FAULTS_END_MS: u64 = 300_000;

#[test]
fn under_random_faults_nothing_is_lost_or_acknowledged_without_success() {
    let seed = seed();
    for round in 0..100 {
        let rng = Rc::new(RefCell::new(TestRng(seed.wrapping_add(round))));
        let mut bench: Bench<40> = bench(move |_| random_peer(&rng));
        // Dropped three times on the way, in the middle of whatever it does.
        for until_ms in [37_300, 91_000, 180_000] {
            bench.run_until(until_ms);
        }
        // The last faulty peer may take nearly 8 s for each of 40 samples.
        let stats = bench.run_and_stop(FAULTS_END_MS + 500, 4 * FAULTS_END_MS);
        assert_eq!((stats.sampled, stats.missed), (302, 0), "round {round}");
        assert_eq!(stats.acknowledged + stats.refused + stats.dropped(), 302, "round {round}: {stats:?}");
        for (at_ms, _, publish) in bench.net.samples() {
            assert!(u64::from(publish.reading().age_ms) <= at_ms, "round {round}");
        }
    }
}

fn random_peer(rng: &Rc<RefCell<TestRng>>) -> Dial {
    if now_ms() >= FAULTS_END_MS {
        return accept();
    }
    let mut draw = rng.borrow_mut();
    match draw.below(12) {
        0 | 1 => return Dial::Refuse,
        2 => return Dial::Hang,
        _ => {}
    }
    let size = |draw: &mut TestRng, chance| match draw.one_in(chance) {
        true => 1 + draw.below(5_000) as usize,
        false => usize::MAX,
    };
    let (cut_after, stall_after) = (size(&mut draw, 2), size(&mut draw, 4));
    let connack = (!draw.one_in(20)).then(|| connack(false, 0, &receive_maximum(1 + draw.below(12) as u16)));
    let replies = Rc::clone(rng);
    Dial::Accept(Peer {
        connack,
        delay_ms: draw.below(3) * draw.below(4_000),
        chunk: 1 + draw.below(300) as usize,
        cut_after,
        stall_after,
        yields: draw.one_in(2),
        ..answering(move |_| random_reply(&mut replies.borrow_mut()))
    })
}

fn random_reply(draw: &mut TestRng) -> Reply {
    if now_ms() >= FAULTS_END_MS {
        return Reply::Ack(0);
    }
    match draw.below(60) {
        0 => Reply::Close,
        1 => Reply::Nothing,
        2 => Reply::Raw(vec![0xff; 9]),
        3..6 => Reply::Ack(0x10),
        6..9 => Reply::Ack(0x97),
        9 => Reply::AckAfter(vec![0xd0, 0]),
        10 => Reply::Ack(0x99),
        _ => Reply::Ack(0),
    }
}
