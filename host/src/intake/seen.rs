//! Which samples of a partition are in its log already: per device and boot the exact set of their sequences,
//! as ranges, usually one.
//!
//! A sample is new if and only if it is not in the set: no order, prefetch or overtaking makes it otherwise,
//! and a jump forward is a range of its own. What is kept is bounded, by names; what falls behind a bound is
//! neither new nor counted: [`Sighting::CannotTell`]. A pure function of the log's prefix: only
//! [`Seen::record`] changes it, and only for logged samples.

use std::collections::HashMap;

use rollcall_wire::{DeviceId, SampleId, Sequence};
use serde::{Deserialize, Serialize};

/// How many boots of a device can get samples. A new boot is always taken: the one that was silent longest is
/// closed for it.
pub const OPEN_BOOTS_MAX: usize = 16;

/// How many closed boots of a device are known by their id. One that was closed longer ago is forgotten.
pub const CLOSED_BOOTS_MAX: usize = 1024;

/// How many ranges a boot may have: as many gaps, less one, can still be filled. Past it the oldest gap is
/// closed for good, and what lies below its end is not known. A broker delivers 2,000 messages at once, so
/// that in the worst order they make a thousand ranges for a moment.
pub const RANGES_MAX: usize = 1024;

/// What is known of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It is not in the log.
    New,
    /// It is in the log.
    Counted,
    /// Its boot, or its place in it, is closed: it may be in the log or not.
    CannotTell,
}

/// The samples of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    devices: HashMap<DeviceId, Device>,
}

/// What is known of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    /// The boot of the last sample stands last.
    open: Vec<Boot>,
    /// The boot that was closed last stands last.
    closed: Vec<u64>,
}

/// The samples of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    id: u64,
    /// Of sequences below this one nothing is known, but for those in `ranges`.
    open_from: u64,
    /// First and last sequence of each range; in order, with a gap between any two.
    ranges: Vec<(u64, u64)>,
}

/// The state as it was kept until format 1 (redb) and 2 (MongoDB): the highest sequence, and bit i for
/// `highest − 1 − i`.
#[derive(Deserialize)]
struct WindowOf64 {
    id: u64,
    highest: u64,
    below: u64,
}

/// What bytes of today's form begin with. Bytes of the older form begin with a number of devices, whose tenth
/// byte cannot be this one.
const TODAY: [u8; 10] = [0xff; 10];

impl Seen {
    /// Is this sample in the log?
    pub fn check(&self, device: &DeviceId, sample: SampleId) -> Sighting {
        let Some(device) = self.devices.get(device) else { return Sighting::New };
        match device.open.iter().rfind(|boot| boot.id == sample.boot.0) {
            Some(boot) => boot.check(sample.seq),
            None if device.closed.contains(&sample.boot.0) => Sighting::CannotTell,
            None => Sighting::New,
        }
    }

    /// The sample is in the log now.
    pub fn record(&mut self, device: DeviceId, sample: SampleId) {
        self.devices.entry(device).or_default().record(sample);
    }

    /// The checkpoint's form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let devices: Vec<_> = self.devices.iter().map(|(id, device)| (id.as_str(), device)).collect();
        let bytes = TODAY.to_vec();
        postcard::to_extend(&devices, bytes).expect("plain data always serialises into memory")
    }

    /// Reads what [`Seen::to_bytes`] wrote, today or in an older version; `None` when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.strip_prefix(&TODAY) {
            Some(bytes) => Self::of(bytes, |device: Device| Some(device)),
            None => Self::of(bytes, Device::of_windows),
        }
    }

    fn of<'a, T: Deserialize<'a>>(bytes: &'a [u8], device: impl Fn(T) -> Option<Device>) -> Option<Self> {
        let (devices, rest): (Vec<(&str, T)>, _) = postcard::take_from_bytes(bytes).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let devices = devices.into_iter().map(|(id, state)| {
            let device = device(state).filter(Device::is_sound)?;
            Some((DeviceId::new(id).ok()?, device))
        });
        Some(Self { devices: devices.collect::<Option<_>>()? })
    }
}

