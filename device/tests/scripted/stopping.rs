//! The clean stop: no more samples, drain, `offline`, DISCONNECT, and never later than asked.

use rollcall_device::Clock;
use rollcall_device::stats::State;

use crate::support::mqtt::DevicePacket;
use crate::support::net::{Dial, Peer, Reply, accept, answering, away_until};
use crate::support::{Bench, bench};

#[test]
fn a_drained_device_says_offline_and_disconnects() {
    let mut bench: Bench<300> = bench(|_| accept());
    let stats = bench.run_and_stop(5_500, 35_000);
    assert_eq!((stats.sampled, stats.outbox, stats.state), (6, 0, State::Idle));
    assert_eq!(bench.clock.now_ms(), 5_500, "it does not wait without a reason");
    let seen = bench.net.seen();
    let [.., offline, disconnect] = &seen[..] else { panic!("{seen:?}") };
    let DevicePacket::Publish(offline) = &offline.packet else { panic!("{seen:?}") };
    let payload = &br#"{"state":"offline","boot":"9f3c5a0be1d24c77","connection":1}"#[..];
    assert_eq!((offline.topic.as_str(), &*offline.payload), ("rollcall/6/dev-1/presence", payload));
    assert!(offline.retained);
    // An empty body is reason 0x00, normal disconnection, which discards the will.
    assert!(
        matches!(&disconnect.packet, DevicePacket::Disconnect(body) if body.iter().all(|byte| *byte == 0))
    );
}

#[test]
fn what_is_left_is_drained_before_the_goodbye() {
    let mut bench: Bench<300> = bench(away_until(60_000));
    let stats = bench.run_and_stop(50_500, 120_000);
    assert_eq!((stats.sampled, stats.acknowledged, stats.outbox), (51, 51, 0));
}

#[test]
fn a_request_to_stop_cuts_the_wait_before_the_next_attempt_short() {
    let mut bench: Bench<300> = bench(away_until(300_000));
    let stats = bench.run_and_stop(300_000, 330_000);
    assert_eq!(stats.outbox, 0);
    assert_eq!(bench.clock.now_ms(), 300_000);
}

#[test]
fn without_a_broker_it_returns_at_the_deadline_with_the_rest_in_the_outbox() {
    for make in [|| Dial::Refuse, || Dial::Hang] {
        let mut bench: Bench<300> = bench(move |_| make());
        let stats = bench.run_and_stop(5_500, 35_000);
        assert_eq!((stats.sampled, stats.outbox), (6, 6));
        assert_eq!(bench.clock.now_ms(), 35_000);
    }
}

#[test]
fn with_a_silent_broker_it_returns_soon_after_the_deadline() {
    let silent = || Dial::Accept(answering(|_| Reply::Nothing));
    let mute = || Dial::Accept(Peer { connack: None, ..Peer::default() });
    for make in [silent as fn() -> Dial, mute] {
        let mut bench: Bench<300> = bench(move |_| make());
        let stats = bench.run_and_stop(5_500, 12_000);
        assert_eq!((stats.sampled, stats.outbox), (6, 6));
    }
}

#[test]
fn a_stop_that_is_due_at_the_start_takes_no_sample() {
    let mut bench: Bench<300> = bench(|_| accept());
    let stats = bench.run_and_stop(0, 10_000);
    assert_eq!((stats.sampled, stats.outbox), (0, 0));
}

#[test]
fn another_run_goes_on_where_the_last_one_ended() {
    let mut bench: Bench<300> = bench(away_until(20_000));
    let first = bench.run_and_stop(5_500, 10_000);
    assert_eq!((first.sampled, first.outbox), (6, 6));
    let second = bench.run_and_stop(30_500, 60_000);
    assert_eq!(second.acknowledged, second.sampled);
    assert_eq!(bench.net.sequence(), (0..second.sampled).collect::<Vec<_>>());
}
