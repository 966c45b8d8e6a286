//! What all parts of a run share: the trace, the oracle, the counts of faults, the wall clock, and the first failure.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rollcall_host::model::{Clock, UnixMs};
use tokio::sync::Notify;

use crate::coverage::{Coverage, Kind};
use crate::oracle::Oracle;
use crate::time::now_ms;
use crate::trace::Trace;

/// What went wrong: which check, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The check, by a name that stays the same while a failure is made smaller.
    pub check: &'static str,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.found)
    }
}

/// See the module. A store has to be able to share it between threads, so it can, though there is one.
pub(crate) struct Scene {
    trace: Mutex<Trace>,
    oracle: Mutex<Oracle>,
    coverage: Mutex<Coverage>,
    wall: Mutex<Wall>,
    failure: Mutex<Option<Failure>>,
    lives: AtomicU64,
    is_damaged: AtomicBool,
    is_over: Notify,
}

impl Scene {
    pub(crate) fn new(trace: Trace, oracle: Oracle, wall: Wall) -> Self {
        Self {
            trace: Mutex::new(trace),
            oracle: Mutex::new(oracle),
            coverage: Mutex::default(),
            wall: Mutex::new(wall),
            failure: Mutex::default(),
            lives: AtomicU64::new(0),
            is_damaged: AtomicBool::new(false),
            is_over: Notify::new(),
        }
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        lock(&self.trace).line(what);
    }

    pub(crate) fn trace(&self) -> MutexGuard<'_, Trace> {
        lock(&self.trace)
    }

    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        lock(&self.oracle)
    }

    pub(crate) fn wall(&self) -> MutexGuard<'_, Wall> {
        lock(&self.wall)
    }

    /// A fault came to pass.
    pub(crate) fn fired(&self, kind: Kind) {
        lock(&self.coverage).fired(kind);
        self.note(format_args!("fault {}", kind.name()));
    }

    pub(crate) fn coverage(&self) -> Coverage {
        lock(&self.coverage).clone()
    }

    /// Something is not as it must be; the first that is ends the run.
    pub(crate) fn fail(&self, check: &'static str, found: impl Into<String>) {
        let mut failure = lock(&self.failure);
        if failure.is_none() {
            let found = found.into();
            self.note(format_args!("FAILED {check}: {found}"));
            *failure = Some(Failure { check, found });
            self.is_over.notify_one();
        }
    }

    /// Fails with what a check found.
    pub(crate) fn expect(&self, outcome: Result<(), Failure>) {
        if let Err(Failure { check, found }) = outcome {
            self.fail(check, found);
        }
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    /// Numbers the processes of a run that take messages.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    /// The store has found that a bit flipped, and says so: that ends the run, and well.
    pub(crate) fn damaged(&self) {
        self.note(format_args!("the damage is found"));
        self.is_damaged.store(true, Ordering::Relaxed);
        self.is_over.notify_one();
    }

    /// Has it?
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Completes when something has failed, or the store is damaged.
    pub(crate) async fn is_over(&self) {
        self.is_over.notified().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host's wall clock: it may run fast or slow, stand still, and step.
#[derive(Debug)]
pub(crate) struct Wall {
    /// It said `wall` at `at_ms` of the run.
    at_ms: u64,
    wall: UnixMs,
    /// Millionths by which it runs fast.
    fast_ppm: i64,
    is_frozen: bool,
}

impl Wall {
    pub(crate) fn new(start: UnixMs) -> Self {
        Self { at_ms: 0, wall: start, fast_ppm: 0, is_frozen: false }
    }

    pub(crate) fn now(&self) -> UnixMs {
        if self.is_frozen {
            return self.wall;
        }
        let passed = now_ms() - self.at_ms;
        let more = passed as i64 * self.fast_ppm / 1_000_000;
        UnixMs((self.wall.0 + passed).saturating_add_signed(more))
    }

    fn anchor(&mut self) {
        (self.wall, self.at_ms) = (self.now(), now_ms());
    }

    pub(crate) fn step(&mut self, ms: i64) {
        self.anchor();
        self.wall = UnixMs(self.wall.0.saturating_add_signed(ms));
    }

    pub(crate) fn drift(&mut self, fast_ppm: i64) {
        self.anchor();
        self.fast_ppm = fast_ppm;
    }

    pub(crate) fn freeze(&mut self, is_frozen: bool) {
        self.anchor();
        self.is_frozen = is_frozen;
    }
}

/// The wall clock of a scene, as the host takes it.
pub(crate) fn clock(scene: &std::sync::Arc<Scene>) -> Clock {
    let scene = scene.clone();
    Clock::new(move || scene.wall().now())
}