impl Device {
    fn record(&mut self, sample: SampleId) {
        let id = sample.boot.0;
        let mut boot = match self.open.iter().rposition(|boot| boot.id == id) {
            Some(last) if last + 1 == self.open.len() => return self.open[last].record(sample.seq),
            Some(at) => self.open.remove(at),
            None if self.closed.contains(&id) => return,
            None => Boot { id, open_from: 0, ranges: Vec::with_capacity(1) },
        };
        boot.record(sample.seq);
        if self.open.len() == OPEN_BOOTS_MAX {
            if self.closed.len() == CLOSED_BOOTS_MAX {
                self.closed.remove(0);
            }
            self.closed.push(self.open.remove(0).id);
        }
        self.open.push(boot);
    }

    /// Within a window of 64 the older form was exact as well.
    fn of_windows(windows: Vec<WindowOf64>) -> Option<Self> {
        let boot = |window: WindowOf64| {
            let mut boot =
                Boot { id: window.id, open_from: window.highest.saturating_sub(64), ranges: Vec::new() };
            let below = (0..64).filter(|bit| window.below >> bit & 1 == 1).map(|bit| bit + 1);
            for back in below.rev().chain([0]) {
                boot.record(Sequence::new(window.highest.checked_sub(back)?)?);
            }
            Some(boot)
        };
        Some(Self { open: windows.into_iter().map(boot).collect::<Option<_>>()?, closed: Vec::new() })
    }

    /// Is it a state that [`Device::record`] can come to? Bytes that were damaged are none.
    fn is_sound(&self) -> bool {
        let in_order = |ranges: &[(u64, u64)]| {
            ranges.iter().all(|(first, last)| first <= last && *last <= Sequence::MAX.get())
                && ranges.windows(2).all(|two| two[0].1 + 1 < two[1].0)
        };
        let sound = |boot: &Boot| in_order(&boot.ranges) && (1..=RANGES_MAX).contains(&boot.ranges.len());
        self.open.len() <= OPEN_BOOTS_MAX
            && self.closed.len() <= CLOSED_BOOTS_MAX
            && self.open.iter().all(sound)
    }
}

impl Boot {
    fn check(&self, seq: Sequence) -> Sighting {
        let seq = seq.get();
        let at = self.ranges.partition_point(|(_, last)| *last < seq);
        if self.ranges.get(at).is_some_and(|(first, _)| *first <= seq) {
            return Sighting::Counted;
        }
        if seq < self.open_from { Sighting::CannotTell } else { Sighting::New }
    }

