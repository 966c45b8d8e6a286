//! Which samples of a partition are in its log already: per device and boot the exact set of their sequences,
//! as ranges, usually one.
//!
//! A sample is new if and only if it is not in the set: no order, prefetch or overtaking makes it otherwise,
//! and a jump forward is a range of its own. What is kept is bounded, by names; what falls behind a bound is
//! neither new nor counted: [`Sighting::CannotTell`]. A pure function of the log's prefix: only
//! [`Seen::record`] changes it, and only for logged records.

use std::collections::HashMap;

use rollcall_wire::{DeviceId, SampleId, Sequence};

use crate::log::row::{Boot, ClosedBoots, DeviceState, OPEN_BOOTS_MAX, RANGES_MAX, Row, SeqRange};
use crate::model::{Record, RecordKind, UnixMs};

/// How many devices a slot may have: two million in all, which take some 700 MB. One more is not taken: of its
/// samples it could not be told whether they are in the log.
pub const DEVICES_MAX: usize = 131_072;

/// How long a boot is known after its last sample, in log time. What a device or a broker still holds of it
/// then is older than the wire's horizon, and refused for that.
const BOOT_KEPT_MS: u64 = rollcall_wire::codec::AGE_MAX_MS as u64;

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

/// The devices of one partition.
#[derive(Debug, Default)]
pub struct Seen {
    devices: HashMap<DeviceId, Device>,
    /// Those that were changed since their rows were taken, in the order in which they were.
    changed: Vec<DeviceId>,
}

#[derive(Debug)]
struct Device {
    state: DeviceState,
    /// `None` for the many that have none.
    closed: Option<Box<ClosedBoots>>,
    /// Is it in [`Seen::changed`]?
    changed: bool,
    /// Were its closed boots changed since their row was taken?
    closed_changed: bool,
}

impl Seen {
    /// Takes a device's row out of a store; `false` when it is none.
    pub fn restore(&mut self, row: &Row) -> bool {
        let Some(state) = DeviceState::from_bytes(&row.state) else { return false };
        let closed = match row.closed.as_deref().map(ClosedBoots::from_bytes) {
            Some(None) => return false,
            Some(Some(closed)) if !closed.is_empty() => Some(Box::new(closed)),
            _ => None,
        };
        let device = Device { state, closed, changed: false, closed_changed: false };
        self.devices.insert(row.device, device);
        true
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Is this sample in the log?
    pub fn check(&self, device: &DeviceId, sample: SampleId) -> Sighting {
        match self.devices.get(device) {
            Some(device) => device.check(sample),
            None if self.devices.len() >= DEVICES_MAX => Sighting::CannotTell,
            None => Sighting::New,
        }
    }

    /// The record is in the log now, in an entry of the log time `log_time`.
    pub fn record(&mut self, record: &Record, log_time: UnixMs) {
        // Documents of an older program have identities of their own, and are no device's.
        if record.kind == RecordKind::Imported {
            return;
        }
        if self.devices.len() >= DEVICES_MAX && !self.devices.contains_key(&record.device) {
            return;
        }
        let device = self.devices.entry(record.device).or_insert_with(|| Device::new(record.received_at));
        device.record(record, log_time);
        if !std::mem::replace(&mut device.changed, true) {
            self.changed.push(record.device);
        }
    }

    /// How many devices were changed since [`Seen::take_changed`].
    pub fn changed(&self) -> usize {
        self.changed.len()
    }

    /// The devices that were changed since this was called last.
    pub fn take_changed(&mut self) -> Vec<DeviceId> {
        let changed = std::mem::take(&mut self.changed);
        for device in &changed {
            self.device(device).changed = false;
        }
        changed
    }

    /// These were taken, and may not be stored: they count as changed again.
    pub fn put_back(&mut self, devices: Vec<DeviceId>) {
        for id in devices {
            let device = self.device(&id);
            device.closed_changed = device.closed.is_some();
            if !std::mem::replace(&mut device.changed, true) {
                self.changed.push(id);
            }
        }
    }

    /// A device's row, up to entry `upto`.
    pub fn row(&mut self, id: DeviceId, upto: u64) -> Row {
        let device = self.device(&id);
        let closed = if std::mem::take(&mut device.closed_changed) { device.closed.as_deref() } else { None };
        let closed = closed.map(ClosedBoots::to_bytes);
        Row { device: id, upto, state: device.state.to_bytes(), closed }
    }

    fn device(&mut self, id: &DeviceId) -> &mut Device {
        self.devices.get_mut(id).expect("a device that was recorded stays")
    }
}

impl Device {
    fn new(first_seen: UnixMs) -> Self {
        let state = DeviceState {
            first_seen,
            last_seen: first_seen,
            last_sample: None,
            undecided: 0,
            boots: Vec::with_capacity(1),
        };
        Self { state, closed: None, changed: false, closed_changed: false }
    }

