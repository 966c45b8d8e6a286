//! The outbox and the counters, moved together: each sample is in exactly one of them.
//!
//! This is what sampler and session share. Both live in one task, and no borrow is held across an await.

use core::cell::{Cell, RefCell};

use embassy_futures::select::select;
use rollcall_wire::{Sequence, Status, Taken, mutant};

use crate::clock::Clock;
use crate::fmt::warning;
use crate::outbox::{Contents, Outbox, Restored, Sample};
use crate::stats::{LinkError, Snapshot, State, Stats};
use crate::wait::until;

/// The outbox, the counters and the request to stop.
pub(crate) struct Ledger<'a, const N: usize> {
    outbox: RefCell<Outbox<N>>,
    stats: &'a Stats,
    next_seq: Cell<Sequence>,
    /// Samples below it were restored.
    first_seq: Cell<Sequence>,
    /// Whether a sample has its number and is not in the outbox yet.
    is_storing: Cell<bool>,
    /// Set once sampling has stopped: until when to drain, in milliseconds of the clock.
    drain_until_ms: Cell<Option<u64>>,
    connected_at_ms: Cell<Option<u64>>,
}

impl<'a, const N: usize> Ledger<'a, N> {
    pub(crate) const fn new(stats: &'a Stats) -> Self {
        Self {
            outbox: RefCell::new(Outbox::new()),
            stats,
            next_seq: Cell::new(Sequence::ZERO),
            first_seq: Cell::new(Sequence::ZERO),
            is_storing: Cell::new(false),
            drain_until_ms: Cell::new(None),
            connected_at_ms: Cell::new(None),
        }
    }

    /// Readies it for a run: whatever an earlier one, perhaps cancelled, had in flight is unsent again, and
    /// a sample whose storing was cancelled is lost.
    pub(crate) fn open(&self) {
        self.drain_until_ms.set(None);
        self.connected_at_ms.set(None);
        self.outbox.borrow_mut().release_all();
        self.not_kept();
    }

    /// Puts a sample of an earlier run back, before this one.
    pub(crate) fn restore(&self, sample: Sample) {
        let next = self.next_seq.get().max(sample.seq.next());
        self.next_seq.set(next);
        mutant!(NumberReused => self.next_seq.set(Sequence::ZERO));
        self.first_seq.set(next);
        let restored = self.outbox.borrow_mut().restore(sample);
        self.update(|stats| {
            stats.restored += u64::from(restored != Restored::AlreadyThere);
            stats.overflowed += u64::from(restored == Restored::InsteadOfOldest);
        });
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.stats.snapshot()
    }

    // What the sampler does.

    /// Numbers a sample. It is not counted before it is stored: [`kept`](Self::kept) or
    /// [`not_kept`](Self::not_kept) follows, or [`open`](Self::open) where the run is cancelled meanwhile.
    pub(crate) fn number(&self, status: Status, taken_at_ms: u64) -> Sample {
        let seq = self.next_seq.get();
        self.next_seq.set(seq.next());
        self.is_storing.set(true);
        Sample { seq, status, taken_at_ms }
    }

    /// What is in the outbox, for a store.
    pub(crate) fn contents(&self) -> Contents {
        self.outbox.borrow().contents()
    }

    pub(crate) fn kept(&self, sample: Sample) {
        self.is_storing.set(false);
        let dropped = self.outbox.borrow_mut().push(sample);
        self.update(|stats| {
            stats.sampled += 1;
            stats.overflowed += u64::from(dropped.is_some());
        });
    }

    /// The sample that was being stored, if any, is dropped.
    pub(crate) fn not_kept(&self) {
        if self.is_storing.take() {
            self.update(|stats| {
                stats.sampled += 1;
                stats.unstored += 1;
            });
        }
    }

    pub(crate) fn missed(&self, periods: u64) {
        self.update(|stats| stats.missed += periods);
    }

    pub(crate) fn stop(&self, drain_until_ms: u64) {
        self.drain_until_ms.set(Some(drain_until_ms));
    }

    // What the session does.

    /// The oldest unsent sample that is still worth sending, from now on in flight.
    pub(crate) fn claim(&self, now_ms: u64) -> Option<Sample> {
        let (expired, claimed) = {
            let mut outbox = self.outbox.borrow_mut();
            (outbox.expire(now_ms), outbox.claim())
        };
        if expired > 0 {
            warning!("dropped {} samples as too old for the host", expired);
            self.update(|stats| stats.expired += expired);
        }
        claimed
    }

    /// In which run a sample of the outbox was taken.
    pub(crate) fn taken(&self, seq: Sequence) -> Taken {
        if seq < self.first_seq.get() { Taken::EarlierRun } else { Taken::ThisRun }
    }

    pub(crate) fn published(&self) {
        self.update(|stats| stats.published += 1);
    }

    /// A sample in flight leaves the outbox: acknowledged, or refused for good with a reason code.
    pub(crate) fn settle(&self, seq: Sequence, refusal: Option<u8>) {
        let Some(sample) = self.outbox.borrow_mut().acknowledge(seq) else { return };
        self.update(|stats| {
            if refusal.is_some() {
                stats.refused += 1;
                stats.last_rejection = refusal;
            } else {
                stats.acknowledged += 1;
                stats.acknowledged_by_status[sample.status.index()] += 1;
            }
        });
    }

    pub(crate) fn reject(&self, seq: Sequence, reason: u8) {
        self.outbox.borrow_mut().release(seq);
        self.update(|stats| {
            stats.rejected += 1;
            stats.last_rejection = Some(reason);
        });
    }

    /// The link is gone, and with it every acknowledgement that was to come over it. Returns how long the
    /// broker had accepted it, in milliseconds.
    pub(crate) fn link_failed(&self, error: LinkError, now_ms: u64) -> u64 {
        self.outbox.borrow_mut().release_all();
        self.update(|stats| {
            stats.failures += 1;
            stats.last_error = Some(error);
        });
        self.connected_at_ms.take().map_or(0, |at| now_ms.saturating_sub(at))
    }

    pub(crate) fn connected(&self, now_ms: u64) {
        self.connected_at_ms.set(Some(now_ms));
        self.update(|stats| {
            stats.connects += 1;
            stats.state = State::Connected;
        });
    }

    pub(crate) fn state(&self, state: State) {
        self.update(|stats| stats.state = state);
    }

    // What both ask.

    pub(crate) fn has_unsent(&self) -> bool {
        self.outbox.borrow().has_unsent()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.drain_until_ms.get().is_some()
    }

    /// Until when to drain, once sampling has stopped.
    pub(crate) fn drain_until_ms(&self) -> Option<u64> {
        self.drain_until_ms.get()
    }

    /// Whether sampling has stopped and nothing is left to do about it.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.drain_until_ms.get().is_some_and(|at| now_ms >= at || self.outbox.borrow().is_empty())
    }

    /// Completes when [`is_over`](Self::is_over) is true.
    pub(crate) async fn over(&self, clock: &impl Clock) {
        until(|| self.is_stopping()).await;
        let deadline_ms = self.drain_until_ms.get().unwrap_or_default();
        select(clock.sleep_until(deadline_ms), until(|| self.outbox.borrow().is_empty())).await;
    }

    fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        let outbox = self.outbox.borrow().len() as u64;
        self.stats.update(|stats| {
            change(stats);
            stats.outbox = outbox;
        });
    }
}
