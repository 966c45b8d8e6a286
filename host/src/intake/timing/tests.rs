use super::*;
use crate::model::RecordKind;
use proptest::prelude::*;
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Status};

/// When the device's clock started, by the host's two clocks.
const BOOT_AT: u64 = 1_700_000_000_000;
const BOOT_MS: i64 = 50_000;

/// A device whose messages are heard and dated.
struct Heard {
    timing: Timing,
    run: Option<RunId>,
    boot: u64,
}

/// A message: sampled at `up_ms` of the device's clock, sent `age_ms` later, and received `late_ms` after that.
#[derive(Clone, Copy, Debug)]
struct Sent {
    up_ms: u64,
    age_ms: u32,
    late_ms: i64,
    waited_s: Option<u32>,
    taken: Taken,
}

fn sent(up_ms: u64, late_ms: i64) -> Sent {
    Sent { up_ms, age_ms: 0, late_ms, waited_s: Some(0), taken: Taken::ThisRun }
}

impl Heard {
    fn new() -> Self {
        Self { timing: Timing::default(), run: None, boot: 7 }
    }

    fn message(&self, sent: Sent) -> (Record, ClockReading, Instant) {
        let Sent { up_ms, age_ms, late_ms, waited_s, taken } = sent;
        let sent_ms = (up_ms + u64::from(age_ms)).cast_signed();
        let received_ms = sent_ms + late_ms;
        let received_at = UnixMs(BOOT_AT.saturating_add_signed(received_ms));
        let before_ms = u64::from(age_ms) + 1000 * u64::from(waited_s.unwrap_or(0));
        let record = Record {
            device: DeviceId::new("porch").unwrap(),
            id: Some(SampleId { boot: BootId(self.boot), seq: Sequence::ZERO }),
            status: Status::new(3).unwrap(),
            kind: RecordKind::Sample,
            sampled_at: UnixMs(received_at.0 - before_ms),
            time_error: TimeError::Exact,
            received_at,
        };
        let reading = ClockReading { up_ms: sent_ms.cast_unsigned(), run: self.run, taken, age_ms, waited_s };
        let after_ms = BOOT_MS + received_ms;
        let received = if after_ms < 0 {
            self.timing.started - Duration::from_millis(after_ms.unsigned_abs())
        } else {
            self.timing.started + Duration::from_millis(after_ms.unsigned_abs())
        };
        (record, reading, received)
    }

    /// How late each is dated, in milliseconds, and how exactly that is known.
    fn dated(&mut self, batch: &[Sent]) -> Vec<(i64, TimeError)> {
        let messages: Vec<_> = batch.iter().map(|sent| self.message(*sent)).collect();
        for (record, reading, received) in &messages {
            self.timing.hear(record, reading, *received);
        }
        let date = |(mut record, reading, received): (Record, ClockReading, Instant), sent: &Sent| {
            self.timing.date(&mut record, &reading, received);
            (record.sampled_at.0.cast_signed() - (BOOT_AT + sent.up_ms).cast_signed(), record.time_error)
        };
        messages.into_iter().zip(batch).map(|(message, sent)| date(message, sent)).collect()
    }

    fn one(&mut self, sent: Sent) -> (i64, TimeError) {
        self.dated(&[sent])[0]
    }
}

/// A device that was heard for ten seconds, nothing held up.
fn heard() -> Heard {
    let mut heard = Heard::new();
    for second in 0..10 {
        heard.one(sent(second * 1000, 3));
    }
    heard
}

#[test]
fn what_a_freeze_held_up_is_dated_by_what_came_before_it() {
    let mut heard = heard();
    let held: Vec<_> =
        (10..24).map(|second| sent(second * 1000, (24 - second.cast_signed()) * 1000)).collect();
    assert!(heard.dated(&held).iter().all(|dated| *dated == (3, TimeError::Exact)), "{held:?}");
}

#[test]
fn what_comes_at_once_after_a_start_is_dated_by_the_last_of_it() {
    let mut heard = Heard::new();
    let held: Vec<_> =
        (0..14).map(|second| sent(second * 1000, (13 - second.cast_signed()) * 1000 + 40)).collect();
    assert!(heard.dated(&held).iter().all(|dated| *dated == (40, TimeError::Unknown)));
}

