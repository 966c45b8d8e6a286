//! Which samples of a partition are in its log already: per device and boot the highest sequence and a
//! bitmap of the 64 below it, as the anti-replay window of RFC 6479.
//!
//! A pure function of the log's prefix: only [`Dedupe::record`] changes it, and only for logged samples.

use std::collections::HashMap;

use rollcall_wire::{BootId, DeviceId, SampleId, Sequence};
use serde::{Deserialize, Serialize};

/// How many boots of a device are remembered; the one whose last sample lies furthest back goes first.
/// A message of a forgotten boot would be counted again, so a broker must not hold one back that long.
pub const BOOTS_MAX: usize = 8;

/// How far below the highest sequence a new sample may lie. A device has at most 8 in flight.
pub const WINDOW: u64 = 64;

/// What is known of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is not in the log.
    New,
    /// It is in the log.
    Duplicate,
    /// Too far below the highest to tell: taken for a duplicate.
    BelowWindow,
}

/// The samples of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dedupe {
    devices: HashMap<DeviceId, Vec<Boot>>,
}

/// The samples of one boot. Bit i of `below` is the sequence `highest − 1 − i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    id: u64,
    highest: u64,
    below: u64,
}

impl Dedupe {
    /// Is this sample in the log?
    pub fn check(&self, device: &DeviceId, sample: SampleId) -> Seen {
        let boots = self.devices.get(device).map_or(&[][..], Vec::as_slice);
        match boots.iter().find(|boot| BootId(boot.id) == sample.boot) {
            Some(boot) => boot.check(sample.seq),
            None => Seen::New,
        }
    }

    /// The sample is in the log now.
    pub fn record(&mut self, device: DeviceId, sample: SampleId) {
        let boots = self.devices.entry(device).or_default();
        let boot = match boots.iter().position(|boot| BootId(boot.id) == sample.boot) {
            // The most recent boot stands last.
            Some(at) => {
                let mut boot = boots.remove(at);
                boot.record(sample.seq);
                boot
            }
            None => Boot { id: sample.boot.0, highest: sample.seq.get(), below: 0 },
        };
        if boots.len() == BOOTS_MAX {
            boots.remove(0);
        }
        boots.push(boot);
    }

    /// The checkpoint's form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let devices: Vec<_> = self.devices.iter().map(|(id, boots)| (id.as_str(), boots)).collect();
        postcard::to_allocvec(&devices).expect("plain data always serialises into memory")
    }

    /// Reads what [`Dedupe::to_bytes`] wrote; `None` when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (devices, rest): (Vec<(&str, Vec<Boot>)>, _) = postcard::take_from_bytes(bytes).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let devices = devices.into_iter().map(|(id, boots)| Some((DeviceId::new(id).ok()?, boots)));
        Some(Self { devices: devices.collect::<Option<_>>()? })
    }
}

impl Boot {
    fn check(&self, seq: Sequence) -> Seen {
        if seq.get() > self.highest {
            return Seen::New;
        }
        match self.highest - seq.get() {
            0 => Seen::Duplicate,
            back @ 1..=WINDOW if self.below >> (back - 1) & 1 == 0 => Seen::New,
            1..=WINDOW => Seen::Duplicate,
            _ => Seen::BelowWindow,
        }
    }

    fn record(&mut self, seq: Sequence) {
        let seq = seq.get();
        if seq > self.highest {
            let forward = seq - self.highest;
            // The old highest moves to bit `forward − 1`; what is shifted out is below the window.
            let old = 1_u64.checked_shl(shift(forward - 1)).unwrap_or(0);
            self.below = self.below.checked_shl(shift(forward)).unwrap_or(0) | old;
            self.highest = seq;
        } else if let back @ 1..=WINDOW = self.highest - seq {
            self.below |= 1 << (back - 1);
        }
    }
}

/// A shift by more than 32 bits can say clears the window just as well.
fn shift(by: u64) -> u32 {
    u32::try_from(by).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    fn device() -> DeviceId {
        DeviceId::new("d").unwrap()
    }

    fn sample(boot: u64, seq: u64) -> SampleId {
        SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() }
    }

    #[test]
    fn a_recorded_sample_is_a_duplicate_and_the_next_one_is_new() {
        let mut dedupe = Dedupe::default();
        dedupe.record(device(), sample(1, 5));
        assert_eq!(dedupe.check(&device(), sample(1, 5)), Seen::Duplicate);
        assert_eq!(dedupe.check(&device(), sample(1, 6)), Seen::New);
        assert_eq!(dedupe.check(&device(), sample(2, 5)), Seen::New);
    }

    #[test]
    fn a_sample_that_was_overtaken_is_new_once() {
        let mut dedupe = Dedupe::default();
        dedupe.record(device(), sample(1, 70));
        assert_eq!(dedupe.check(&device(), sample(1, 6)), Seen::New);
        dedupe.record(device(), sample(1, 6));
        assert_eq!(dedupe.check(&device(), sample(1, 6)), Seen::Duplicate);
        assert_eq!(dedupe.check(&device(), sample(1, 5)), Seen::BelowWindow);
    }

    #[test]
    fn the_boot_that_was_silent_longest_is_forgotten_first() {
        let mut dedupe = Dedupe::default();
        for boot in 0..BOOTS_MAX as u64 {
            dedupe.record(device(), sample(boot, 0));
        }
        dedupe.record(device(), sample(0, 1));
        dedupe.record(device(), sample(99, 0));
        assert_eq!(dedupe.check(&device(), sample(0, 1)), Seen::Duplicate);
        assert_eq!(dedupe.check(&device(), sample(1, 0)), Seen::New);
    }

    #[test]
    fn bytes_that_no_one_wrote_are_refused() {
        assert_eq!(Dedupe::from_bytes(&[3, 1]), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_everything_within_the_window(
            steps in prop::collection::vec(prop_oneof![40 => -70..70_i64, 1 => Just(1 << 40), 1 => Just(i64::MAX)], 0..200)
        ) {
            let most = Sequence::MAX.get() as i64;
            let seqs = steps.iter().scan(100_i64, |at, step| {
                *at = at.saturating_add(*step).clamp(0, most);
                Some(*at as u64)
            });
            let mut dedupe = Dedupe::default();
            let mut set = HashSet::new();
            let mut highest = 0;
            for seq in seqs {
                let expected = match (set.contains(&seq), highest > seq && highest - seq > WINDOW) {
                    (_, true) => Seen::BelowWindow,
                    (true, false) => Seen::Duplicate,
                    (false, false) => Seen::New,
                };
                prop_assert_eq!(dedupe.check(&device(), sample(7, seq)), expected);
                dedupe.record(device(), sample(7, seq));
                set.insert(seq);
                highest = highest.max(seq);
            }
        }

        #[test]
        fn a_checkpoint_brings_the_same_state_back(
            samples in prop::collection::vec((0..4_u64, 0..300_u64), 0..100)
        ) {
            let mut dedupe = Dedupe::default();
            for (boot, seq) in samples {
                dedupe.record(DeviceId::new(&format!("d{}", seq % 5)).unwrap(), sample(boot, seq));
            }
            prop_assert_eq!(Dedupe::from_bytes(&dedupe.to_bytes()), Some(dedupe));
        }
    }
}
