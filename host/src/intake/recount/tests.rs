//! A store that goes on between any two looks at it, as MongoDB does beside an ingest.

use std::collections::BTreeMap;
use std::convert::Infallible;

use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Status};

use super::*;
use crate::intake::seen::Seen;
use crate::log::devices::{DeviceView, DeviceWindow, Span, moved};
use crate::log::plan::Upto;
use crate::log::row::Row;
use crate::log::start::Starts;
use crate::log::{Checkpoint, Checkpoints, WindowRow};
use crate::model::{BySecond, Counts, Entry, Record, RecordKind, TimeError, UnixMs, WriterId};
use crate::ops::check::{Outcome, Report};
use tokio::sync::mpsc;

const RESOLUTIONS: [Resolution; 3] = [Resolution::Minute, Resolution::Hour, Resolution::Day];

/// Where the samples' times begin, and how many seconds they reach.
const START_S: u64 = 1_721_433_677;
const SPAN_S: u64 = 3 * 86_400;

/// One slot that is written while it is looked at.
struct Beside {
    random: fastrand::Rng,
    slot: Slot,
    log: Vec<Entry>,
    windows: BTreeMap<(Resolution, u64), WindowRow>,
    rows: BTreeMap<DeviceId, Row>,
    device_windows: BTreeMap<(DeviceId, Span), DeviceWindow>,
    /// Windows of devices that rows have been stored for.
    moving: Vec<(DeviceId, DeviceWindow)>,
    checkpoint: Checkpoint,
    /// How many lengths of windows have the next chunk already.
    rolled: usize,
    seen: Seen,
    /// Devices whose rows are to be written, and where their checkpoint will be.
    sweep: Option<(Vec<DeviceId>, u64)>,
    /// The most steps between two looks.
    steps: usize,
    /// Can its log not be reached?
    away: bool,
}

impl Beside {
    fn new(random: fastrand::Rng, steps: usize) -> Self {
        Self {
            random,
            slot: Slot::new(5).unwrap(),
            log: Vec::new(),
            windows: BTreeMap::new(),
            rows: BTreeMap::new(),
            device_windows: BTreeMap::new(),
            moving: Vec::new(),
            checkpoint: Checkpoint::default(),
            rolled: 0,
            seen: Seen::default(),
            sweep: None,
            steps,
            away: false,
        }
    }

    fn go_on(&mut self) {
        for _ in 0..self.random.usize(..=self.steps) {
            match self.random.u8(..4) {
                0 | 1 => (0..3).for_each(|_| self.append()),
                2 => self.roll(),
                _ => self.write_rows(),
            }
        }
    }

    fn append(&mut self) {
        let number = self.log.len() as u64;
        let random = &mut self.random;
        let records = (0..random.u64(..5)).map(|place| Record {
            device: DeviceId::new(&format!("device-{}", random.u8(..9))).unwrap(),
            id: Some(SampleId {
                boot: BootId(random.u64(..3)),
                seq: Sequence::new(number * 5 + place).unwrap(),
            }),
            status: Status::new(random.u8(..7)).unwrap(),
            kind: random.choice([RecordKind::Sample, RecordKind::Undecided]).unwrap(),
            sampled_at: UnixMs((START_S + random.u64(..SPAN_S)) * 1000),
            time_error: random.choice([TimeError::Exact, TimeError::OneSecond, TimeError::Unknown]).unwrap(),
            received_at: UnixMs(START_S * 1000 + number),
        });
        let log_time = UnixMs(START_S * 1000 + number);
        let entry = Entry {
            slot: self.slot,
            number,
            writer: WriterId::NOBODY,
            received_at: log_time,
            log_time,
            records: records.collect(),
        };
        self.seen.take(&entry, |_| true);
        self.log.push(entry);
    }

    /// One length of windows after the other gets the next chunk, and then its checkpoint moves.
    fn roll(&mut self) {
        let start = self.checkpoint.windows as usize;
        let Some(chunk) = self.log.get(start..start + READ_ENTRIES) else { return };
        let end = self.checkpoint.windows + READ_ENTRIES as u64;
        let Some(resolution) = RESOLUTIONS.get(self.rolled) else {
            (self.checkpoint.windows, self.rolled) = (end, 0);
            return;
        };
        self.rolled += 1;
        for entry in chunk {
            for (second, counts) in entry.counts() {
                let start = resolution.window_start(second);
                let new = WindowRow {
                    start,
                    counts: Counts::default(),
                    parts: BySecond::new(),
                    upto: Upto::default(),
                };
                let window = self.windows.entry((*resolution, start)).or_insert(new);
                window.counts += counts;
                window.upto[self.slot.index()] = end;
                let part = match resolution {
                    Resolution::Minute => second,
                    // As an earlier version wrote every other hour.
                    Resolution::Hour if start / 3600 % 2 == 0 => Resolution::Minute.window_start(second),
                    _ => continue,
                };
                *window.parts.entry(part).or_default() += counts;
            }
        }
    }

