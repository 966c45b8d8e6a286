use std::convert::Infallible;

use super::*;
use proptest::prelude::*;

/// Of some hour in 2024.
const FIRST_MINUTE: u32 = 28_690_560;

fn one() -> Counts {
    Counts { statuses: [1, 0, 0, 0, 0, 0, 0], ..Counts::default() }
}

/// As many samples, so many minutes apart, as a row has until it seals them.
fn sealed(minutes_apart: u32) -> Sealed {
    let (mut minutes, mut at) = (Minutes::default(), FIRST_MINUTE);
    while minutes.len() < SEAL_BYTES {
        minutes.add(at, &one());
        at += minutes_apart;
    }
    Sealed::new(7, minutes)
}

fn windows(sealed: &Sealed) -> Vec<DeviceWindow> {
    let Ok(windows) = moved(std::slice::from_ref(sealed), |_| Ok::<_, Infallible>(None));
    windows
}

#[test]
fn few_samples_an_hour_are_kept_by_day_and_many_by_hour() {
    let is_hour = |window: &DeviceWindow| matches!(window.span, Span::Hour(_));
    // Of one that sends once a day, windows of a day would not be fewer.
    for minutes_apart in [1, 2, 1440] {
        let windows = windows(&sealed(minutes_apart));
        assert!(windows.iter().all(is_hour), "{minutes_apart} {windows:?}");
    }
    for minutes_apart in [5, 30, 60] {
        let windows = windows(&sealed(minutes_apart));
        assert!(!windows.iter().any(is_hour), "{minutes_apart} {windows:?}");
        let days: BTreeSet<_> = windows.iter().map(|window| window.span).collect();
        assert_eq!(days.len(), windows.len());
    }
}

#[test]
fn samples_of_times_that_are_made_up_rewrite_no_long_windows() {
    let mut random = rollcall_harness::random();
    let mut minutes = Minutes::default();
    while minutes.len() < SEAL_BYTES {
        minutes.add(FIRST_MINUTE + random.u32(..30 * DAY_MINUTES), &one());
    }
    let windows = windows(&Sealed::new(7, minutes));
    assert!(windows.iter().all(|window| matches!(window.span, Span::Hour(_))), "{windows:?}");
}

#[test]
fn what_an_older_version_has_sealed_goes_into_hours() {
    let by_day = sealed(30);
    let older = postcard::to_allocvec(&(by_day.below, &by_day.minutes)).unwrap();
    let older: Sealed = postcard::from_bytes(&older).unwrap();
    assert_eq!((older.below, &older.minutes), (by_day.below, &by_day.minutes));
    assert!(windows(&older).iter().all(|window| matches!(window.span, Span::Hour(_))));
}

proptest! {
    #[test]
    fn what_is_sealed_comes_back_and_its_windows_are_found_by_hours(
        below in 1..1_u64 << 40,
        samples in prop::collection::vec(prop_oneof![FIRST_MINUTE..FIRST_MINUTE + 5_000, any::<u32>()], 1..80),
        late in prop::sample::select(&[0, 1, 40, 80][..]),
        wanted in (0..=u32::MAX / 60, 0..200_u32),
    ) {
        let mut minutes = Minutes::default();
        for (nth, at) in (0..).zip(&samples) {
            minutes.add(*at, &Counts { late: u64::from(nth < late), ..one() });
        }
        let sealed = Sealed::new(below, minutes);
        let stored = postcard::to_allocvec(&sealed).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<Sealed>(&stored).unwrap(), &sealed);
        let windows = windows(&sealed);
        let (mut found, mut found_late) = (Vec::<u32>::new(), 0);
        for window in &windows {
            let span = Span::of_number(window.span.number());
            prop_assert_eq!(span, window.span);
            prop_assert_eq!(DeviceWindow::from_bytes(span, &window.to_bytes()), Some(window.clone()));
            found_late += window.minutes.iter().map(|(_, counts)| counts.late).sum::<u64>();
            for (minute, counts) in window.minutes.iter() {
                let at = span.start() + minute;
                found.extend((0..counts.statuses[0]).map(|_| at));
                // Whoever asks for its hour reads it.
                let hour = at / HOUR_MINUTES;
                let numbers = Span::numbers(&(hour..hour + 1));
                prop_assert!(numbers.iter().any(|numbers| numbers.contains(&span.number())));
            }
        }
        found.sort_unstable();
        let mut samples = samples;
        samples.sort_unstable();
        prop_assert_eq!(found_late, late.min(samples.len() as u64));
        prop_assert_eq!(found, samples);
        let (first, count) = wanted;
        let [hours, days] = Span::numbers(&(first..first.saturating_add(count)));
        prop_assert!(hours.end <= days.start);
    }

    #[test]
    fn any_bytes_are_a_window_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60), number in any::<u32>()) {
        let span = Span::of_number(number);
        if let Some(window) = DeviceWindow::from_bytes(span, &bytes) {
            prop_assert!(window.minutes.iter().all(|(minute, _)| span.start().checked_add(minute).is_some()));
            // What is common may be told otherwise, and is the same.
            prop_assert_eq!(DeviceWindow::from_bytes(span, &window.to_bytes()), Some(window));
        }
    }
}
