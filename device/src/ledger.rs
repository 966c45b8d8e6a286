//! The outbox and the counters, moved together: each sample is in exactly one of them.
//!
//! This is what sampler and session share. Each looks at it and changes it as a whole, while the other is kept out.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::Poll;

use embassy_futures::select::select;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::RawMutex;
use rollcall_wire::{Sequence, Status, Taken, mutant};

use crate::clock::Clock;
use crate::fmt::warning;
use crate::outbox::{Contents, Outbox, Restored, Sample};
use crate::sharing::Sharing;
use crate::stats::{LinkError, Snapshot, State, Stats};

/// The outbox, the counters and the request to stop, shared as `S` says.
pub(crate) struct Ledger<'a, S: Sharing, const N: usize> {
    sharing: S,
    books: Mutex<S::Lock, Books<N>>,
    stats: &'a Stats<S>,
}

/// What is behind the lock, besides the counters.
struct Books<const N: usize> {
    outbox: RefCell<Outbox<N>>,
    next_seq: Cell<Sequence>,
    /// Samples below it were restored.
    first_seq: Cell<Sequence>,
    /// Whether a sample has its number and is not in the outbox yet.
    is_storing: Cell<bool>,
    /// Set once sampling has stopped: until when to drain, in milliseconds of the clock.
    drain_until_ms: Cell<Option<u64>>,
    connected_at_ms: Cell<Option<u64>>,
    /// How many connections were begun.
    connections: Cell<u32>,
}

impl<'a, S: Sharing, const N: usize> Ledger<'a, S, N> {
    pub(crate) const fn new(stats: &'a Stats<S>) -> Self {
        let books = Books {
            outbox: RefCell::new(Outbox::new()),
            next_seq: Cell::new(Sequence::ZERO),
            first_seq: Cell::new(Sequence::ZERO),
            is_storing: Cell::new(false),
            drain_until_ms: Cell::new(None),
            connected_at_ms: Cell::new(None),
            connections: Cell::new(0),
        };
        Self { sharing: S::INIT, books: Mutex::const_new(S::Lock::INIT, books), stats }
    }

    /// Readies it for a run: whatever an earlier one, perhaps cancelled, had in flight is unsent again, and
    /// a sample whose storing was cancelled is lost.
    pub(crate) fn open(&self) {
        self.books.lock(|books| {
            books.drain_until_ms.set(None);
            books.connected_at_ms.set(None);
            books.outbox.borrow_mut().release_all();
        });
        self.not_kept();
    }

    /// Puts a sample of an earlier run back, before this one.
    pub(crate) fn restore(&self, sample: Sample) {
        self.books.lock(|books| {
            let next = books.next_seq.get().max(sample.seq.next());
            books.next_seq.set(next);
            mutant!(NumberReused => books.next_seq.set(Sequence::ZERO));
            books.first_seq.set(next);
            let restored = books.outbox.borrow_mut().restore(sample);
            self.count(books, |stats| {
                stats.restored += u64::from(restored != Restored::AlreadyThere);
                stats.overflowed += u64::from(restored == Restored::InsteadOfOldest);
            });
        });
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.stats.snapshot()
    }

    // What the sampler does.

    /// Numbers a sample. It is not counted before it is stored: [`kept`](Self::kept) or
    /// [`not_kept`](Self::not_kept) follows, or [`open`](Self::open) where the run is cancelled meanwhile.
    pub(crate) fn number(&self, status: Status, taken_at_ms: u64) -> Sample {
        self.books.lock(|books| {
            let seq = books.next_seq.get();
            books.next_seq.set(seq.next());
            books.is_storing.set(true);
            Sample { seq, status, taken_at_ms }
        })
    }

    /// What is in the outbox, for a store.
    pub(crate) fn contents(&self) -> Contents {
        self.books.lock(|books| books.outbox.borrow().contents())
    }

    pub(crate) fn kept(&self, sample: Sample) {
        self.books.lock(|books| {
            books.is_storing.set(false);
            let dropped = books.outbox.borrow_mut().push(sample);
            self.count(books, |stats| {
                stats.sampled += 1;
                stats.overflowed += u64::from(dropped.is_some());
            });
        });
        self.sharing.wake();
    }

    /// The sample that was being stored, if any, is dropped.
    pub(crate) fn not_kept(&self) {
        self.books.lock(|books| {
            if books.is_storing.take() {
                self.count(books, |stats| {
                    stats.sampled += 1;
                    stats.unstored += 1;
                });
            }
        });
    }

    pub(crate) fn missed(&self, periods: u64) {
        self.update(|stats| stats.missed += periods);
    }

    pub(crate) fn stop(&self, drain_until_ms: u64) {
        self.books.lock(|books| books.drain_until_ms.set(Some(drain_until_ms)));
        self.sharing.wake();
    }

