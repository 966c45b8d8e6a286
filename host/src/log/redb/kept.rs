//! What a repair of a store keeps that has removed messages: it could not be made again from those that are left.
//!
//! These are the windows of days of which messages were removed, the rows of devices that can be read, and their windows.
//! Windows are copied as they stand, so that one that is damaged stays so and is named by whoever reads it; but the
//! hours of a day are made of its minutes where these add up to it, and a day of its hours. What is gone altogether is
//! noticed by sums and numbers, and then nothing is repaired: a backup has it.

use std::collections::BTreeMap;

use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError, Value, WriteTransaction,
};
use rollcall_wire::Slot;

use super::open::META;
use super::{WorkError, checkpoints, damage, device_windows, packed, rows, starts, windows};
use crate::log::rollup::Resolution;
use crate::log::start::Starts;
use crate::model::Counts;

/// In `meta` while a store is repaired: how many samples have to be in windows that hold what was packed before, and how
/// many are.
const EXPECTED: &str = "rebuild_expected";
const MADE: &str = "rebuild_made";

/// Copies it into a store whose log is there already.
pub(super) fn copy(from: &ReadTransaction, to: &WriteTransaction) -> Result<(), WorkError> {
    let starts = starts::all(from)?;
    // What is not where the packed entries end is no sum to go by.
    let made = |slot| {
        let made = checkpoints::read(from, slot).ok()?;
        (packed::upto(from, slot).ok()? == made.windows).then_some(made)
    };
    let made: Vec<_> = Slot::all().map(made).collect();
    let sum = copy_windows(from, to, &starts)?;
    let mut expected = Some(0);
    for (slot, made) in Slot::all().zip(&made) {
        let (devices, closed) = copy_rows(from, to, slot, made.as_ref().map(|made| made.closed))?;
        let device_windows = copy_device_windows(from, to, slot)?;
        checkpoints::update(to, slot, |progress| {
            progress.windows = starts[slot.index()].first;
            progress.rows = progress.windows;
            (progress.devices, progress.closed, progress.device_windows) = (devices, closed, device_windows);
            // It is the sum over all slots that has to be right.
            if slot.index() == 0 {
                progress.count(sum);
            }
            Ok(())
        })?;
        expected = expected.zip(made.as_ref()).map(|(sum, made)| sum + made.device_windows);
    }
    let there = rows::count(to, device_windows::TABLE)?;
    if expected.is_some_and(|expected| expected != there) {
        return Err(gone("the windows of devices"));
    }
    let total = made.iter().try_fold(0, |sum, made| Some(sum + made.as_ref()?.counts().total()));
    let mut meta = to.open_table(META)?;
    meta.insert(MADE, sum.total())?;
    if let Some(total) = total {
        meta.insert(EXPECTED, total)?;
    }
    Ok(())
}

fn gone(what: &str) -> WorkError {
    damage(format!("{what}, which cannot be made anew, for messages were removed"))
}

/// Copies the windows of days that lack messages; the sum of these days.
fn copy_windows(from: &ReadTransaction, to: &WriteTransaction, starts: &Starts) -> Result<Counts, WorkError> {
    let lacks = |start: u64| starts.iter().any(|slot| slot.lacks(start));
    for resolution in [Resolution::Minute, Resolution::Hour] {
        let mut new = to.open_table(windows::table(resolution))?;
        let Some(old) = opened(from, windows::table(resolution))? else { continue };
        for row in old.iter()? {
            let (start, stored) = row?;
            if lacks(start.value()) {
                new.insert(start.value(), stored.value())?;
            }
        }
    }
    let table = |resolution| opened(from, windows::table(resolution));
    let days = windows::days(table(Resolution::Hour)?, table(Resolution::Day)?)?;
    let mut new = to.open_table(windows::table(Resolution::Day))?;
    let mut sum = Counts::default();
    for (start, counts) in days.into_iter().filter(|(start, _)| lacks(*start)) {
        let counts = counts.ok_or_else(|| gone(&format!("the day at {start}")))?;
        sum += counts;
        set_hours_right(to, start, counts)?;
        new.insert(start, windows::seal_sum(Resolution::Day, start, counts).as_slice())?;
    }
    if sum == Counts::default() {
        return Err(gone("the windows of days"));
    }
    Ok(sum)
}

