//! embassy-time's driver, which minimq and embassy-net ask for the time and for alarms.
//!
//! embassy's own generic queue holds 128 alarms at most and wakes the one that it evicts at once, which
//! is a busy loop with more devices than that. This one has no limit, and one alarm a task.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use embassy_time_driver::{Driver, TICK_HZ, time_driver_impl};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

time_driver_impl!(static DRIVER: ThreadDriver = ThreadDriver { alarms: LazyLock::new(Alarms::start) });

struct ThreadDriver {
    alarms: LazyLock<Alarms>,
}

impl Driver for ThreadDriver {
    fn now(&self) -> u64 {
        ticks(START.elapsed())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        self.alarms.set(at, waker);
    }
}

fn ticks(time: Duration) -> u64 {
    (time.as_nanos() * u128::from(TICK_HZ) / 1_000_000_000) as u64
}

fn duration(ticks: u64) -> Duration {
    Duration::from_nanos((u128::from(ticks) * 1_000_000_000 / u128::from(TICK_HZ)) as u64)
}

/// A task, by the identity of its waker. A queued waker keeps its task's memory, so that no other task
/// can have the same identity meanwhile.
type TaskKey = (usize, usize);

fn key(waker: &Waker) -> TaskKey {
    (waker.data() as usize, std::ptr::from_ref(waker.vtable()) as usize)
}

struct Alarms {
    queue: &'static Mutex<Queue>,
    earlier: &'static Condvar,
}

#[derive(Default)]
struct Queue {
    by_time: BTreeMap<(u64, TaskKey), Waker>,
    time_of: HashMap<TaskKey, u64>,
}

impl Alarms {
    fn start() -> Self {
        let queue: &'static Mutex<Queue> = Box::leak(Box::default());
        let earlier: &'static Condvar = Box::leak(Box::default());
        thread::spawn(|| ring(queue, earlier));
        Self { queue, earlier }
    }

    /// A task has one alarm, the earliest it asked for: it sets the later one when that has rung.
    fn set(&self, at: u64, waker: &Waker) {
        let key = key(waker);
        let mut queue = lock(self.queue);
        if let Some(set) = queue.time_of.get(&key).copied() {
            if set <= at {
                return;
            }
            queue.by_time.remove(&(set, key));
        }
        queue.time_of.insert(key, at);
        queue.by_time.insert((at, key), waker.clone());
        let is_first = queue.by_time.first_key_value().is_some_and(|(first, _)| *first == (at, key));
        drop(queue);
        if is_first {
            self.earlier.notify_one();
        }
    }
}

fn ring(alarms: &Mutex<Queue>, earlier: &Condvar) {
    let mut queue = lock(alarms);
    loop {
        let now = START.elapsed();
        let Some(first) = queue.by_time.first_entry() else {
            queue = earlier.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let (at, key) = *first.key();
        if at <= ticks(now) {
            let waker = first.remove();
            queue.time_of.remove(&key);
            drop(queue);
            waker.wake();
            queue = lock(alarms);
        } else {
            let wait = duration(at).saturating_sub(now) + Duration::from_micros(1);
            queue = earlier.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
