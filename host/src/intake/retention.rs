//! What is older than it is to be kept is removed: the first entries of each log, a few chunks at a time.
//!
//! Counts stay: only entries go that windows and rows hold, and what is known of them goes on to be known. An entry is as
//! old as the later of the two times that it has, its `received_at` and its log time: so a host's clock that went back or
//! forward while it was written makes nothing old that is not. Today's time goes forward no faster than a clock that nobody
//! sets.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rollcall_wire::Slot;
use tokio::time::Instant;

use crate::log::rollup::CHUNK_ENTRIES;
use crate::log::start::{self, Cut, Start};
use crate::log::{LogStore, RELEASE_AFTER, StoreError};
use crate::model::{Clock, Entry, UnixMs};
use crate::ops::{Failure, GivenUp, Ops, Part, Supervised, supervise};

/// How long until it is looked again, when there was something to remove and when there was nothing.
const LOOK_AGAIN: (Duration, Duration) = (RELEASE_AFTER, Duration::from_secs(600));

/// So many chunks go at a time at most, and no more once they have so many records: a flush waits so long.
const STEP_CHUNKS: usize = 16;
const STEP_RECORDS: usize = 65_536;

/// Between two steps others have the store.
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// How long messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepMessages(Duration);

/// What is no time for which messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeepMessages {
    /// It is not written as a time.
    #[error("write 90d, 26weeks or 1y")]
    NotATime,
    /// Messages may be asked for again.
    #[error(
        "31d at least: a broker or a device may hold a message for 30 days, and so long it has to be known whether it is \
         counted"
    )]
    TooShort,
}

impl KeepMessages {
    /// A day more than a broker or a device may hold a message, and than a boot is remembered.
    pub const MIN: Duration = Duration::from_secs(31 * 86_400);
}

impl FromStr for KeepMessages {
    type Err = BadKeepMessages;

    fn from_str(text: &str) -> Result<Self, BadKeepMessages> {
        let keep = humantime::parse_duration(text).map_err(|_| BadKeepMessages::NotATime)?;
        if keep < Self::MIN { Err(BadKeepMessages::TooShort) } else { Ok(Self(keep)) }
    }
}

/// Removes what is older than `keep`, for ever.
///
/// # Errors
/// [`GivenUp`] when it fails again and again.
pub async fn remove_old<S: LogStore>(
    store: Arc<S>,
    keep: KeepMessages,
    clock: Clock,
    ops: Arc<Ops>,
) -> Result<(), GivenUp> {
    let steady = Steady { clock: clock.clone(), from: (clock.now(), Instant::now()) };
    let retention = Retention { store, keep, steady, ops: ops.clone() };
    supervise(Part::Retention, &ops, std::future::pending(), retention).await
}

/// Removes all that is older than `keep` at `now`, and says how many entries those were. What others may still take for
/// entries of the log is not given back.
///
/// # Errors
/// [`StoreError`]. What was removed before it stays so.
#[cfg(feature = "testing")]
pub async fn remove_old_once<S: LogStore>(
    store: &S,
    keep: KeepMessages,
    now: UnixMs,
) -> Result<u64, StoreError> {
    let mut entries = 0;
    for slot in Slot::all() {
        while let Some(gone) = step(store, slot, keep, now).await? {
            entries += gone.entries;
        }
    }
    Ok(entries)
}

struct Retention<S> {
    store: Arc<S>,
    keep: KeepMessages,
    steady: Steady,
    ops: Arc<Ops>,
}

impl<S: LogStore> Supervised for Retention<S> {
    async fn run(&mut self) -> Result<(), Failure> {
        self.ops.healthy(Part::Retention);
        // Where logs started at the look before: what is below that was removed long enough ago.
        let mut before = BTreeMap::new();
        loop {
            let looked = self.look(&mut before).await;
            // A process that keeps too much is ready all the same.
            self.ops.metrics.part_healthy(Part::Retention, looked.is_ok());
            let again = match looked {
                Ok(0) => LOOK_AGAIN.1,
                Ok(entries) => {
                    tracing::info!(entries, "removed old messages");
                    LOOK_AGAIN.0
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot remove old messages; trying again");
                    LOOK_AGAIN.0
                }
            };
            tokio::time::sleep(again).await;
        }
    }
}