/// Makes the hours of a day that do not add up to it of its minutes, if these do.
fn set_hours_right(to: &WriteTransaction, day: u64, counts: Counts) -> Result<(), WorkError> {
    let day = day..day + Resolution::Day.seconds();
    let mut hours = to.open_table(windows::table(Resolution::Hour))?;
    let (mut stored, mut are_readable) = (Counts::default(), true);
    for row in hours.range(day.clone())? {
        let (start, hour) = row?;
        match windows::open_sum(Resolution::Hour, start.value(), hour.value()) {
            Ok(hour) => stored += hour,
            Err(_) => are_readable = false,
        }
    }
    if are_readable && stored == counts {
        return Ok(());
    }
    let mut made = BTreeMap::<u64, Counts>::new();
    let mut total = Counts::default();
    for row in to.open_table(windows::table(Resolution::Minute))?.range(day)? {
        let (start, minute) = row?;
        let start = start.value();
        let Ok(minute) = windows::open_minute_sum(start, minute.value()) else { return Ok(()) };
        total += minute;
        *made.entry(Resolution::Hour.window_start(start)).or_default() += minute;
    }
    if total == counts {
        for (start, hour) in made {
            hours.insert(start, windows::seal_sum(Resolution::Hour, start, hour).as_slice())?;
        }
    }
    Ok(())
}

/// Copies the rows of a slot that can be read; how many these are, and how many of them have closed boots. Where closed
/// boots are gone, only rows that have theirs are believed: the others may be without what they know.
fn copy_rows(
    from: &ReadTransaction,
    to: &WriteTransaction,
    slot: Slot,
    closed_expected: Option<u64>,
) -> Result<(u64, u64), WorkError> {
    let index = slot.index() as u8;
    let range = || (index, "")..(index + 1, "");
    let closed = opened(from, rows::CLOSED)?;
    let mut closed_there = 0;
    if let Some(closed) = &closed {
        for row in closed.range(range())? {
            row?;
            closed_there += 1;
        }
    }
    let are_all_there = closed_expected.is_none_or(|expected| expected == closed_there);
    let (mut devices, mut with_closed) = (0, 0);
    let (mut new, mut new_closed) = (to.open_table(rows::DEVICES)?, to.open_table(rows::CLOSED)?);
    let Some(old) = opened(from, rows::DEVICES)? else { return Ok((0, 0)) };
    for row in old.range(range())? {
        let (key, stored) = row?;
        let key = key.value();
        let boots = match &closed {
            Some(closed) => closed.get(key)?,
            None => None,
        };
        if !rows::is_readable(key.1, stored.value(), boots.as_ref().map(|boots| boots.value()))
            || boots.is_none() && !are_all_there
        {
            continue;
        }
        new.insert(key, stored.value())?;
        devices += 1;
        if let Some(boots) = boots {
            new_closed.insert(key, boots.value())?;
            with_closed += 1;
        }
    }
    Ok((devices, with_closed))
}

/// A table, unless it is gone with all that was in it.
fn opened<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, WorkError> {
    match from.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn copy_device_windows(from: &ReadTransaction, to: &WriteTransaction, slot: Slot) -> Result<u64, WorkError> {
    let index = slot.index() as u8;
    let table: TableDefinition<'_, device_windows::Key, &[u8]> = device_windows::TABLE;
    let mut new = to.open_table(table)?;
    let mut copied = 0;
    let Some(old) = opened(from, table)? else { return Ok(0) };
    for row in old.range((index, "", 0)..(index + 1, "", 0))? {
        let (key, stored) = row?;
        new.insert(key.value(), stored.value())?;
        copied += 1;
    }
    Ok(copied)
}

/// A chunk that was packed before is in the windows again.
pub(super) fn count(transaction: &WriteTransaction, samples: u64) -> Result<(), WorkError> {
    let mut meta = transaction.open_table(META)?;
    let made = meta.get(MADE)?.map(|made| made.value());
    if let Some(made) = made {
        meta.insert(MADE, made + samples)?;
    }
    Ok(())
}

/// A repair is at its end: are all samples in windows that were?
pub(super) fn end(transaction: &WriteTransaction) -> Result<(), WorkError> {
    let mut meta = transaction.open_table(META)?;
    let made = meta.remove(MADE)?.map(|made| made.value());
    let expected = meta.remove(EXPECTED)?.map(|expected| expected.value());
    if expected.is_none() || made == expected { Ok(()) } else { Err(gone("windows")) }
}