    fn check(&self, sample: SampleId) -> Sighting {
        match self.state.boots.iter().rfind(|boot| boot.id == sample.boot) {
            Some(boot) => check(boot, sample.seq),
            None if self.closed.as_ref().is_some_and(|closed| closed.contains(sample.boot)) => {
                Sighting::CannotTell
            }
            None => Sighting::New,
        }
    }

    fn record(&mut self, record: &Record, log_time: UnixMs) {
        let state = &mut self.state;
        state.last_seen = state.last_seen.max(record.received_at);
        if record.kind == RecordKind::Undecided {
            state.undecided += 1;
            return;
        }
        if state.last_sample.is_none_or(|(at, _)| at <= record.sampled_at) {
            state.last_sample = Some((record.sampled_at, record.status));
        }
        if let Some(id) = record.id {
            self.record_sample(id, record.sampled_at, log_time);
        }
    }

    fn record_sample(&mut self, id: SampleId, sampled_at: UnixMs, log_time: UnixMs) {
        let boots = &mut self.state.boots;
        let mut boot = match boots.iter().rposition(|boot| boot.id == id.boot) {
            Some(last) if last + 1 == boots.len() => {
                boots[last].last_logged = log_time;
                return insert(&mut boots[last], id.seq, sampled_at);
            }
            Some(at) => boots.remove(at),
            None if self.closed.as_ref().is_some_and(|closed| closed.contains(id.boot)) => return,
            None => {
                self.forget(log_time);
                Boot { id: id.boot, open_from: 0, last_logged: log_time, ranges: Vec::with_capacity(1) }
            }
        };
        boot.last_logged = log_time;
        insert(&mut boot, id.seq, sampled_at);
        let boots = &mut self.state.boots;
        if boots.len() == OPEN_BOOTS_MAX {
            let silent = boots.remove(0);
            self.closed.get_or_insert_default().push(silent.id, silent.last_logged);
            self.closed_changed = true;
        }
        self.state.boots.push(boot);
    }

