//! How many of the samples of a range are missing, and of how many nothing is known.
//!
//! Of what is taken before a boot's first sample that is in the log, and after its last, nothing is known: whether it was
//! taken and is lost, waits with the device, or was never taken. It is reckoned with the boot's period, back to its sequence
//! 0 and on to the device's next boot, and of the last boot to the instant at which the row is exact.

use std::ops::Range;

use super::FleetDevice;
use super::gaps::{gaps, period_ms};
use crate::model::UnixMs;

/// The parts of a range that are asked for, each without a gap after the one before it.
#[derive(Clone, Debug)]
pub struct Steps {
    /// In milliseconds of Unix time, end exclusive.
    range: Range<u64>,
    /// Steps lie on multiples of this, in milliseconds; the first and the last may be parts.
    step: u64,
}

/// What is not in the log of the samples of each step, and until when something was forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// By step: how many were taken and are not in the log.
    pub missing: Vec<u64>,
    /// By step: how many more there would be, had devices sampled on at their periods where nothing is known of them.
    pub unknown: Vec<u64>,
    /// What was missing before this instant is not all known: the latest of the devices'
    /// [`known_from`](crate::log::row::DeviceState::known_from).
    pub known_from: Option<UnixMs>,
    /// For so many devices that is within the range.
    pub partly_known: u64,
}

impl Steps {
    /// All of a range, in Unix seconds, is one step.
    pub fn one(range: &Range<u64>) -> Self {
        let range = ms(range);
        Self { step: u64::MAX, range }
    }

    /// Steps of so many seconds, on multiples of it.
    pub fn every(range: &Range<u64>, step: u64) -> Self {
        Self { range: ms(range), step: step.max(1).saturating_mul(1000) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        if self.range.is_empty() { 0 } else { self.of(self.range.end - 1) + 1 }
    }

    /// In which step an instant of the range is.
    fn of(&self, at: u64) -> usize {
        (at / self.step - self.range.start / self.step) as usize
    }

    /// Where a step ends.
    fn end(&self, nth: usize) -> u64 {
        let end = (self.range.start / self.step + nth as u64 + 1).saturating_mul(self.step);
        end.min(self.range.end)
    }

    /// Adds to each step what of a run lies in it: all of the run lies in `run`, and so many before an instant.
    fn add(&self, sums: &mut [u64], run: Range<u64>, before: impl Fn(u64) -> u64) {
        let (start, end) = (self.range.start.max(run.start), self.range.end.min(run.end));
        if start >= end {
            return;
        }
        let mut counted = before(start);
        let (first, last) = (self.of(start), self.of(end - 1));
        for (sum, nth) in sums[first..=last].iter_mut().zip(first..) {
            let upto = before(self.end(nth));
            // Of forged sequences there may be more than can be counted.
            *sum = sum.saturating_add(upto - counted);
            counted = upto;
        }
    }
}

fn ms(seconds: &Range<u64>) -> Range<u64> {
    seconds.start.saturating_mul(1000)..seconds.end.saturating_mul(1000)
}

impl Absent {
    /// Nothing yet.
    pub fn new(steps: &Steps) -> Self {
        let none = vec![0; steps.count()];
        Self { missing: none.clone(), unknown: none, known_from: None, partly_known: 0 }
    }

    /// Takes what is absent of other devices, of the same steps.
    pub fn merge(&mut self, other: Self) {
        let Self { missing, unknown, known_from, partly_known } = other;
        let add = |sums: &mut [u64], more: Vec<u64>| {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        };
        add(&mut self.missing, missing);
        add(&mut self.unknown, unknown);
        self.known_from = self.known_from.max(known_from);
        self.partly_known += partly_known;
    }

    /// Takes a device as its row says, which is exact at `as_of`.
    pub fn add(&mut self, steps: &Steps, device: &FleetDevice, as_of: UnixMs) {
        let known_from = device.row.known_from;
        self.known_from = self.known_from.max(known_from);
        self.partly_known += u64::from(known_from.is_some_and(|at| at.0 > steps.range.start));
        for gap in device.row.boots.iter().flat_map(gaps) {
            steps.add(&mut self.missing, gap.range(), |at| gap.taken_before(at));
        }
        for run in unknown(device, as_of) {
            steps.add(&mut self.unknown, run.range(), |at| run.taken_before(at));
        }
    }
}

/// Samples at a period, of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// When the first was taken.
    first_at: u64,
    /// How many there are.
    count: u64,
    /// From each to the next; at least 1.
    period_ms: u64,
}

impl Run {
    /// In periods after `last_at`, before `end`.
    fn after(last_at: u64, end: u64, period_ms: u64) -> Self {
        let count = end.saturating_sub(last_at).saturating_sub(1) / period_ms;
        Self { first_at: last_at.saturating_add(period_ms), count, period_ms }
    }