    /// A sweep begins, or some of its rows are written, or one of their windows; with the last of them, the checkpoint moves.
    fn write_rows(&mut self) {
        if let Some((device, window)) = self.moving.pop() {
            self.device_windows.insert((device, window.span), window);
            if self.moving.iter().all(|(of, _)| *of != device) {
                self.seen.moved(&device, self.rows[&device].upto);
            }
            return;
        }
        let upto = self.log.len() as u64;
        let (mut devices, checkpoint) = self.sweep.take().unwrap_or_else(|| (self.seen.take_changed(), upto));
        for device in devices.split_off(devices.len().saturating_sub(2)) {
            let row = self.seen.row(device, upto);
            let stored = |span| Ok::<_, Infallible>(self.device_windows.get(&(device, span)).cloned());
            let Ok(moved) = moved(&row.sealed, stored);
            self.moving.extend(moved.into_iter().map(|window| (device, window)));
            self.rows.insert(device, row);
        }
        if devices.is_empty() {
            self.checkpoint.rows = checkpoint;
        } else {
            self.sweep = Some((devices, checkpoint));
        }
    }
}

impl Snapshot for Beside {
    fn starts(&mut self) -> Result<Starts, StoreError> {
        Ok(Starts::default())
    }

    fn checkpoints(&mut self) -> Result<Checkpoints, StoreError> {
        self.go_on();
        let mut checkpoints = Checkpoints::default();
        checkpoints[self.slot.index()] = self.checkpoint;
        Ok(checkpoints)
    }

    fn windows(
        &mut self,
        resolution: Resolution,
        from: u64,
        limit: usize,
    ) -> Result<Vec<WindowRow>, StoreError> {
        self.go_on();
        let windows = self.windows.range((resolution, from)..=(resolution, u64::MAX));
        Ok(windows.take(limit).map(|(_, window)| window.clone()).collect())
    }

    fn rows(&mut self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.go_on();
        let rows = self.rows.values().filter(|row| slot == self.slot && Some(row.device) > after);
        Ok(rows.take(limit).cloned().collect())
    }

    fn device_windows(
        &mut self,
        slot: Slot,
        from: Option<(DeviceId, Span)>,
        limit: usize,
    ) -> Result<Vec<(DeviceId, DeviceWindow)>, StoreError> {
        self.go_on();
        let windows = self.device_windows.iter().filter(|(key, _)| slot == self.slot && Some(**key) >= from);
        Ok(windows.take(limit).map(|((device, _), window)| (*device, window.clone())).collect())
    }

    fn device(&mut self, device: DeviceId) -> Result<DeviceView, StoreError> {
        let row = self.rows.get(&device).cloned();
        self.go_on();
        let windows = self.device_windows.iter().filter(|((of, _), _)| *of == device);
        Ok(DeviceView { row, windows: windows.map(|(_, window)| window.clone()).collect() })
    }

    fn read(&mut self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        if self.away {
            return Err(StoreError::Unavailable("no answer".to_owned()));
        }
        self.go_on();
        let from = if slot == self.slot {
            self.log.partition_point(|entry| entry.number < from)
        } else {
            usize::MAX
        };
        let entries = self.log.get(from..).unwrap_or_default().iter();
        Ok(entries.take(limit).map(|entry| Logged { entry: entry.clone(), counts: entry.counts() }).collect())
    }
}

/// What is wrong, and how many checks there were.
fn looked(snapshot: &mut dyn Snapshot) -> (Vec<String>, usize) {
    let (sender, mut reports) = mpsc::channel(1000);
    recount(snapshot, &mut Reporter::new(sender)).unwrap();
    let (mut wrong, mut checks) = (Vec::new(), 0);
    while let Ok(report) = reports.try_recv() {
        if let Report::Check(check) = report {
            checks += 1;
            wrong.extend((check.outcome != Outcome::Pass).then_some(check.found));
        }
    }
    (wrong, checks)
}

#[test]
fn a_store_that_goes_on_meanwhile_is_never_said_to_be_wrong() {
    let mut random = rollcall_harness::random();
    for _ in 0..8 {
        let mut beside = Beside::new(random.fork(), 12);
        for _ in 0..5 {
            assert_eq!(looked(&mut beside), (vec![], 4));
        }
        assert!(beside.checkpoint.windows > 0 && beside.checkpoint.rows > 0, "nothing was made from the log");
        assert!(!beside.device_windows.is_empty(), "nothing was sealed");
    }
}