#[test]
fn nothing_is_known_until_two_messages_agree_that_did_not_come_at_once() {
    let mut heard = Heard::new();
    assert_eq!(heard.one(sent(0, 5)).1, TimeError::Unknown);
    assert_eq!(heard.one(sent(100, 0)).1, TimeError::Unknown, "it may have come with the first");
    assert_eq!(heard.one(sent(700, 200)), (0, TimeError::Exact));
    let mut apart = Heard::new();
    apart.one(sent(0, 5));
    assert_eq!(apart.one(sent(1000, 5000)), (5, TimeError::Unknown), "they do not agree");
}

#[test]
fn what_a_broker_held_is_known_to_a_second_until_a_message_comes_directly() {
    let mut heard = Heard::new();
    let held =
        |up_ms, late_ms: i64| Sent { waited_s: Some((late_ms / 1000) as u32 + 1), ..sent(up_ms, late_ms) };
    let backlog: Vec<_> =
        (0..20).map(|second| held(second * 1000, 90_250 - second.cast_signed() * 1000)).collect();
    for (late_ms, time_error) in heard.dated(&backlog) {
        assert_eq!(time_error, TimeError::OneSecond);
        assert!(late_ms.abs() <= 1000, "{late_ms}");
    }
    heard.one(sent(100_000, 10));
    assert_eq!(heard.one(sent(101_000, 10)), (10, TimeError::Exact));
    assert_eq!(heard.one(held(60_000, 55_300)), (10, TimeError::Exact));
}

#[test]
fn what_comes_at_once_from_a_broker_that_looks_at_a_clock_of_whole_seconds_is_known_to_a_second_at_most() {
    // As mosquitto: a wait of 1.7 s reads as one or two seconds.
    for phase_ms in [0, 265, 999] {
        let mut heard = Heard::new();
        let held = |late_ms: i64| Some(((phase_ms + late_ms) / 1000 - phase_ms / 1000) as u32);
        let backlog: Vec<_> = (0..14_u64)
            .map(|second| (second * 1000, 14_735 - second.cast_signed() * 1000))
            .map(|(up_ms, late_ms)| Sent { waited_s: held(late_ms), ..sent(up_ms, late_ms) })
            .collect();
        for (late_ms, time_error) in heard.dated(&backlog) {
            assert_eq!(time_error, TimeError::OneSecond);
            assert!(late_ms.abs() <= 1000, "{late_ms}");
        }
    }
}

#[test]
fn a_wait_that_all_other_messages_contradict_is_not_believed() {
    let mut heard = heard();
    let wrong = Sent { waited_s: Some(3_600), ..sent(10_000, 30) };
    assert_eq!(heard.one(wrong), (3, TimeError::Exact));
    assert_eq!(heard.one(sent(11_000, 30)), (3, TimeError::Exact), "it dates no other");
    let mut waiting = Heard::new();
    for second in 0..4 {
        waiting.one(Sent { waited_s: Some(10), ..sent(second * 1000, 9_500) });
    }
    let (late_ms, time_error) = waiting.one(Sent { waited_s: Some(3_600), ..sent(4_000, 9_500) });
    assert_eq!((late_ms, time_error), (9_500 - 3_600_000, TimeError::Unknown), "nobody knows which is wrong");
}

#[test]
fn what_two_late_messages_say_alike_by_chance_is_not_exact_when_a_wait_says_otherwise() {
    let mut heard = Heard::new();
    // Two that come again, six seconds late each; then what a broker held while it stood still.
    heard.one(sent(67_316, 6_540));
    heard.one(sent(69_317, 6_517));
    let held = |up_ms: u64, late_ms: i64| Sent {
        waited_s: Some((late_ms / 1000 + 1) as u32),
        ..sent(up_ms, late_ms)
    };
    for second in 0..10 {
        let (late_ms, time_error) =
            heard.one(held(70_315 + second * 1000, 20_011 - second.cast_signed() * 1000));
        assert!(
            time_error == TimeError::Unknown || late_ms.abs() <= 1_000,
            "{second}: {late_ms} {time_error:?}"
        );
    }
}

#[test]
fn an_expiry_interval_that_is_not_ours_says_nothing_of_a_wait() {
    let mut heard = heard();
    let foreign = Sent { waited_s: None, ..sent(10_000, 30) };
    assert_eq!(heard.one(foreign), (3, TimeError::Exact));
}