    fn record(&mut self, seq: Sequence) {
        let seq = seq.get();
        let at = self.ranges.partition_point(|(_, last)| *last < seq);
        let joins_next = self.ranges.get(at).is_some_and(|(first, _)| *first <= seq + 1);
        let joins_last = at > 0 && self.ranges[at - 1].1 + 1 == seq;
        match (joins_last, joins_next) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = seq,
            (false, true) => self.ranges[at].0 = self.ranges[at].0.min(seq),
            (false, false) => self.ranges.insert(at, (seq, seq)),
        }
        if self.ranges.len() > RANGES_MAX {
            self.ranges.remove(0);
            self.open_from = self.open_from.max(self.ranges[0].0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;
    use rollcall_wire::BootId;

    fn device() -> DeviceId {
        DeviceId::new("d").unwrap()
    }

    fn sample(boot: u64, seq: u64) -> SampleId {
        SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() }
    }

    #[test]
    fn the_newest_sample_first_leaves_the_older_ones_new() {
        let mut seen = Seen::default();
        for seq in std::iter::once(300).chain(0..300) {
            assert_eq!(seen.check(&device(), sample(1, seq)), Sighting::New, "{seq}");
            seen.record(device(), sample(1, seq));
        }
        assert!((0..=300).all(|seq| seen.check(&device(), sample(1, seq)) == Sighting::Counted));
        assert_eq!(seen.devices[&device()].open[0].ranges, [(0, 300)]);
    }

    #[test]
    fn a_jump_to_the_last_sequence_swallows_none_of_those_before() {
        let mut seen = Seen::default();
        seen.record(device(), sample(1, 9));
        seen.record(device(), sample(1, Sequence::MAX.get()));
        assert_eq!(seen.check(&device(), sample(1, 10)), Sighting::New);
        assert_eq!(seen.check(&device(), sample(1, 9)), Sighting::Counted);
    }

    #[test]
    fn a_boot_that_other_boots_have_closed_cannot_be_told_and_is_never_new_again() {
        let mut seen = Seen::default();
        seen.record(device(), sample(0, 7));
        for boot in 1..=(OPEN_BOOTS_MAX + 3) as u64 {
            assert_eq!(seen.check(&device(), sample(boot, 0)), Sighting::New, "a new boot is always taken");
            seen.record(device(), sample(boot, 0));
        }
        assert_eq!(seen.check(&device(), sample(0, 7)), Sighting::CannotTell);
        assert_eq!(seen.check(&device(), sample(0, 8)), Sighting::CannotTell);
    }

    #[test]
    fn the_boot_that_was_silent_longest_is_closed_first() {
        let mut seen = Seen::default();
        for boot in 0..OPEN_BOOTS_MAX as u64 {
            seen.record(device(), sample(boot, 0));
        }
        seen.record(device(), sample(0, 1));
        seen.record(device(), sample(99, 0));
        assert_eq!(seen.check(&device(), sample(0, 1)), Sighting::Counted);
        assert_eq!(seen.check(&device(), sample(1, 0)), Sighting::CannotTell);
    }

    #[test]
    fn past_the_bound_the_oldest_gap_is_closed_and_no_other() {
        let mut seen = Seen::default();
        for seq in (0..=2 * RANGES_MAX as u64).step_by(2) {
            seen.record(device(), sample(1, seq));
        }
        assert_eq!(seen.check(&device(), sample(1, 1)), Sighting::CannotTell);
        assert_eq!(seen.check(&device(), sample(1, 2)), Sighting::Counted);
        assert_eq!(seen.check(&device(), sample(1, 3)), Sighting::New);
    }

    #[test]
    fn bytes_that_no_one_wrote_are_refused() {
        let today = |bytes: &[u8]| [&TODAY[..], bytes].concat();
        // A range that ends before it begins, two that touch, and one device too few.
        let boot = |ranges: &[u8]| today(&[&[1, 1, b'd', 1, 5, 0][..], ranges, &[0]].concat());
        assert!(Seen::from_bytes(&boot(&[1, 3, 9])).is_some());
        for bytes in [
            vec![3, 1],
            vec![],
            today(&[3]),
            today(&[0, 0]),
            boot(&[1, 9, 3]),
            boot(&[2, 1, 3, 4, 5]),
            boot(&[0]),
        ] {
            assert_eq!(Seen::from_bytes(&bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_state_of_the_older_form_is_exact_within_its_window_and_unknown_below() {
        // Boot 5 with 100, 99 and 97; written as it was: id, highest, bits.
        let old = postcard::to_allocvec(&vec![("d", vec![(5_u64, 100_u64, 0b101_u64)])]).unwrap();
        let seen = Seen::from_bytes(&old).unwrap();
        for (seq, expected) in [
            (101, Sighting::New),
            (100, Sighting::Counted),
            (99, Sighting::Counted),
            (98, Sighting::New),
            (97, Sighting::Counted),
            (36, Sighting::New),
            (35, Sighting::CannotTell),
        ] {
            assert_eq!(seen.check(&device(), sample(5, seq)), expected, "{seq}");
        }
        assert_eq!(Seen::from_bytes(&seen.to_bytes()), Some(seen));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever comes in whatever order: what is in the log is never new, and what is not is never counted.
        #[test]
        fn it_agrees_with_a_set_of_everything_or_says_that_it_cannot_tell(
            steps in prop::collection::vec(
                (0..20_u64, prop_oneof![40 => 0..70_u64, 2 => 0..5_000_u64, 1 => Just(Sequence::MAX.get())]), 0..400),
            restarts in prop::collection::vec(0..400_usize, 0..3),
        ) {
            let mut seen = Seen::default();
            let mut set = HashSet::new();
            let mut closed = false;
            for (at, (boot, seq)) in steps.into_iter().enumerate() {
                if restarts.contains(&at) {
                    let restored = Seen::from_bytes(&seen.to_bytes());
                    prop_assert_eq!(restored.as_ref(), Some(&seen));
                }
                let sample = sample(boot, seq);
                match seen.check(&device(), sample) {
                    Sighting::New => prop_assert!(set.insert((boot, seq)), "{:?} is in the log", sample),
                    Sighting::Counted => prop_assert!(set.contains(&(boot, seq)), "{:?} is not in the log", sample),
                    Sighting::CannotTell => {
                        closed = true;
                        continue;
                    }
                }
                seen.record(device(), sample);
            }
            let boots: HashSet<_> = set.iter().map(|(boot, _)| boot).collect();
            prop_assert!(!closed || boots.len() > OPEN_BOOTS_MAX, "all could be known");
        }
    }
}
