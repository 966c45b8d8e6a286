//! What is seen of a device, sample by sample, against a plain set.

use std::collections::HashSet;

use super::*;
use crate::log::row::CLOSED_BOOTS_MAX;
use crate::model::TimeError;
use proptest::prelude::*;
use rollcall_wire::{BootId, Status};

mod model;

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
    fn see(&mut self, boot: u64, seq: u64) {
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
            let (ours, theirs) = (self.devices.get(&id).unwrap(), restored.devices.get(&id).unwrap());
            // One list that is empty now is written, so that the store forgets it too.
            let closed = ours.closed.as_deref().filter(|closed| !closed.is_empty());
            assert_eq!((&ours.state, closed), (&theirs.state, theirs.closed.as_deref()));
        }
        restored
    }
}

#[test]
fn the_newest_sample_first_leaves_the_older_ones_new() {
    let mut seen = Seen::default();
    for seq in std::iter::once(300).chain(0..300) {
        assert_eq!(seen.sees(1, seq), Sighting::New, "{seq}");
        seen.see(1, seq);
    }
    assert!((0..=300).all(|seq| seen.sees(1, seq) == Sighting::Counted));
    let range = SeqRange { first: 0, last: 300, first_at: START, last_at: record(sample(1, 300)).sampled_at };
    assert_eq!(seen.devices.get(&device()).unwrap().state.boots[0].ranges, [range]);
}

#[test]
fn a_jump_to_the_last_sequence_swallows_none_of_those_before() {
    let mut seen = Seen::default();
    seen.see(1, 9);
    seen.see(1, Sequence::MAX.get());
    assert_eq!(seen.sees(1, 10), Sighting::New);
    assert_eq!(seen.sees(1, 9), Sighting::Counted);
}

#[test]
fn the_ends_of_a_range_have_the_times_of_their_samples() {
    let mut seen = Seen::default();
    for seq in [5, 7, 6, 4, 9] {
        seen.see(1, seq);
    }
    let at = |seq| UnixMs(START.0 + seq);
    assert_eq!(
        seen.devices.get(&device()).unwrap().state.boots[0].ranges,
        [
            SeqRange { first: 4, last: 7, first_at: at(4), last_at: at(7) },
            SeqRange { first: 9, last: 9, first_at: at(9), last_at: at(9) },
        ]
    );
}

#[test]
fn a_boot_that_other_boots_have_closed_cannot_be_told_and_is_never_new_again() {
    let mut seen = Seen::default();
    seen.see(0, 7);
    for boot in 1..=(OPEN_BOOTS_MAX + 3) as u64 {
        assert_eq!(seen.sees(boot, 0), Sighting::New, "a new boot is always taken");
        seen.see(boot, 0);
    }
    assert_eq!(seen.sees(0, 7), Sighting::CannotTell);
    assert_eq!(seen.sees(0, 8), Sighting::CannotTell);
}

#[test]
fn a_boot_is_closed_through_more_boots_than_a_device_can_have_in_a_month_of_crashes() {
    let mut seen = Seen::default();
    for boot in 0..(OPEN_BOOTS_MAX + CLOSED_BOOTS_MAX) as u64 {
        seen.see(boot, 0);
    }
    assert_eq!(seen.sees(0, 0), Sighting::CannotTell);
    seen.see(u64::MAX, 0);
    assert_eq!(seen.sees(0, 0), Sighting::New, "the first to be closed is forgotten past the bound");
}

#[test]
fn boots_are_forgotten_30_days_of_log_time_after_their_last_sample_and_no_sooner() {
    let mut seen = Seen::default();
    for boot in 0..=OPEN_BOOTS_MAX as u64 {
        seen.see(boot, 0);
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
        seen.see(boot, 0);
    }
    seen.see(0, 1);
    seen.see(99, 0);
    assert_eq!(seen.sees(0, 1), Sighting::Counted);
    assert_eq!(seen.sees(1, 0), Sighting::CannotTell);
}

#[test]
fn past_the_bound_the_oldest_gap_is_closed_and_no_other() {
    let mut seen = Seen::default();
    for seq in (0..=2 * RANGES_MAX as u64).step_by(2) {
        seen.see(1, seq);
    }
    assert_eq!(seen.sees(1, 1), Sighting::CannotTell);
    assert_eq!(seen.sees(1, 2), Sighting::Counted);
    assert_eq!(seen.sees(1, 3), Sighting::New);
}

/// From when on it is known what is missing.
fn known_from(seen: &Seen) -> Option<UnixMs> {
    seen.devices.get(&device()).unwrap().state.known_from
}

#[test]
fn until_when_a_boot_had_samples_is_known_after_it_was_closed() {
    let mut seen = Seen::default();
    (1..=OPEN_BOOTS_MAX as u64).for_each(|boot| seen.see(boot, 50 + boot));
    seen.see(1, 7);
    assert_eq!(known_from(&seen), None);
    // The second was silent longest.
    seen.see(99, 0);
    assert_eq!(known_from(&seen), Some(UnixMs(START.0 + 52)));
}

#[test]
fn until_when_a_boot_had_samples_is_known_after_it_was_forgotten() {
    let mut seen = Seen::default();
    (1..=3).for_each(|boot| seen.see(boot, 50 + boot));
    let later = UnixMs(START.0 + BOOT_KEPT_MS + 1);
    seen.record(&record(sample(3, 9)), later);
    assert_eq!(known_from(&seen), None);
    seen.record(&record(sample(4, 0)), later);
    assert_eq!(known_from(&seen), Some(UnixMs(START.0 + 52)));
}

#[test]
fn where_a_gap_ended_is_known_after_it_was_closed_for_good() {
    let mut seen = Seen::default();
    for seq in (0..2 * RANGES_MAX as u64).step_by(2) {
        seen.see(1, seq);
    }
    assert_eq!(known_from(&seen), None);
    seen.see(1, 2 * RANGES_MAX as u64);
    assert_eq!(known_from(&seen), Some(UnixMs(START.0 + 2)));
}

#[test]
fn what_is_imported_or_undecided_is_no_sample_of_the_devices() {
    let mut seen = Seen::default();
    seen.record(&Record { kind: RecordKind::Imported, ..record(sample(1, 1)) }, START);
    assert!(seen.is_empty());
    seen.record(&Record { kind: RecordKind::Undecided, ..record(sample(1, 1)) }, START);
    assert_eq!(seen.sees(1, 1), Sighting::New);
    assert_eq!(seen.devices.get(&device()).unwrap().state.undecided, 1);
}

#[test]
fn a_row_that_is_none_is_refused() {
    let mut seen = Seen::default();
    seen.see(1, 3);
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
            seen.see(boot, seq);
        }
        let boots: HashSet<_> = set.iter().map(|(boot, _)| boot).collect();
        prop_assert!(!closed || boots.len() > OPEN_BOOTS_MAX, "all could be known");
    }
}