    // What the session does.

    /// The oldest unsent sample that is still worth sending, from now on in flight.
    pub(crate) fn claim(&self, now_ms: u64) -> Option<Sample> {
        let (expired, claimed) = self.books.lock(|books| {
            let (expired, claimed) = {
                let mut outbox = books.outbox.borrow_mut();
                (outbox.expire(now_ms), outbox.claim())
            };
            if expired > 0 {
                self.count(books, |stats| stats.expired += expired);
            }
            (expired, claimed)
        });
        if expired > 0 {
            warning!("dropped {} samples as too old for the host", expired);
        }
        claimed
    }

    /// In which run a sample of the outbox was taken.
    pub(crate) fn taken(&self, seq: Sequence) -> Taken {
        let first = self.books.lock(|books| books.first_seq.get());
        if seq < first { Taken::EarlierRun } else { Taken::ThisRun }
    }

    pub(crate) fn published(&self) {
        self.update(|stats| stats.published += 1);
    }

    /// A sample in flight leaves the outbox: acknowledged, or refused for good with a reason code.
    pub(crate) fn settle(&self, seq: Sequence, refusal: Option<u8>) {
        self.books.lock(|books| {
            let Some(sample) = books.outbox.borrow_mut().acknowledge(seq) else { return };
            self.count(books, |stats| {
                if refusal.is_some() {
                    stats.refused += 1;
                    stats.last_rejection = refusal;
                } else {
                    stats.acknowledged += 1;
                    stats.acknowledged_by_status[sample.status.index()] += 1;
                }
            });
        });
    }

    pub(crate) fn reject(&self, seq: Sequence, reason: u8) {
        self.books.lock(|books| {
            books.outbox.borrow_mut().release(seq);
            self.count(books, |stats| {
                stats.rejected += 1;
                stats.last_rejection = Some(reason);
            });
        });
    }

    /// The link is gone, and with it every acknowledgement that was to come over it. Returns how long the
    /// broker had accepted it, in milliseconds.
    pub(crate) fn link_failed(&self, error: LinkError, now_ms: u64) -> u64 {
        self.books.lock(|books| {
            books.outbox.borrow_mut().release_all();
            self.count(books, |stats| {
                stats.failures += 1;
                stats.last_error = Some(error);
            });
            books.connected_at_ms.take().map_or(0, |at| now_ms.saturating_sub(at))
        })
    }

    /// The number of a connection that begins: larger than that of each before. One a second would do for
    /// 136 years.
    pub(crate) fn next_connection(&self) -> u32 {
        self.books.lock(|books| {
            books.connections.set(books.connections.get().saturating_add(1));
            books.connections.get()
        })
    }

    pub(crate) fn connected(&self, now_ms: u64) {
        self.books.lock(|books| {
            books.connected_at_ms.set(Some(now_ms));
            self.count(books, |stats| {
                stats.connects += 1;
                stats.state = State::Connected;
            });
        });
    }

    pub(crate) fn state(&self, state: State) {
        self.update(|stats| stats.state = state);
    }

    // What both ask.

    pub(crate) fn has_unsent(&self) -> bool {
        self.books.lock(|books| books.outbox.borrow().has_unsent())
    }

    fn is_empty(&self) -> bool {
        self.books.lock(|books| books.outbox.borrow().is_empty())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.drain_until_ms().is_some()
    }

    /// Until when to drain, once sampling has stopped.
    pub(crate) fn drain_until_ms(&self) -> Option<u64> {
        self.books.lock(|books| books.drain_until_ms.get())
    }

    /// Whether sampling has stopped and nothing is left to do about it.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.drain_until_ms().is_some_and(|at| now_ms >= at || self.is_empty())
    }

    /// Completes when [`is_over`](Self::is_over) is true.
    pub(crate) async fn over(&self, clock: &impl Clock) {
        self.until(|| self.is_stopping()).await;
        let deadline_ms = self.drain_until_ms().unwrap_or_default();
        select(clock.sleep_until(deadline_ms), self.until(|| self.is_empty())).await;
    }

    /// Completes when `condition` holds, which the sampler makes so, or somebody in the session's own task who is
    /// polled before.
    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        poll_fn(|context| {
            // Before the look, so that nothing falls between the two.
            self.sharing.register(context.waker());
            if condition() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        self.books.lock(|books| self.count(books, change));
    }

    /// Changes the counters together with what is behind the lock.
    fn count(&self, books: &Books<N>, change: impl FnOnce(&mut Snapshot)) {
        let outbox = books.outbox.borrow().len() as u64;
        self.stats.update(|stats| {
            change(stats);
            stats.outbox = outbox;
        });
    }
}
