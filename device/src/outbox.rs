//! The samples that are not acknowledged yet, oldest first, in a fixed space. Pure.
//!
//! Guarantees: what goes in comes out once, by [`Outbox::acknowledge`], or as a drop that the caller is
//! handed to count. A sample in flight is never dropped: the broker may already have it.

use heapless::{Deque, Vec};
use rollcall_wire::codec::AGE_MAX_MS;
use rollcall_wire::{Sequence, Status, mutant};

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

/// A sample and whether it is in flight, in 24 bytes: [`Sample`] as a field would make it 32.
#[derive(Clone, Copy, Debug)]
struct Slot {
    seq: Sequence,
    taken_at_ms: u64,
    status: Status,
    in_flight: bool,
}

impl Slot {
    const fn unsent(Sample { seq, status, taken_at_ms }: Sample) -> Self {
        Self { seq, taken_at_ms, status, in_flight: false }
    }

    const fn sample(&self) -> Sample {
        Sample { seq: self.seq, status: self.status, taken_at_ms: self.taken_at_ms }
    }
}

/// All samples of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// As many as can be in flight, oldest first. There may be gaps between them.
    pub first: Vec<Sample, WINDOW>,
    /// The number of the next; every later sample that was put in is there too.
    pub rest_from: Option<Sequence>,
}

/// What became of a sample that was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is in the outbox.
    Added,
    /// It is in the outbox, and another had to give way.
    InsteadOfOldest,
    /// It was in the outbox before.
    AlreadyThere,
}

/// Up to `N` samples, oldest first; `N` must exceed [`WINDOW`], so that one can always be dropped.
#[derive(Clone, Debug)]
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

    /// Whether no sample waits or is in flight.
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
        let added = self.slots.push_back(Slot::unsent(sample));
        debug_assert!(added.is_ok(), "more in flight than WINDOW");
        dropped
    }

    /// Puts a sample back where its number belongs; when full, the oldest unsent one gives way and is
    /// returned. One that is there already stays as it is.
    pub fn restore(&mut self, sample: Sample) -> Restored {
        if self.slots.iter().any(|slot| slot.seq == sample.seq) {
            return Restored::AlreadyThere;
        }
        let dropped = self.push(sample);
        let mut at = self.slots.len() - 1;
        while at > 0 && self.slots.get(at - 1).is_some_and(|before| before.seq > sample.seq) {
            self.slots.swap(at - 1, at);
            at -= 1;
        }
        if dropped.is_some() { Restored::InsteadOfOldest } else { Restored::Added }
    }

    /// What is in it, in few words.
    pub fn contents(&self) -> Contents {
        // What never was among the first WINDOW was never claimed, so it left by being dropped, oldest
        // first, if at all. So the rest has no gaps, but for samples that were never put in.
        let rest_from = self.slots.get(WINDOW).map(|slot| slot.seq);
        Contents { first: self.slots.iter().take(WINDOW).map(Slot::sample).collect(), rest_from }
    }

    /// Marks the oldest unsent sample as in flight and returns it.
    pub fn claim(&mut self) -> Option<Sample> {
        let index = self.oldest_unsent()?;
        let slot = self.slots.get_mut(index)?;
        slot.in_flight = true;
        Some(slot.sample())
    }

    /// Removes a sample in flight whose PUBACK said success, or refused it for good.
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
        mutant!(InFlightKept => return);
        self.slots.iter_mut().for_each(|slot| slot.in_flight = false);
    }

    /// Drops the unsent samples that the host would refuse as too old, and says how many.
    pub fn expire(&mut self, now_ms: u64) -> u64 {
        let mut expired = 0;
        while let Some(slot) = self.oldest_unsent().and_then(|index| self.slots.get(index)) {
            if slot.sample().age_ms(now_ms).is_some() {
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
        self.slots.iter().position(|slot| slot.in_flight && slot.seq == seq)
    }

    /// Moves the few before `index` up by one, which keeps the order.
    fn remove(&mut self, index: usize) -> Option<Sample> {
        for at in (0..index).rev() {
            self.slots.swap(at, at + 1);
        }
        self.slots.pop_front().map(|slot| slot.sample())
    }
}

impl<const N: usize> Default for Outbox<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u64) -> Sample {
        let status = Status::new((number % 7) as u8).unwrap();
        Sample { seq: Sequence::new(number).unwrap(), status, taken_at_ms: number * 1000 }
    }

    fn filled<const N: usize>(samples: u64) -> Outbox<N> {
        let mut outbox = Outbox::new();
        (0..samples).for_each(|number| assert_eq!(outbox.push(sample(number)), None));
        outbox
    }

    #[test]
    fn samples_are_claimed_oldest_first_and_each_once() {
        let mut outbox = filled::<10>(3);
        let claimed = [(); 4].map(|()| outbox.claim());
        assert_eq!(claimed, [Some(sample(0)), Some(sample(1)), Some(sample(2)), None]);
        assert_eq!(outbox.len(), 3);
    }

    #[test]
    fn a_full_outbox_drops_the_oldest_unsent_and_never_one_in_flight() {
        let mut outbox = filled::<10>(10);
        assert_eq!((outbox.claim(), outbox.claim()), (Some(sample(0)), Some(sample(1))));
        assert_eq!(outbox.push(sample(10)), Some(sample(2)));
        assert_eq!(outbox.acknowledge(sample(0).seq), Some(sample(0)));
        assert_eq!(outbox.push(sample(11)), None);
        assert_eq!(outbox.push(sample(12)), Some(sample(3)));
    }

    #[test]
    fn an_acknowledgement_out_of_order_keeps_the_order_of_the_rest() {
        let mut outbox = filled::<10>(4);
        (0..3).for_each(|number| assert_eq!(outbox.claim(), Some(sample(number))));
        assert_eq!(outbox.acknowledge(sample(1).seq), Some(sample(1)));
        outbox.release_all();
        let claimed = [(); 3].map(|()| outbox.claim());
        assert_eq!(claimed, [Some(sample(0)), Some(sample(2)), Some(sample(3))]);
    }

    #[test]
    fn only_what_is_in_flight_can_be_acknowledged_and_only_once() {
        let mut outbox = filled::<10>(1);
        assert_eq!(outbox.acknowledge(sample(0).seq), None);
        outbox.claim();
        assert_eq!(outbox.acknowledge(sample(0).seq), Some(sample(0)));
        assert_eq!(outbox.acknowledge(sample(0).seq), None);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_released_sample_is_the_next_to_be_claimed() {
        let mut outbox = filled::<10>(3);
        (0..2).for_each(|_| assert!(outbox.claim().is_some()));
        outbox.release(sample(0).seq);
        assert_eq!(outbox.claim(), Some(sample(0)));
        assert_eq!(outbox.claim(), Some(sample(2)));
    }

    #[test]
    fn at_the_horizon_a_sample_is_kept_and_a_millisecond_later_it_expires() {
        let horizon_ms = u64::from(AGE_MAX_MS);
        let mut outbox = filled::<10>(3);
        assert_eq!(outbox.expire(horizon_ms), 0);
        assert_eq!(outbox.expire(horizon_ms + 1), 1);
        assert_eq!(outbox.claim(), Some(sample(1)));
        // The one in flight may be in the broker already, so it stays.
        assert_eq!((outbox.expire(horizon_ms + 2_001), outbox.len()), (1, 1));
    }
}
