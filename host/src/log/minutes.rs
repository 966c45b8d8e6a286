//! Counts by minute as bytes that can be added to: a device has them in memory, in its row and in its windows, a
//! million of them at once.
//!
//! Minutes stand in the order in which they came, and one may stand there several times: all of it is a sum. What
//! the last minute has is written anew when it grows, so that the same samples in the same order are always the
//! same bytes (`run.rs`).

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::run;
use crate::model::{Counts, Record, UnixMs};

/// The minute of Unix time in which an instant lies. Later than the year 10000 none is told from another.
pub fn minute_of(at: UnixMs) -> u32 {
    u32::try_from(at.second() / 60).unwrap_or(u32::MAX)
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Minutes {
    bytes: Vec<u8>,
    /// Where the last minute begins.
    tail: u32,
    /// The last minute.
    minute: u32,
}

impl Minutes {
    /// Counts a record in its minute.
    pub fn count(&mut self, record: &Record) {
        let mut counts = Counts::default();
        counts.count(record);
        self.add(minute_of(record.sampled_at), &counts);
    }

    /// Adds to a minute.
    pub fn add(&mut self, minute: u32, counts: &Counts) {
        if *counts == Counts::default() {
            return;
        }
        let mut sum = *counts;
        let mut difference = i64::from(minute) - i64::from(self.minute);
        if difference == 0
            && let Some((last, so_far)) = run::read(&mut &self.bytes[self.tail as usize..])
        {
            difference = last;
            sum += so_far;
            self.bytes.truncate(self.tail as usize);
        }
        self.tail = self.bytes.len() as u32;
        self.minute = minute;
        run::write(&mut self.bytes, difference, &sum);
    }

    /// Each minute with its counts; a minute may come several times.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Counts)> + '_ {
        let (mut rest, mut minute) = (self.bytes.as_slice(), 0);
        std::iter::from_fn(move || {
            let (difference, counts) = run::read(&mut rest)?;
            minute += difference;
            Some((minute as u32, counts))
        })
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Its stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads what [`Minutes::as_bytes`] gave; `None` when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (mut rest, mut tail, mut minute) = (bytes, 0, 0_i64);
        while !rest.is_empty() {
            tail = u32::try_from(bytes.len() - rest.len()).ok()?;
            let (difference, _) = run::read(&mut rest)?;
            minute = minute.checked_add(difference).filter(|minute| u32::try_from(*minute).is_ok())?;
        }
        Some(Self { bytes: bytes.to_vec(), tail, minute: minute as u32 })
    }
}

impl Serialize for Minutes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Minutes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Self::from_bytes(bytes).ok_or_else(|| D::Error::custom("no counts by minute"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::log::codec;
    use proptest::prelude::*;
    use rollcall_wire::Status;

    fn counts() -> impl Strategy<Value = Counts> {
        let number = || prop_oneof![6 => Just(0_u64), 3 => 1..9_u64, 1 => 0..1_u64 << 40];
        prop::array::uniform(number()).prop_map(|numbers| codec::counts(&numbers))
    }

    fn minute() -> impl Strategy<Value = u32> {
        prop_oneof![8 => 28_000_000..28_000_009_u32, 1 => any::<u32>(), 1 => Just(0)]
    }

    fn summed(minutes: &Minutes) -> BTreeMap<u32, Counts> {
        let mut sum = BTreeMap::<u32, Counts>::new();
        minutes.iter().for_each(|(minute, counts)| *sum.entry(minute).or_default() += counts);
        sum
    }

    proptest! {
        #[test]
        fn what_is_added_comes_back_wherever_it_is_stored_in_between(
            added in prop::collection::vec((minute(), counts(), any::<bool>()), 0..40),
        ) {
            let (mut minutes, mut straight) = (Minutes::default(), Minutes::default());
            let mut expected = BTreeMap::<u32, Counts>::new();
            let some = added.into_iter().filter(|(_, counts, _)| *counts != Counts::default());
            for (minute, counts, restart) in some {
                minutes.add(minute, &counts);
                straight.add(minute, &counts);
                *expected.entry(minute).or_default() += counts;
                if restart {
                    minutes = Minutes::from_bytes(minutes.as_bytes()).unwrap();
                }
                prop_assert_eq!(&minutes, &straight);
            }
            prop_assert_eq!(summed(&minutes), expected);
            let stored = postcard::to_allocvec(&minutes).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Minutes>(&stored).unwrap(), minutes);
        }

        #[test]
        fn any_bytes_are_minutes_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(mut minutes) = Minutes::from_bytes(&bytes) {
                minutes.add(7, &Counts { unknown: 1, ..Counts::default() });
                let _ = minutes.iter().count();
            }
        }
    }

    #[test]
    fn what_is_not_as_it_is_written_is_none() {
        // Of these, each would have been written otherwise: a far difference that is near, a number out of order, twice or
        // in a byte of its own, a varint with a byte too many.
        for bytes in [&[0xc1, 0x00][..], &[0x11, 0x09], &[0x09, 0x0a], &[0x39, 0x02], &[0x08, 0x80, 0x00]] {
            assert_eq!(Minutes::from_bytes(bytes), None, "{bytes:02x?}");
        }
        for bytes in [&[0x09, 0x11][..], &[0x39, 0x07], &[0x08, 0x00], &[0xc1, 0x06]] {
            assert!(Minutes::from_bytes(bytes).is_some(), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_sample_a_minute_takes_a_byte_a_minute() {
        let mut minutes = Minutes::default();
        for minute in 0..60 {
            let mut counts = Counts::default();
            counts.statuses[minute as usize % Status::COUNT] = 1;
            minutes.add(28_000_000 + minute, &counts);
        }
        assert!(minutes.len() <= 60 + 4, "{}", minutes.len());
    }
}