    /// `most` in periods before `first_at`, as far as they are taken after `begin`.
    fn before(first_at: u64, most: u64, begin: u64, period_ms: u64) -> Self {
        let count = (first_at.saturating_sub(begin).saturating_sub(1) / period_ms).min(most);
        Self { first_at: first_at - count * period_ms, count, period_ms }
    }

    fn range(self) -> Range<u64> {
        if self.count == 0 {
            return 0..0;
        }
        let last_at = self.first_at.saturating_add((self.count - 1).saturating_mul(self.period_ms));
        self.first_at..last_at.saturating_add(1)
    }

    fn taken_before(self, at: u64) -> u64 {
        at.saturating_sub(self.first_at).div_ceil(self.period_ms).min(self.count)
    }
}

/// The samples of a device of which nothing is known. Of boots of which the period is not known, that of the device's
/// latest is taken; without one, nothing is reckoned.
fn unknown(device: &FleetDevice, as_of: UnixMs) -> Vec<Run> {
    let mut boots: Vec<_> = device.row.boots.iter().filter(|boot| !boot.ranges.is_empty()).collect();
    boots.sort_by_key(|boot| boot.ranges[0].first_at);
    let mut runs = Vec::with_capacity(boots.len() + 1);
    // When the last sample so far was taken, and the period of its boot.
    let mut ended = device.row.known_from.map_or((0, None), |at| (at.0, device.period_ms));
    for boot in boots {
        let (first, last_at) = (boot.ranges[0], boot.last_at().unwrap_or_default());
        let period = period_ms(boot).or(device.period_ms);
        let mut begin = first.first_at.0;
        if let Some(period_ms) = period {
            let run = Run::before(first.first_at.0, first.first, ended.0, period_ms);
            begin = run.first_at;
            runs.push(run);
        }
        if let (last_at, Some(period_ms)) = ended {
            runs.push(Run::after(last_at, begin, period_ms));
        }
        if last_at.0 >= ended.0 {
            ended = (last_at.0, period);
        }
    }
    if let (last_at, Some(period_ms)) = ended {
        runs.push(Run::after(last_at, as_of.0, period_ms));
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rollcall_wire::{BootId, DeviceId, Sequence};

    use super::*;
    use crate::log::minutes::Minutes;
    use crate::log::row::{Boot, DeviceState, Row, SeqRange};

    fn boot() -> impl Strategy<Value = Boot> {
        let number = || prop_oneof![0..100_u64, 0..=Sequence::MAX.get()];
        let at = || prop_oneof![1_000..100_000_u64, any::<u64>()];
        let ranges = prop::collection::btree_set(number(), 2..12);
        (ranges, prop::collection::vec((at(), at()), 6)).prop_map(|(ends, times)| {
            let ends: Vec<_> = ends.into_iter().collect();
            let range = |(ends, (first_at, last_at)): (&[u64], (u64, u64))| SeqRange {
                first: ends[0],
                last: ends[1],
                first_at: UnixMs(first_at),
                last_at: UnixMs(last_at),
            };
            let mut ranges: Vec<_> = ends.chunks_exact(2).zip(times).map(range).collect();
            ranges.dedup_by(|next, last| last.last + 1 == next.first);
            Boot { id: BootId(7), open_from: 0, last_logged: UnixMs(0), ranges }
        })
    }

    proptest! {
        #[test]
        fn whatever_a_row_says_the_steps_of_a_range_add_up_to_it(
            boots in prop::collection::vec(boot(), 0..4),
            known_from in prop::option::of(any::<u64>()),
            as_of in any::<u64>(),
            start in 0..200_u64,
            length in 0..200_u64,
            step in prop_oneof![1..20_u64, any::<u64>()],
        ) {
            let state = DeviceState {
                first_seen: UnixMs(0),
                last_seen: UnixMs(0),
                last_sample: None,
                undecided: 0,
                known_from: known_from.map(UnixMs),
                boots,
                counts: Minutes::default(),
            };
            let device = DeviceId::new("d").unwrap();
            let row = Row { device, upto: 1, state: state.to_bytes(), sealed: Vec::new(), closed: None };
            let device = FleetDevice::new(&row).unwrap();
            let range = start..start + length;
            let absent = |steps: &Steps| {
                let mut absent = Absent::new(steps);
                absent.add(steps, &device, UnixMs(as_of));
                absent
            };
            let (whole, parts) = (absent(&Steps::one(&range)), absent(&Steps::every(&range, step)));
            let sum = |numbers: &[u64]| numbers.iter().fold(0_u64, |sum, number| sum.saturating_add(*number));
            prop_assert_eq!(sum(&whole.missing), sum(&parts.missing));
            prop_assert_eq!(sum(&whole.unknown), sum(&parts.unknown));
            let ever = absent(&Steps::one(&(0..u64::MAX))).missing[0];
            prop_assert!(ever <= device.missing() && sum(&whole.missing) <= ever);
        }
    }
}
