//! The windows: rows that are added to when a chunk is rolled up, and summed up for a plan.
//!
//! A checksum shows that a row was changed, not that it is gone. So no row is believed alone: the minutes of an
//! hour have to add up to it, the hours of a day to the day, and all days to what the checkpoints say.

use std::collections::BTreeMap;
use std::ops::Range;

use redb::{AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use rollcall_wire::Slot;

use super::{WorkError, checkpoints, damage, sealed};
use crate::log::plan::{Plan, Upto, Window};
use crate::log::rollup::{self, Resolution};
use crate::log::{WindowRow, codec};
use crate::model::{self, BySecond, Counts, UnixMs};

/// start in Unix seconds → the window.
pub(super) type Table = TableDefinition<'static, u64, &'static [u8]>;

pub(super) const fn name(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Minute => "window_minutes",
        Resolution::Hour => "window_hours",
        Resolution::Day => "window_days",
    }
}

pub(super) fn table(resolution: Resolution) -> Table {
    TableDefinition::new(name(resolution))
}

/// Makes the tables, so that readers find them.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
        transaction.open_table(table(resolution))?;
    }
    Ok(())
}

/// Adds a chunk's samples to every window that they lie in, but to hours and minutes that are damaged: these stay so, for
/// whoever reads them to hear of, and do not keep others from being stored.
pub(super) fn add(transaction: &WriteTransaction, added: &BySecond) -> Result<(), WorkError> {
    add_minutes(transaction, added)?;
    for resolution in [Resolution::Hour, Resolution::Day] {
        let mut table = transaction.open_table(table(resolution))?;
        for (start, counts) in rollup::windows(added, resolution) {
            let stored = table.get(start)?.map(|stored| open_sum(resolution, start, stored.value()));
            let mut sum = match stored.transpose() {
                Err(_) if resolution == Resolution::Hour => {
                    skipped(resolution, start);
                    continue;
                }
                stored => stored?.unwrap_or_default(),
            };
            sum += counts;
            table.insert(start, seal_sum(resolution, start, sum).as_slice())?;
        }
    }
    Ok(())
}

fn add_minutes(transaction: &WriteTransaction, added: &BySecond) -> Result<(), WorkError> {
    let mut table = transaction.open_table(table(Resolution::Minute))?;
    for start in rollup::windows(added, Resolution::Minute).into_keys() {
        let stored = table.get(start)?.map(|stored| open_minute(start, stored.value()));
        let Ok(stored) = stored.transpose() else {
            skipped(Resolution::Minute, start);
            continue;
        };
        let mut minute = stored.unwrap_or_default();
        for (second, counts) in added.range(start..start + Resolution::Minute.seconds()) {
            *minute.entry(*second).or_default() += *counts;
        }
        table
            .insert(start, seal(Resolution::Minute, start, codec::minute_bytes(start, &minute)).as_slice())?;
    }
    Ok(())
}

fn skipped(resolution: Resolution, start: u64) {
    let (table, at) = (name(resolution), UnixMs(start.saturating_mul(1000)).to_rfc3339());
    tracing::warn!("{table} at {at}: damaged, and not added to: rollcall doctor");
}

/// Do the days add up to what was rolled up?
pub(super) fn check(transaction: &ReadTransaction) -> Result<(), WorkError> {
    let mut expected = Counts::default();
    for slot in Slot::all() {
        expected += checkpoints::read(transaction, slot)?.counts();
    }
    let mut sum = Counts::default();
    for row in transaction.open_table(table(Resolution::Day))?.range::<u64>(..)? {
        let (start, stored) = row?;
        sum += open_sum(Resolution::Day, start.value(), stored.value())?;
    }
    if sum == expected { Ok(()) } else { Err(damage("the days do not add up to what was stored".into())) }
}

/// The days, each as it is stored, or if that is damaged or gone, as its hours add up; `None` where one of these is damaged
/// too.
pub(super) fn days(
    hours: Option<ReadOnlyTable<u64, &'static [u8]>>,
    stored_days: Option<ReadOnlyTable<u64, &'static [u8]>>,
) -> Result<BTreeMap<u64, Option<Counts>>, WorkError> {
    let rows = |table: Option<ReadOnlyTable<u64, &'static [u8]>>| {
        table.map_or(Ok(Vec::new()), |table| table.range::<u64>(..)?.collect::<Result<Vec<_>, _>>())
    };
    let mut days = BTreeMap::<u64, Option<Counts>>::new();
    for (start, stored) in rows(hours)? {
        let start = start.value();
        let day = days.entry(Resolution::Day.window_start(start)).or_insert(Some(Counts::default()));
        match (day.as_mut(), open_sum(Resolution::Hour, start, stored.value())) {
            (Some(sum), Ok(hour)) => *sum += hour,
            _ => *day = None,
        }
    }
    for (start, stored) in rows(stored_days)? {
        if let Ok(day) = open_sum(Resolution::Day, start.value(), stored.value()) {
            days.insert(start.value(), Some(day));
        }
    }
    Ok(days)
}

