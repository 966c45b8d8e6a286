//! The messages of a range, out of the log.
//!
//! A log is in the order in which messages were received, and a range says when samples were taken. Most came within a minute,
//! so that reading begins about where the range does, and ends about where it ends. What came later, or while the host's
//! clock was wrong, may be anywhere: how many messages there are is known, and where some are not found, all of the log is
//! read until they are.

use std::collections::VecDeque;
use std::ops::Range;

use rollcall_wire::{DeviceId, Slot};

use super::plan::{self, Plan, Upto, View};
use super::start::Start;
use super::{LogStore, StoreError};
use crate::model::{LATE_MS, Record, UnixMs};

/// How many entries are read at a time; each has the messages of a flush.
const READ_ENTRIES: usize = 16;

/// How often the end of the log is looked for while it moves on faster than that.
const ATTEMPTS: usize = 100;

/// Reads the messages of a range, some at a time.
pub struct Messages {
    seconds: Range<u64>,
    device: Option<DeviceId>,
    /// How many are still to be found; `None` where all of a device's log is read, of which that is not known.
    left: Option<u64>,
    /// What is to be read, in this order.
    parts: VecDeque<Part>,
}

/// Why there are no messages of a range.
#[derive(Debug, thiserror::Error)]
pub enum NotAll {
    /// Some of them are too old to be kept. All are there that were sampled in this Unix second or later.
    #[error("messages from before {at} were removed", at = UnixMs(.0.saturating_mul(1000)).to_rfc3339())]
    Removed(u64),
    /// They cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run of a slot's entries.
struct Part {
    slot: Slot,
    numbers: Range<u64>,
}

impl Messages {
    /// Those that were sampled in `seconds`, in Unix time, by all or by one; as of now.
    ///
    /// # Errors
    /// [`NotAll`].
    pub async fn open<S: LogStore>(
        store: &S,
        seconds: Range<u64>,
        device: Option<DeviceId>,
    ) -> Result<Self, NotAll> {
        let slots: Vec<_> = match device {
            Some(device) => vec![Slot::of(&device)],
            None => Slot::all().collect(),
        };
        let mut starts = Vec::with_capacity(slots.len());
        for slot in slots {
            starts.push((slot, store.start(slot).await?));
        }
        if starts.iter().any(|(_, start)| start.lacks_any(&seconds)) {
            let from = starts.iter().map(|(_, start)| start.complete_from(seconds.end)).max();
            return Err(NotAll::Removed(from.unwrap_or_default()));
        }
        let plan = Plan::new(seconds.clone());
        let (ends, view) = view(store, &plan).await?;
        let counts = plan::total(&plan, &view);
        let left = device.is_none().then(|| counts.total() + counts.undecided);
        let parts = parts(store, &seconds, &starts, &ends).await?;
        Ok(Self { seconds, device, left, parts })
    }

    /// Some more of them, in the order of their slot's log; `None` when there are no more.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Corrupt`] when the log has not what was counted, and it was not removed.
    pub async fn next<S: LogStore>(&mut self, store: &S) -> Result<Option<Vec<Record>>, StoreError> {
        while self.left != Some(0) {
            let Some(part) = self.parts.front_mut() else { break };
            let Range { start, end } = part.numbers;
            if start >= end {
                self.parts.pop_front();
                continue;
            }
            let limit = usize::try_from(end - start).unwrap_or(READ_ENTRIES).min(READ_ENTRIES);
            let entries = store.read(part.slot, start, limit).await?;
            let slot = part.slot;
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                return Err(StoreError::Corrupt(format!("the log of slot {slot} ends at {start}")));
            };
            part.numbers.start = last.number + 1;
            if first.number > start {
                self.must_be_kept(store).await?;
                // What went has none of the range.
                if store.start(slot).await?.first < first.number {
                    return Err(StoreError::Corrupt(format!("entry {start} of slot {slot} is gone")));
                }
            }
            let found: Vec<_> = entries
                .iter()
                .take_while(|entry| entry.number < end)
                .flat_map(|entry| &entry.records)
                .filter(|record| self.wants(record))
                .copied()
                .collect();
            if let Some(left) = &mut self.left {
                let more = || {
                    StoreError::Corrupt("the log has more messages of the range than are counted".to_owned())
                };
                *left = left.checked_sub(found.len() as u64).ok_or_else(more)?;
            }
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
        match self.left {
            None | Some(0) => Ok(None),
            Some(left) => {
                self.must_be_kept(store).await?;
                Err(StoreError::Corrupt(format!(
                    "{left} messages of the range are counted, and are not in the log"
                )))
            }
        }
    }