#[test]
fn a_sample_of_an_earlier_run_has_a_time_that_is_not_known() {
    let mut heard = heard();
    let restored = Sent { taken: Taken::EarlierRun, ..sent(10_000, 30) };
    assert_eq!(heard.one(restored), (3, TimeError::Unknown));
}

#[test]
fn each_run_of_a_boot_has_a_clock_of_its_own() {
    let mut heard = heard();
    heard.run = Some(RunId(9));
    assert_eq!(heard.one(sent(0, 40_000)), (40_000, TimeError::Unknown));
}

#[test]
fn a_clock_that_starts_again_under_the_same_name_is_found_out() {
    let mut heard = Heard::new();
    for second in 0..200 {
        heard.one(sent(second * 1000, 3));
    }
    // The same boot, and the clock begins at 0 again.
    let again = |second: u64| sent(second * 1000, 200_000);
    for second in 0..130 {
        heard.one(again(second));
    }
    assert_eq!(heard.one(again(130)), (200_000, TimeError::Exact));
}

#[test]
fn a_message_that_comes_again_late_makes_nothing_forgotten() {
    let mut heard = Heard::new();
    for second in 0..130 {
        heard.one(sent(second * 1000, if second == 125 { 3 } else { 200 }));
    }
    heard.one(sent(10_000, 120_000));
    for second in 130..140 {
        assert_eq!(heard.one(sent(second * 1000, 200)), (3, TimeError::Exact), "second {second}");
    }
}

#[test]
fn a_bound_from_long_ago_makes_nothing_exact() {
    // Once an hour, by a clock that loses 100 ppm: 360 ms.
    let mut heard = Heard::new();
    heard.one(sent(0, 3));
    heard.one(sent(1_000, 3));
    assert_eq!(heard.one(sent(3_600_000, 363)).1, TimeError::Exact);
    assert_eq!(heard.one(sent(7_200_000, 723)).1, TimeError::Unknown);
}

#[test]
fn readings_beyond_all_reason_leave_the_date_as_it_is() {
    let mut heard = Heard::new();
    let far = rollcall_wire::codec::UP_MAX_MS;
    let (record, reading, received) = heard.message(sent(1_000, 0));
    heard.timing.hear(&record, &ClockReading { up_ms: far, ..reading }, received);
    assert_eq!(heard.one(sent(2_000, 40)), (40, TimeError::Unknown));
    for second in 3..200 {
        heard.one(sent(second * 1000, 40));
    }
    assert_eq!(heard.one(sent(200_000, 40)), (40, TimeError::Exact), "it is forgotten");
}

#[test]
fn the_clocks_heard_last_are_kept_when_there_are_too_many() {
    let mut heard = Heard { timing: Timing::bounded(4), ..Heard::new() };
    for boot in 0..100 {
        for boot in [boot, 1_000] {
            heard.boot = boot;
            heard.one(sent(boot * 1000, 3));
        }
        assert!(heard.timing.recent.len() + heard.timing.older.len() <= 8);
    }
    heard.boot = 1_000;
    heard.one(sent(2_000_000, 3));
    assert_eq!(heard.one(sent(2_001_000, 3)), (3, TimeError::Exact));
}

proptest! {
    /// The one second is that by which a broker rounds up.
    #[test]
    fn no_sample_is_dated_before_it_was_taken_nor_later_than_its_arrival(
        lates in prop::collection::vec((0..9_000_i64, 0..3_u8), 1..200), drift_ppm in 0..100_i64,
    ) {
        let mut heard = Heard::new();
        for (second, (late_ms, kind)) in (0_u64..).zip(lates) {
            let up_ms = second * 1000;
            // A clock that is fast, so that bounds fall: the newest is the best.
            let late_ms = late_ms - up_ms.cast_signed() * drift_ppm / 1_000_000;
            let waited_s = if kind == 0 { Some((late_ms.max(0) / 1000) as u32 + 1) } else { Some(0) };
            let (dated_late_ms, _) = heard.one(Sent { waited_s, ..sent(up_ms, late_ms) });
            prop_assert!((-1_020..=late_ms.max(0)).contains(&dated_late_ms), "{dated_late_ms} {late_ms}");
        }
    }
}