/// The windows that start at `from` or later, in order, `limit` at most. They do not say which entries they hold.
pub(super) fn list(
    transaction: &ReadTransaction,
    resolution: Resolution,
    from: u64,
    limit: usize,
) -> Result<Vec<WindowRow>, WorkError> {
    let table = transaction.open_table(table(resolution))?;
    let row = |row: Result<(AccessGuard<'_, u64>, AccessGuard<'_, &[u8]>), _>| {
        let (start, stored) = row?;
        let start = start.value();
        let (counts, seconds) = match resolution {
            Resolution::Minute => {
                let seconds = open_minute(start, stored.value())?;
                (model::sum(&seconds, 0..u64::MAX), seconds)
            }
            Resolution::Hour | Resolution::Day => {
                (open_sum(resolution, start, stored.value())?, BySecond::new())
            }
        };
        Ok(WindowRow { start, counts, parts: seconds, upto: [0; Slot::COUNT] })
    };
    table.range(from..)?.take(limit).map(row).collect()
}

/// The windows of a plan, in order of time. Each holds the entries below `upto`.
pub(super) fn read(transaction: &ReadTransaction, plan: &Plan, upto: Upto) -> Result<Vec<Window>, WorkError> {
    let mut reader = Reader::new(transaction)?;
    let mut windows = Vec::new();
    let mut add = |range, counts| windows.push(Window { range, counts, upto });
    for (resolution, range) in &plan.whole {
        match resolution {
            Resolution::Minute => reader.minutes(plan, range, &mut add)?,
            Resolution::Hour => reader.hours(range, &mut add)?,
            Resolution::Day => reader.days(range, &mut add)?,
        }
    }
    for edge in &plan.edges {
        reader.minutes(plan, edge, &mut add)?;
    }
    windows.sort_by_key(|window| window.range.start);
    Ok(windows)
}

/// Reads windows, each after a look at the one that it is a part of.
struct Reader {
    minutes: ReadOnlyTable<u64, &'static [u8]>,
    hours: ReadOnlyTable<u64, &'static [u8]>,
    days: ReadOnlyTable<u64, &'static [u8]>,
    /// The hours of the days that were looked at.
    known_hours: BTreeMap<u64, Vec<(u64, Counts)>>,
    /// The minutes of the hour that was looked at last, and which one that is.
    known_minutes: (Option<u64>, Vec<(u64, Counts)>),
}

impl Reader {
    fn new(transaction: &ReadTransaction) -> Result<Self, WorkError> {
        Ok(Self {
            minutes: transaction.open_table(table(Resolution::Minute))?,
            hours: transaction.open_table(table(Resolution::Hour))?,
            days: transaction.open_table(table(Resolution::Day))?,
            known_hours: BTreeMap::new(),
            known_minutes: (None, Vec::new()),
        })
    }

    fn days(&self, range: &Range<u64>, add: &mut impl FnMut(Range<u64>, Counts)) -> Result<(), WorkError> {
        for row in self.days.range(range.clone())? {
            let (start, stored) = row?;
            let start = start.value();
            let counts = open_sum(Resolution::Day, start, stored.value())?;
            add(start..start + Resolution::Day.seconds(), counts);
        }
        Ok(())
    }

    fn hours(
        &mut self,
        range: &Range<u64>,
        add: &mut impl FnMut(Range<u64>, Counts),
    ) -> Result<(), WorkError> {
        for day in starts(range, Resolution::Day) {
            for (start, counts) in self.hours_of(day)?.iter().filter(|(start, _)| range.contains(start)) {
                add(*start..start + Resolution::Hour.seconds(), *counts);
            }
        }
        Ok(())
    }