/// Changes something that is made from the log: in which words it is named.
fn spoil(beside: &mut Beside) -> String {
    let random = &mut beside.random;
    if random.u8(..3) == 0
        && let Some((device, span)) = random.choice(beside.device_windows.keys().copied().collect::<Vec<_>>())
    {
        // What its row has too is not gone.
        if beside.rows.get(&device).is_some_and(|row| row.sealed.is_empty()) {
            beside.device_windows.remove(&(device, span));
        } else {
            let one = Counts { one_second: 1, ..Counts::default() };
            beside.device_windows.get_mut(&(device, span)).unwrap().minutes.add(7, &one);
        }
        // To the hour, or to the day.
        let shown = if matches!(span, Span::Hour(_)) { 13 } else { 10 };
        let at = UnixMs(u64::from(span.start()) * 60_000).to_rfc3339();
        return format!("device {device}: the minute at {}", &at[..shown]);
    }
    if random.bool() {
        let at = random.usize(..beside.windows.len());
        let ((resolution, start), window) = beside.windows.iter_mut().nth(at).unwrap();
        let status = random.usize(..7);
        let part = window.parts.iter_mut().next().filter(|_| random.bool());
        let minute = part.as_ref().map(|(minute, _)| UnixMs(**minute * 1000).to_rfc3339());
        part.map_or(&mut window.counts, |(_, part)| part).statuses[status] += 1;
        let at = UnixMs(start * 1000).to_rfc3339();
        return match resolution {
            Resolution::Hour if minute.is_some() => format!("the minute at {}, in its hour", minute.unwrap()),
            // Or one of its seconds.
            Resolution::Minute => at[..16].to_owned(),
            Resolution::Hour => format!("the hour at {at}"),
            Resolution::Day => format!("the day at {at}"),
        };
    }
    let at = random.usize(..beside.rows.len());
    let device = *beside.rows.keys().nth(at).unwrap();
    let row = beside.rows.get_mut(&device).unwrap();
    // Without its row, a device that was heard after the checkpoint is one whose row is not written yet.
    if random.bool() && row.upto <= beside.checkpoint.rows {
        beside.rows.remove(&device);
    } else {
        let mut state = crate::log::row::DeviceState::from_bytes(&row.state).unwrap();
        state.undecided += 1;
        row.state = state.to_bytes();
    }
    format!("device {device}")
}

#[test]
fn whatever_is_not_as_the_log_says_is_named() {
    let mut random = rollcall_harness::random();
    for _ in 0..100 {
        let mut beside = Beside::new(random.fork(), 60);
        while beside.checkpoint.windows == 0 || beside.checkpoint.rows == 0 {
            beside.go_on();
        }
        // So that it does not make good a row that was spoilt.
        beside.steps = 0;
        let what = spoil(&mut beside);
        let (wrong, _) = looked(&mut beside);
        // An hour has many minutes, and a day.
        let named = wrong.iter().filter(|wrong| wrong.contains(&what)).count();
        assert!(named > 0 && wrong.len() <= named + usize::from(named > 9), "{what}: {wrong:?}");
    }
}

#[test]
fn a_log_with_a_gap_or_an_early_end_is_named_and_windows_are_not_compared_with_it() {
    for gap in [true, false] {
        let mut beside = Beside::new(rollcall_harness::random(), 60);
        while beside.checkpoint.windows == 0 {
            beside.go_on();
        }
        beside.steps = 0;
        if gap {
            beside.log.remove(7);
        } else {
            beside.log.truncate(50);
        }
        let (wrong, checks) = looked(&mut beside);
        let what = if gap { "entry 7 of slot 5 is gone" } else { "the log of slot 5 ends at 50" };
        assert!(wrong[0].contains(what) && wrong[1].contains("not readable"), "{wrong:?}");
        assert_eq!((wrong.len(), checks), (2, 4));
    }
}

#[test]
fn many_differences_are_counted_and_a_few_written_out() {
    let mut beside = Beside::new(rollcall_harness::random(), 60);
    while beside.checkpoint.windows == 0 {
        beside.go_on();
    }
    beside.steps = 0;
    beside.windows.values_mut().for_each(|window| window.counts.unknown += 1);
    let (wrong, _) = looked(&mut beside);
    assert_eq!(wrong.len(), 12, "{wrong:?}");
    assert!(wrong[10].starts_with("and ") && wrong[10].ends_with(" more"), "{wrong:?}");
    assert!(wrong[11].ends_with(" more days have windows that differ"), "{wrong:?}");
}

#[test]
fn a_store_that_goes_away_is_no_difference() {
    let mut beside = Beside::new(rollcall_harness::random(), 60);
    while beside.checkpoint.windows == 0 {
        beside.go_on();
    }
    beside.away = true;
    let (wrong, checks) = looked(&mut beside);
    assert!(wrong.len() == 1 && wrong[0].starts_with("it was not looked at to the end"), "{wrong:?}");
    assert_eq!(checks, 1);
}
