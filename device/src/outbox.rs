//! The samples that are not acknowledged yet, oldest first, in a fixed space. Pure.
//!
//! Guarantees: what goes in comes out once, by [`Outbox::acknowledge`], or as a drop that the caller is
//! handed to count. A sample in flight is never dropped: the broker may already have it.

use heapless::Deque;
use rollcall_wire::codec::AGE_MAX_MS;
use rollcall_wire::{Sequence, Status};

use crate::config::WINDOW;

/// One taken sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its number within this boot.
    pub seq: Sequence,
    /// What the sensor said.
    pub status: Status,
    /// When it was taken, in milliseconds of the emitter's clock.
    pub taken_at_ms: u64,
}

impl Sample {
    /// How long ago it was taken, in milliseconds; `None` beyond the host's retention horizon,
    /// [`AGE_MAX_MS`].
    pub fn age_ms(&self, now_ms: u64) -> Option<u32> {
        u32::try_from(now_ms.saturating_sub(self.taken_at_ms)).ok().filter(|age| *age <= AGE_MAX_MS)
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    sample: Sample,
    in_flight: bool,
}

/// Up to `N` samples, oldest first; `N` must exceed [`WINDOW`], so that one can always be dropped.
#[derive(Debug)]
pub struct Outbox<const N: usize> {
    slots: Deque<Slot, N>,
}

impl<const N: usize> Outbox<N> {
    /// An empty outbox.
    pub const fn new() -> Self {
        const { assert!(N > WINDOW, "an outbox must hold more than can be in flight") };
        Self { slots: Deque::new() }
    }

    /// How many samples wait or are in flight.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a sample waits to be sent.
    pub fn has_unsent(&self) -> bool {
        self.oldest_unsent().is_some()
    }

    /// Adds a sample. When full, the oldest unsent one gives way and is returned.
    pub fn push(&mut self, sample: Sample) -> Option<Sample> {
        let dropped = if self.slots.is_full() { self.drop_oldest_unsent() } else { None };
        let added = self.slots.push_back(Slot { sample, in_flight: false });
        debug_assert!(added.is_ok(), "more in flight than WINDOW");
        dropped
    }

    /// Marks the oldest unsent sample as in flight and returns it.
    pub fn claim(&mut self) -> Option<Sample> {
        let index = self.oldest_unsent()?;
        let slot = self.slots.get_mut(index)?;
        slot.in_flight = true;
        Some(slot.sample)
    }

    /// Removes a sample in flight whose PUBACK said success.
    pub fn acknowledge(&mut self, seq: Sequence) -> Option<Sample> {
        let index = self.in_flight(seq)?;
        self.remove(index)
    }

    /// Makes a sample in flight unsent again: the broker did not take it.
    pub fn release(&mut self, seq: Sequence) {
        if let Some(slot) = self.in_flight(seq).and_then(|index| self.slots.get_mut(index)) {
            slot.in_flight = false;
        }
    }

    /// Makes every sample unsent again: the link is gone.
    pub fn release_all(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.in_flight = false);
    }

    /// Drops the unsent samples that the host would refuse as too old, and says how many.
    pub fn expire(&mut self, now_ms: u64) -> u64 {
        let mut expired = 0;
        while let Some(slot) = self.oldest_unsent().and_then(|index| self.slots.get(index)) {
            if slot.sample.age_ms(now_ms).is_some() {
                break;
            }
            self.drop_oldest_unsent();
            expired += 1;
        }
        expired
    }

    fn drop_oldest_unsent(&mut self) -> Option<Sample> {
        let index = self.oldest_unsent()?;
        self.remove(index)
    }

    /// At most [`WINDOW`] samples are in flight and they are among the oldest, so this ends early.
    fn oldest_unsent(&self) -> Option<usize> {
        self.slots.iter().position(|slot| !slot.in_flight)
    }

    fn in_flight(&self, seq: Sequence) -> Option<usize> {
        self.slots.iter().position(|slot| slot.in_flight && slot.sample.seq == seq)
    }

    /// Moves the few before `index` up by one, which keeps the order.
    fn remove(&mut self, index: usize) -> Option<Sample> {
        for at in (0..index).rev() {
            self.slots.swap(at, at + 1);
        }
        self.slots.pop_front().map(|slot| slot.sample)
    }
}

impl<const N: usize> Default for Outbox<N> {
    fn default() -> Self {
        Self::new()
    }
}