    /// A new boot is the occasion to forget those of which nothing can come any more.
    fn forget(&mut self, log_time: UnixMs) {
        let before = UnixMs(log_time.0.saturating_sub(BOOT_KEPT_MS));
        self.state.boots.retain(|boot| boot.last_logged >= before);
        if let Some(closed) = &mut self.closed {
            let length = closed.len();
            closed.forget(before);
            self.closed_changed |= closed.len() < length;
        }
    }
}

fn check(boot: &Boot, seq: Sequence) -> Sighting {
    let seq = seq.get();
    let at = boot.ranges.partition_point(|range| range.last < seq);
    if boot.ranges.get(at).is_some_and(|range| range.first <= seq) {
        return Sighting::Counted;
    }
    if seq < boot.open_from { Sighting::CannotTell } else { Sighting::New }
}

fn insert(boot: &mut Boot, seq: Sequence, sampled_at: UnixMs) {
    let (seq, ranges) = (seq.get(), &mut boot.ranges);
    let at = ranges.partition_point(|range| range.last < seq);
    if ranges.get(at).is_some_and(|range| range.first <= seq) {
        return;
    }
    let joins_next = ranges.get(at).is_some_and(|range| range.first == seq + 1);
    let joins_last = at > 0 && ranges[at - 1].last + 1 == seq;
    match (joins_last, joins_next) {
        (true, true) => {
            let next = ranges.remove(at);
            let range = &mut ranges[at - 1];
            (range.last, range.last_at) = (next.last, next.last_at);
        }
        (true, false) => (ranges[at - 1].last, ranges[at - 1].last_at) = (seq, sampled_at),
        (false, true) => (ranges[at].first, ranges[at].first_at) = (seq, sampled_at),
        (false, false) => {
            let range = SeqRange { first: seq, last: seq, first_at: sampled_at, last_at: sampled_at };
            ranges.insert(at, range);
        }
    }
    if ranges.len() > RANGES_MAX {
        ranges.remove(0);
        boot.open_from = boot.open_from.max(ranges[0].first);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::log::row::CLOSED_BOOTS_MAX;
    use crate::model::TimeError;
    use proptest::prelude::*;
    use rollcall_wire::{BootId, Status};

    /// The 28th of November 2023.
    const START: UnixMs = UnixMs(1_701_129_600_000);

    fn device() -> DeviceId {
        DeviceId::new("d").unwrap()
    }

    fn sample(boot: u64, seq: u64) -> SampleId {
        SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() }
    }

    fn record(id: SampleId) -> Record {
        Record {
            device: device(),
            id: Some(id),
            status: Status::new((id.seq.get() % 7) as u8).unwrap(),
            kind: RecordKind::Sample,
            sampled_at: UnixMs(START.0 + id.seq.get() % 1_000_000),
            time_error: TimeError::Exact,
            received_at: START,
        }
    }

    impl Seen {
        fn take(&mut self, boot: u64, seq: u64) {
            self.record(&record(sample(boot, seq)), START);
        }

        fn sees(&self, boot: u64, seq: u64) -> Sighting {
            self.check(&device(), sample(boot, seq))
        }

        /// The same after a restart.
        fn restored(&mut self) -> Self {
            let mut restored = Self::default();
            for id in self.take_changed() {
                // As a store keeps closed boots that are not written again.
                self.device(&id).closed_changed = self.device(&id).closed.is_some();
                assert!(restored.restore(&self.row(id, 1)));
                let (ours, theirs) = (&self.devices[&id], &restored.devices[&id]);
                assert_eq!((&ours.state, &ours.closed), (&theirs.state, &theirs.closed));
            }
            restored
        }
    }

    #[test]
    fn the_newest_sample_first_leaves_the_older_ones_new() {
        let mut seen = Seen::default();
        for seq in std::iter::once(300).chain(0..300) {
            assert_eq!(seen.sees(1, seq), Sighting::New, "{seq}");
            seen.take(1, seq);
        }
        assert!((0..=300).all(|seq| seen.sees(1, seq) == Sighting::Counted));
        let range =
            SeqRange { first: 0, last: 300, first_at: START, last_at: record(sample(1, 300)).sampled_at };
        assert_eq!(seen.devices[&device()].state.boots[0].ranges, [range]);
    }

    #[test]
    fn a_jump_to_the_last_sequence_swallows_none_of_those_before() {
        let mut seen = Seen::default();
        seen.take(1, 9);
        seen.take(1, Sequence::MAX.get());
        assert_eq!(seen.sees(1, 10), Sighting::New);
        assert_eq!(seen.sees(1, 9), Sighting::Counted);
    }

    #[test]
    fn the_ends_of_a_range_have_the_times_of_their_samples() {
        let mut seen = Seen::default();
        for seq in [5, 7, 6, 4, 9] {
            seen.take(1, seq);
        }
        let at = |seq| UnixMs(START.0 + seq);
        assert_eq!(
            seen.devices[&device()].state.boots[0].ranges,
            [
                SeqRange { first: 4, last: 7, first_at: at(4), last_at: at(7) },
                SeqRange { first: 9, last: 9, first_at: at(9), last_at: at(9) },
            ]
        );
    }

    #[test]
    fn a_boot_that_other_boots_have_closed_cannot_be_told_and_is_never_new_again() {
        let mut seen = Seen::default();
        seen.take(0, 7);
        for boot in 1..=(OPEN_BOOTS_MAX + 3) as u64 {
            assert_eq!(seen.sees(boot, 0), Sighting::New, "a new boot is always taken");
            seen.take(boot, 0);
        }
        assert_eq!(seen.sees(0, 7), Sighting::CannotTell);
        assert_eq!(seen.sees(0, 8), Sighting::CannotTell);
    }

    #[test]
    fn a_boot_is_closed_through_more_boots_than_a_device_can_have_in_a_month_of_crashes() {
        let mut seen = Seen::default();
        for boot in 0..(OPEN_BOOTS_MAX + CLOSED_BOOTS_MAX) as u64 {
            seen.take(boot, 0);
        }
        assert_eq!(seen.sees(0, 0), Sighting::CannotTell);
        seen.take(u64::MAX, 0);
        assert_eq!(seen.sees(0, 0), Sighting::New, "the first to be closed is forgotten past the bound");
    }

    #[test]
    fn boots_are_forgotten_30_days_of_log_time_after_their_last_sample_and_no_sooner() {
        let mut seen = Seen::default();
        for boot in 0..=OPEN_BOOTS_MAX as u64 {
            seen.take(boot, 0);
        }
        assert_eq!(seen.sees(0, 0), Sighting::CannotTell, "closed");
        let at = |ms: u64| UnixMs(START.0 + ms);
        seen.record(&record(sample(1, 1)), at(BOOT_KEPT_MS));
        seen.record(&record(sample(100, 0)), at(BOOT_KEPT_MS));
        assert_eq!(seen.sees(0, 0), Sighting::CannotTell, "30 days, and not longer");
        seen.record(&record(sample(101, 0)), at(BOOT_KEPT_MS + 1));
        assert_eq!(seen.sees(0, 0), Sighting::New);
        assert_eq!(seen.sees(3, 0), Sighting::New, "an open one goes too");
        assert_eq!(seen.sees(1, 1), Sighting::Counted, "it was heard in between");
    }

    #[test]
    fn the_boot_that_was_silent_longest_is_closed_first() {
        let mut seen = Seen::default();
        for boot in 0..OPEN_BOOTS_MAX as u64 {
            seen.take(boot, 0);
        }
        seen.take(0, 1);
        seen.take(99, 0);
        assert_eq!(seen.sees(0, 1), Sighting::Counted);
        assert_eq!(seen.sees(1, 0), Sighting::CannotTell);
    }

    #[test]
    fn past_the_bound_the_oldest_gap_is_closed_and_no_other() {
        let mut seen = Seen::default();
        for seq in (0..=2 * RANGES_MAX as u64).step_by(2) {
            seen.take(1, seq);
        }
        assert_eq!(seen.sees(1, 1), Sighting::CannotTell);
        assert_eq!(seen.sees(1, 2), Sighting::Counted);
        assert_eq!(seen.sees(1, 3), Sighting::New);
    }

    #[test]
    fn what_is_imported_or_undecided_is_no_sample_of_the_devices() {
        let mut seen = Seen::default();
        seen.record(&Record { kind: RecordKind::Imported, ..record(sample(1, 1)) }, START);
        assert!(seen.is_empty());
        seen.record(&Record { kind: RecordKind::Undecided, ..record(sample(1, 1)) }, START);
        assert_eq!(seen.sees(1, 1), Sighting::New);
        assert_eq!(seen.devices[&device()].state.undecided, 1);
    }

    #[test]
    fn a_row_that_is_none_is_refused() {
        let mut seen = Seen::default();
        seen.take(1, 3);
        let row = seen.row(device(), 1);
        assert!(Seen::default().restore(&row));
        let longer = [&row.state[..], &[0]].concat();
        for state in [&[][..], &[0, 0], &longer[..5], &longer] {
            assert!(!Seen::default().restore(&Row { state: state.to_vec(), ..row.clone() }), "{state:?}");
        }
        let closed = Some(vec![9]);
        assert!(!Seen::default().restore(&Row { closed, ..row }));
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
                if restarts.contains(&at) && seen.changed() > 0 {
                    seen = seen.restored();
                }
                match seen.sees(boot, seq) {
                    Sighting::New => prop_assert!(set.insert((boot, seq)), "{boot} {seq} is in the log"),
                    Sighting::Counted => prop_assert!(set.contains(&(boot, seq)), "{boot} {seq} is not in the log"),
                    Sighting::CannotTell => {
                        closed = true;
                        continue;
                    }
                }
                seen.take(boot, seq);
            }
            let boots: HashSet<_> = set.iter().map(|(boot, _)| boot).collect();
            prop_assert!(!closed || boots.len() > OPEN_BOOTS_MAX, "all could be known");
        }
    }
}