    /// The minutes that `range` touches, each clipped to it and cut at the plan's steps.
    fn minutes(
        &mut self,
        plan: &Plan,
        range: &Range<u64>,
        add: &mut impl FnMut(Range<u64>, Counts),
    ) -> Result<(), WorkError> {
        let first = Resolution::Minute.window_start(range.start);
        for hour in starts(range, Resolution::Hour) {
            self.look_at_minutes_of(hour)?;
            let touched = first..range.end;
            for (start, sum) in self.known_minutes.1.iter().filter(|(start, _)| touched.contains(start)) {
                let whole = *start..start + Resolution::Minute.seconds();
                let clipped = range.start.max(whole.start)..range.end.min(whole.end);
                if plan.cut(clipped.clone()).next().as_ref() == Some(&whole) {
                    add(whole, *sum);
                    continue;
                }
                let Some(stored) = self.minutes.get(start)? else { continue };
                let seconds = open_minute(*start, stored.value())?;
                for part in plan.cut(clipped) {
                    add(part.clone(), model::sum(&seconds, part));
                }
            }
        }
        Ok(())
    }

    fn hours_of(&mut self, day: u64) -> Result<&[(u64, Counts)], WorkError> {
        if !self.known_hours.contains_key(&day) {
            let expected = match self.days.get(day)? {
                Some(stored) => open_sum(Resolution::Day, day, stored.value())?,
                None => Counts::default(),
            };
            let (mut hours, mut sum) = (Vec::new(), Counts::default());
            for row in self.hours.range(day..day + Resolution::Day.seconds())? {
                let (start, stored) = row?;
                let counts = open_sum(Resolution::Hour, start.value(), stored.value())?;
                sum += counts;
                hours.push((start.value(), counts));
            }
            if sum != expected {
                return Err(damage(format!("the day at {day} does not agree with its hours")));
            }
            self.known_hours.insert(day, hours);
        }
        Ok(&self.known_hours[&day])
    }

    /// Makes its minutes known.
    fn look_at_minutes_of(&mut self, hour: u64) -> Result<(), WorkError> {
        if self.known_minutes.0 == Some(hour) {
            return Ok(());
        }
        let hours = self.hours_of(Resolution::Day.window_start(hour))?;
        let expected =
            hours.iter().find(|(start, _)| *start == hour).map_or(Counts::default(), |(_, sum)| *sum);
        let (mut minutes, mut sum) = (Vec::new(), Counts::default());
        for row in self.minutes.range(hour..hour + Resolution::Hour.seconds())? {
            let (start, stored) = row?;
            let minute = open_minute_sum(start.value(), stored.value())?;
            sum += minute;
            minutes.push((start.value(), minute));
        }
        if sum != expected {
            return Err(damage(format!("the hour at {hour} does not agree with its minutes")));
        }
        self.known_minutes = (Some(hour), minutes);
        Ok(())
    }
}

/// The starts of the windows that a range touches.
fn starts(range: &Range<u64>, resolution: Resolution) -> impl Iterator<Item = u64> + use<> {
    (resolution.window_start(range.start)..range.end).step_by(resolution.seconds() as usize)
}

fn seal(resolution: Resolution, start: u64, bytes: Vec<u8>) -> Vec<u8> {
    sealed::seal(name(resolution), &start.to_le_bytes(), bytes)
}

pub(super) fn seal_sum(resolution: Resolution, start: u64, sum: Counts) -> Vec<u8> {
    let numbers = codec::numbers(&sum);
    let bytes = postcard::to_allocvec(&numbers).expect("plain data always serialises into memory");
    seal(resolution, start, bytes)
}

fn open(resolution: Resolution, start: u64, stored: &[u8]) -> Result<&[u8], WorkError> {
    sealed::open(name(resolution), &start.to_le_bytes(), stored)
        .ok_or_else(|| damage(format!("{} at {start}", name(resolution))))
}

fn open_minute(start: u64, stored: &[u8]) -> Result<BySecond, WorkError> {
    codec::minute(start, open(Resolution::Minute, start, stored)?).map_err(super::packed::unreadable)
}

pub(super) fn open_minute_sum(start: u64, stored: &[u8]) -> Result<Counts, WorkError> {
    codec::minute_sum(start, open(Resolution::Minute, start, stored)?).map_err(super::packed::unreadable)
}

pub(super) fn open_sum(resolution: Resolution, start: u64, stored: &[u8]) -> Result<Counts, WorkError> {
    let sum = postcard::from_bytes(open(resolution, start, stored)?);
    sum.map(|sum| codec::counts(&sum)).map_err(|_| damage(format!("{} at {start}", name(resolution))))
}
