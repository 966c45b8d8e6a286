//! The two halves of an emitter in a task each, of which the session's may stand still while it calculates.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use rollcall_device::store::Volatile;
use rollcall_device::{Clock, Emitter, Stats, TwoTasks};
use rollcall_harness::seed;

use crate::support::net::{ScriptedNet, accept};
use crate::support::time::VirtualClock;
use crate::support::{CountingSensor, TestRng, Woken, config};

/// The session calculates from the first of these instants to the second.
const BUSY_MS: std::ops::Range<u64> = 3_500..13_500;

const STOP_MS: u64 = 20_500;

#[test]
fn a_session_that_calculates_for_ten_seconds_holds_no_sample_up_and_hears_of_each_one() {
    let (clock, mut sensor, mut rng) = (VirtualClock::start(), CountingSensor(0), TestRng(seed()));
    let net = ScriptedNet::new(clock, |_| accept());
    let stats = Stats::<TwoTasks>::zero();
    let mut emitter: Emitter<'_, 300, TwoTasks> = Emitter::new(config(), &stats);
    let (sampler, sender) = emitter.split();
    let stop = async {
        clock.sleep_until(STOP_MS).await;
        STOP_MS + 10_000
    };
    let mut sampler = pin!(sampler.run(&clock, &mut sensor, Volatile, stop));
    let mut sender = pin!(sender.run(&net, &clock, &mut rng));
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut is_sampling = true;
    for now_ms in (0..STOP_MS + 10_000).step_by(500) {
        clock.set_ms(now_ms);
        // Its waker does nothing: an interrupt of the clock's would be there at each of these instants.
        is_sampling =
            is_sampling && sampler.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        // The session is polled when somebody woke it, and at no other time.
        while !BUSY_MS.contains(&now_ms) && woken.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(last) = sender.as_mut().poll(&mut Context::from_waker(&waker)) {
                assert!(!is_sampling);
                assert_eq!((last.sampled, last.missed, last.acknowledged, last.outbox), (21, 0, 21, 0));
                assert_eq!(net.sequence(), (0..21).collect::<Vec<_>>());
                return;
            }
        }
        let (taken, sent) = (1 + now_ms / 1_000, net.samples().len() as u64);
        let expected = if BUSY_MS.contains(&now_ms) { 1 + BUSY_MS.start / 1_000 } else { taken };
        assert_eq!((stats.snapshot().sampled, sent), (taken, expected), "at {now_ms} ms");
    }
    panic!("the session never ended: {:?}", stats.snapshot());
}
