//! A bench for one emitter: a virtual clock, a network whose peers follow a script, and a loop that polls.
//!
//! Nothing sleeps and nothing hangs: time moves to the next instant that somebody waits for, and a future
//! that stays busy without time passing fails the test, between polls here and within one by the clock.
//! After every poll the device's invariant is checked.

#[allow(dead_code, reason = "the power is not cut here")]
#[path = "../../flash/model.rs"]
pub(crate) mod flash;
pub(crate) mod mqtt;
pub(crate) mod net;
pub(crate) mod time;

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use rand_core::RngCore;
use rollcall_device::flash::FlashStore;
use rollcall_device::outbox::{Contents, Sample};
use rollcall_device::store::{NotKept, Store};
use rollcall_device::{Board, BootId, Clock, Config, DeviceId, Emitter, Sensor, Snapshot, Stats, Status};
use rollcall_harness::seed;

use self::net::{Dial, ScriptedNet};
use self::time::VirtualClock;

pub(crate) const DEVICE: &str = "dev-1";
pub(crate) const BOOT: BootId = BootId(0x9f3c_5a0b_e1d2_4c77);

/// Polls in a row, without time passing, that a well-behaved emitter never needs.
const BUSY_POLLS_MAX: u32 = 20_000;

/// SplitMix64 (G. Steele, 2014).
pub(crate) struct TestRng(pub(crate) u64);

impl TestRng {
    /// 0 to `bound` − 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl RngCore for TestRng {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.next_u64() as u8);
    }
}

/// Says 0, 1, … 6, 0, …: the status of a sample tells its sequence number, modulo 7.
pub(crate) struct CountingSensor(pub(crate) u64);

impl Sensor for CountingSensor {
    async fn sample(&mut self) -> Status {
        let status = Status::new((self.0 % 7) as u8);
        self.0 += 1;
        status.unwrap()
    }
}

/// How far to run.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    /// The future is dropped at this instant,
    pub(crate) until_ms: u64,
    /// or after this many polls.
    pub(crate) polls: u32,
}

pub(crate) struct Bench<const N: usize> {
    pub(crate) clock: VirtualClock,
    pub(crate) net: ScriptedNet,
    pub(crate) stats: &'static Stats,
    /// `None` is no store at all, as most devices have it.
    pub(crate) store: Option<TestStore>,
    emitter: Emitter<'static, N>,
    rng: TestRng,
    sensor: CountingSensor,
}

/// Keeps what it is given in memory, or refuses it.
#[derive(Default)]
pub(crate) struct TestStore {
    pub(crate) kept: Vec<Sample>,
    /// The numbers that it refuses.
    pub(crate) refuses: Vec<u64>,
    /// Storing takes this long, in milliseconds.
    pub(crate) takes_ms: u64,
    /// Where it keeps them besides.
    pub(crate) flash: Option<FlashStore<flash::Model, { flash::PAGES }>>,
}

impl Store for TestStore {
    async fn keep(&mut self, sample: Sample, others: impl FnOnce() -> Contents) -> Result<(), NotKept> {
        let clock = VirtualClock::running();
        clock.sleep_until(time::now_ms() + self.takes_ms).await;
        if self.refuses.contains(&sample.seq.get()) {
            return Err(NotKept);
        }
        if let Some(flash) = &mut self.flash {
            flash.keep(sample, others).await?;
        }
        self.kept.push(sample);
        Ok(())
    }
}

/// One sample a second, by device `dev-1`, to peers that `dial` makes.
pub(crate) fn bench<const N: usize>(dial: impl FnMut(usize) -> Dial + 'static) -> Bench<N> {
    bench_with(config(), dial)
}

pub(crate) fn config() -> Config<'static> {
    Config::new(DeviceId::new(DEVICE).unwrap(), BOOT, ([192, 0, 2, 1], 1883).into())
}

pub(crate) fn period(ms: u64) -> NonZeroU32 {
    NonZeroU32::new(ms as u32).unwrap()
}

pub(crate) fn bench_with<const N: usize>(
    config: Config<'static>,
    dial: impl FnMut(usize) -> Dial + 'static,
) -> Bench<N> {
    let clock = VirtualClock::start();
    let stats: &'static Stats = Box::leak(Box::default());
    Bench {
        clock,
        net: ScriptedNet::new(clock, dial),
        stats,
        store: None,
        emitter: Emitter::new(config, stats),
        rng: TestRng(seed()),
        sensor: CountingSensor(0),
    }
}

impl<const N: usize> Bench<N> {
    /// Hands the emitter a sample of an earlier run.
    pub(crate) fn restore(&mut self, sample: Sample) {
        self.emitter.restore(sample);
    }

    /// Runs until `until_ms`, then drops the future in the middle of whatever it does.
    pub(crate) fn run_until(&mut self, until_ms: u64) -> Snapshot {
        let done = self.run(None, Limit { until_ms, polls: u32::MAX });
        assert_eq!(done, None, "returned without a request to stop");
        self.stats.snapshot()
    }

    /// Samples until `stop_ms`, drains until `drain_ms` at most, and returns what `run` returned.
    pub(crate) fn run_and_stop(&mut self, stop_ms: u64, drain_ms: u64) -> Snapshot {
        let limit = Limit { until_ms: drain_ms + 60_000, polls: u32::MAX };
        let done = self.run(Some((stop_ms, drain_ms)), limit).expect("returns after its deadline");
        assert!(
            self.clock.now_ms() <= drain_ms + 2_000,
            "it returned at {}, after the farewell's time",
            self.clock.now_ms()
        );
        done
    }

    pub(crate) fn run(&mut self, stop: Option<(u64, u64)>, limit: Limit) -> Option<Snapshot> {
        let Self { clock, net, stats, store, emitter, rng, sensor } = self;
        let stop = async {
            let Some((stop_ms, drain_ms)) = stop else { return std::future::pending().await };
            clock.sleep_until(stop_ms).await;
            drain_ms
        };
        let board = Board { net, clock, rng, sensor };
        let mut future = pin!(async {
            match store {
                Some(store) => emitter.run_with(board, store, stop).await,
                None => emitter.run(board, stop).await,
            }
        });
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut busy_polls = 0;
        for _ in 0..limit.polls {
            clock.forget_deadlines();
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            check(&stats.snapshot(), net);
            if let Poll::Ready(snapshot) = polled {
                assert_eq!(snapshot, stats.snapshot());
                return Some(snapshot);
            }
            if woken.0.swap(false, Ordering::Relaxed) {
                busy_polls += 1;
                assert!(busy_polls < BUSY_POLLS_MAX, "busy without time passing");
                continue;
            }
            busy_polls = 0;
            let next_ms = clock.next_deadline_ms().expect("waits for something");
            clock.set_ms(next_ms.min(limit.until_ms));
            if next_ms >= limit.until_ms {
                return None;
            }
        }
        None
    }
}

pub(crate) struct Woken(pub(crate) AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What holds at every instant, whatever happens on the network.
fn check(stats: &Snapshot, net: &ScriptedNet) {
    let there = stats.acknowledged + stats.refused + stats.dropped() + stats.outbox;
    assert_eq!(stats.sampled + stats.restored, there, "{stats:?}");
    assert_eq!(stats.acknowledged_by_status.iter().sum::<u64>(), stats.acknowledged, "{stats:?}");
    let granted = net.granted();
    assert!(
        stats.acknowledged <= granted,
        "{} acknowledged, but peers said success for {granted} samples",
        stats.acknowledged
    );
    let refused = net.refused();
    assert!(
        stats.refused <= refused,
        "{} refused, but peers refused {refused} samples for good",
        stats.refused
    );
}