    /// What is not there any more may have been removed since.
    async fn must_be_kept<S: LogStore>(&self, store: &S) -> Result<(), StoreError> {
        for slot in Slot::all() {
            if store.start(slot).await?.lacks_any(&self.seconds) {
                let reason = "messages were removed while they were read".to_owned();
                return Err(StoreError::Unavailable(reason));
            }
        }
        Ok(())
    }

    fn wants(&self, record: &Record) -> bool {
        self.seconds.contains(&record.sampled_at.second())
            && self.device.is_none_or(|device| record.device == device)
    }
}

/// Where the logs end, and what of the plan is below that.
async fn view<S: LogStore>(store: &S, plan: &Plan) -> Result<(Upto, View), StoreError> {
    for _ in 0..ATTEMPTS {
        let mut ends = [0; Slot::COUNT];
        for slot in Slot::all() {
            ends[slot.index()] = end(store, slot).await?;
        }
        if let Some(view) = store.view(plan).await?.below(&ends) {
            return Ok((ends, view));
        }
    }
    Err(StoreError::Unavailable("the log moves on faster than it can be looked at".to_owned()))
}

/// The number of the next entry of a slot.
async fn end<S: LogStore>(store: &S, slot: Slot) -> Result<u64, StoreError> {
    let mut end = store.checkpoint(slot).await?.windows;
    loop {
        let entries = store.read(slot, end, READ_ENTRIES).await?;
        end += entries.len() as u64;
        if entries.len() < READ_ENTRIES {
            return Ok(end);
        }
    }
}

/// All of the log in the order in which it is best read: first where the range should be, then what came after it, and at last
/// what came before.
async fn parts<S: LogStore>(
    store: &S,
    seconds: &Range<u64>,
    starts: &[(Slot, Start)],
    ends: &Upto,
) -> Result<VecDeque<Part>, StoreError> {
    let ms = |second: u64| second.saturating_mul(1000);
    let (mut within, mut after, mut before) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
    for (slot, start) in starts {
        let (slot, start, end) = (*slot, start.first, ends[slot.index()]);
        let first = first_received(store, slot, start..end, UnixMs(ms(seconds.start))).await?;
        let in_time = UnixMs(ms(seconds.end).saturating_add(LATE_MS));
        let last = first_received(store, slot, first..end, in_time).await?;
        within.push_back(Part { slot, numbers: first..last });
        after.push_back(Part { slot, numbers: last..end });
        before.push_back(Part { slot, numbers: start..first });
    }
    within.extend(after.into_iter().chain(before));
    Ok(within)
}

/// The first entry that was received at `at` or later, as far as the host's clock was never set.
async fn first_received<S: LogStore>(
    store: &S,
    slot: Slot,
    mut numbers: Range<u64>,
    at: UnixMs,
) -> Result<u64, StoreError> {
    while !numbers.is_empty() {
        let middle = numbers.start + (numbers.end - numbers.start) / 2;
        let entries = store.read(slot, middle, 1).await?;
        match entries.first() {
            Some(entry) if entry.received_at < at => numbers.start = middle + 1,
            _ => numbers.end = middle,
        }
    }
    Ok(numbers.start)
}