impl<S: LogStore> Retention<S> {
    /// Removes what is old, and gives back the room of what was at the look before; how many entries were removed. A slot
    /// of which nothing can go does not keep the others.
    async fn look(&self, before: &mut BTreeMap<Slot, u64>) -> Result<u64, StoreError> {
        let (mut entries, mut failed) = (0, None);
        let mut starts = Vec::with_capacity(Slot::COUNT);
        for slot in Slot::all() {
            match self.look_at(slot, before.get(&slot).copied(), &mut entries).await {
                Ok(start) => {
                    before.insert(slot, start.first);
                    starts.push(start);
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => {
                self.ops.metrics.removed.complete_from(start::horizon(&starts));
                Ok(entries)
            }
        }
    }

    /// The same for one slot; where its log starts then.
    async fn look_at(&self, slot: Slot, before: Option<u64>, entries: &mut u64) -> Result<Start, StoreError> {
        while let Some(below) = before
            && self.store.release(slot, below).await?
        {
            tokio::time::sleep(STEP_PAUSE).await;
        }
        while let Some(gone) = step(&*self.store, slot, self.keep, self.steady.now()).await? {
            *entries += gone.entries;
            self.ops.metrics.removed.gone(gone.entries, gone.messages);
            tokio::time::sleep(STEP_PAUSE).await;
        }
        self.store.start(slot).await
    }
}

/// Today's time: as the host's clock, but forward no faster than one that nobody sets.
struct Steady {
    clock: Clock,
    from: (UnixMs, Instant),
}

impl Steady {
    fn now(&self) -> UnixMs {
        let (from, since) = self.from;
        let passed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.clock.now().min(UnixMs(from.0.saturating_add(passed_ms)))
    }
}

/// What a step has removed.
struct Gone {
    entries: u64,
    messages: u64,
}

/// Removes the first chunks of a log; `None` when there is nothing that may go.
async fn step<S: LogStore>(
    store: &S,
    slot: Slot,
    keep: KeepMessages,
    now: UnixMs,
) -> Result<Option<Gone>, StoreError> {
    let keep_ms = u64::try_from(keep.0.as_millis()).unwrap_or(u64::MAX);
    let before = UnixMs(now.0.saturating_sub(keep_ms));
    // In this order: a start that is older than the checkpoints is below them.
    let mut start = store.start(slot).await?;
    let made = store.checkpoint(slot).await?;
    let (from, end) = (start.first, made.windows.min(made.rows));
    let (mut imported, mut messages) = (Vec::new(), 0);
    for _ in 0..STEP_CHUNKS {
        // The last entry below the checkpoints stays: whoever goes on there has its log time of it.
        if start.first + CHUNK_ENTRIES >= end || messages >= STEP_RECORDS {
            break;
        }
        let Some(chunk) = chunk(store, slot, from, start.first).await? else { return Ok(None) };
        if !chunk.iter().all(|entry| is_old(entry, before, now)) {
            break;
        }
        for entry in &chunk {
            messages += entry.records.len();
            imported.extend(start::identities(entry));
            start.remove(entry, before);
        }
    }
    let entries = start.first - from;
    let cut = Cut { slot, from, start, imported };
    // Where somebody else has removed them at the same time, there may be more.
    Ok((entries > 0 && store.cut(&cut).await?).then_some(Gone { entries, messages: messages as u64 }))
}

/// The entries of a chunk; `None` when the log does not start any more where it did.
async fn chunk<S: LogStore>(
    store: &S,
    slot: Slot,
    start: u64,
    first: u64,
) -> Result<Option<Vec<Entry>>, StoreError> {
    let entries = store.read(slot, first, CHUNK_ENTRIES as usize).await?;
    let whole = entries.len() as u64 == CHUNK_ENTRIES
        && entries.iter().zip(first..).all(|(entry, number)| entry.number == number);
    if whole {
        return Ok(Some(entries));
    }
    if store.start(slot).await?.first == start {
        Err(StoreError::Corrupt(format!("entries from {first} on of slot {slot} are not all there")))
    } else {
        Ok(None)
    }
}

/// Was it received before `before`? By the later of its times that are not ahead of `now`: a clock that was says nothing.
fn is_old(entry: &Entry, before: UnixMs, now: UnixMs) -> bool {
    let times = [entry.received_at, entry.log_time].into_iter().filter(|time| *time <= now);
    times.max().is_some_and(|at| at < before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WriterId;

    #[test]
    fn messages_are_kept_for_31_days_at_least() {
        let parsed = |text: &str| text.parse::<KeepMessages>();
        for text in ["31d", "90d", "1y", "31days 1s", "744h"] {
            assert!(parsed(text).is_ok(), "{text}");
        }
        for text in ["0", "30d", "30d 23h 59m 59s", "1h"] {
            assert_eq!(parsed(text), Err(BadKeepMessages::TooShort), "{text}");
        }
        for text in ["", "31", "-31d", "d", "soon", "for ever"] {
            assert_eq!(parsed(text), Err(BadKeepMessages::NotATime), "{text}");
        }
    }

    #[test]
    fn an_entry_is_as_old_as_the_later_of_its_times_unless_that_has_not_come_yet() {
        let (before, now) = (UnixMs(1_000), UnixMs(5_000));
        let is_old = |received_at, log_time| {
            let (received_at, log_time) = (UnixMs(received_at), UnixMs(log_time));
            let slot = Slot::new(3).unwrap();
            let (writer, records) = (WriterId::NOBODY, Vec::new());
            let entry = Entry { slot, number: 0, writer, received_at, log_time, records };
            super::is_old(&entry, before, now)
        };
        assert!(is_old(999, 999) && is_old(0, 999) && is_old(9_000, 999) && is_old(999, 9_000));
        assert!(!is_old(1_000, 0) && !is_old(0, 1_000) && !is_old(9_000, 1_000) && !is_old(9_000, 9_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_forward_makes_nothing_old() {
        let wall = Arc::new(std::sync::atomic::AtomicU64::new(1_000_000));
        let read = wall.clone();
        let clock = Clock::new(move || UnixMs(read.load(std::sync::atomic::Ordering::Relaxed)));
        let steady = Steady { from: (clock.now(), Instant::now()), clock };
        wall.store(9_000_000_000, std::sync::atomic::Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(steady.now(), UnixMs(1_002_000));
        wall.store(5, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(steady.now(), UnixMs(5));
    }
}
