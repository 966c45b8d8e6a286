//! What is made from the log, made again and compared with what a store holds: windows, rows of devices, and their windows.
//!
//! Right while others write: each window and row is compared with the entries that it says it holds. In bounded
//! memory, whatever is stored: of the windows one number a day is kept, and the days whose numbers differ are looked
//! at once more, a few of them, window by window; of the rows there are those of one slot at a time, with one number for
//! the counts of each device.

mod coverage;
mod devices;
mod kept;
mod rows;
mod sums;
#[cfg(test)]
mod tests;
mod words;

use std::ops::Range;

use rollcall_wire::{DeviceId, Slot};

use self::coverage::Coverage;
use self::rows::SlotRows;
use self::sums::{Digest, Exact, SlotSums, Sums};
use crate::log::rollup::{CHUNK_ENTRIES, Resolution};
use crate::log::{Logged, Snapshot, StoreError};
use crate::ops::Findings;
use crate::ops::check::{Check, Reporter, Unheard};

/// How many entries and windows are read at a time. An entry may have thousands of records.
const READ_ENTRIES: usize = CHUNK_ENTRIES as usize;
const READ_WINDOWS: usize = 1024;

/// How many of the days that differ are looked at window by window. A day has 87,865 sums.
const DAYS_SHOWN: usize = 2;

/// How many of the devices whose counts differ are looked at minute by minute.
const DEVICES_SHOWN: usize = 2;

const LOG: &str = "log";
const START: &str = "start of the log";
const WINDOWS: &str = "windows";
const ROWS: &str = "rows of devices";
const DEVICES: &str = "windows of devices";

const RESTORE: &str = "restore the store from a backup";
const REPAIR: &str = "they can be made anew from the log: rollcall doctor --repair";

/// Why a part of the look did not come to its end.
#[derive(Debug)]
enum Stop {
    Unheard,
    Store(StoreError),
}

impl From<Unheard> for Stop {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What is not readable is a finding, and the rest is looked at; a store that is away is the end.
fn readable<T>(done: Result<T, Stop>) -> Result<Result<T, String>, Stop> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(Stop::Store(error @ StoreError::Corrupt(_))) => Ok(Err(error.to_string())),
        Err(stop) => Err(stop),
    }
}

/// Compares all that `snapshot` holds, and reports what differs.
///
/// # Errors
/// [`Unheard`].
pub fn recount(snapshot: &mut dyn Snapshot, reporter: &mut Reporter) -> Result<(), Unheard> {
    match compare(snapshot, reporter) {
        Ok(()) => Ok(()),
        Err(Stop::Unheard) => Err(Unheard),
        Err(Stop::Store(error)) => {
            let found = format!("it was not looked at to the end: {error}");
            reporter.check(Check::fail("store", found, "try again"))
        }
    }
}

fn compare(snapshot: &mut dyn Snapshot, reporter: &mut Reporter) -> Result<(), Stop> {
    let starts = match readable(snapshot.starts().map_err(Stop::from))? {
        Ok(starts) => starts,
        Err(error) => return Ok(reporter.check(Check::fail(LOG, error, RESTORE))?),
    };
    let checkpoints = match readable(snapshot.checkpoints().map_err(Stop::from))? {
        Ok(checkpoints) => checkpoints,
        Err(error) => return Ok(reporter.check(Check::fail(WINDOWS, error, REPAIR))?),
    };
    let mut coverage = Coverage::new(starts, &checkpoints);
    let mut digest = Digest::default();
    let listed = readable(list(snapshot, reporter, 0..u64::MAX, &mut coverage, &mut digest))?;
    let (mut log, mut rows, mut differing) = (Findings::default(), Findings::default(), Vec::new());
    let (mut entries, mut messages, mut compared) = (0_u64, 0_u64, 0);
    let mut unread = false;
    let mut begins = Vec::new();
    for slot in Slot::all() {
        let checkpoint = checkpoints[slot.index()].rows;
        let mut of_slot =
            readable(SlotRows::read(snapshot, reporter, slot, coverage.start(slot), checkpoint))?;
        let furthest = of_slot.as_ref().map_or(0, SlotRows::furthest).max(coverage.furthest(slot));
        let mut sums = SlotSums::new(slot, &coverage, &mut digest);
        let start = coverage.start(slot);
        let read = read(snapshot, reporter, slot, start.first, furthest, |logged| {
            let Logged { entry, counts } = logged;
            if entry.number == start.first && start.first > 0 {
                begins.push(words::begin(&entry));
            }
            (entries, messages) = (entries + 1, messages + entry.records.len() as u64);
            let counted = entry.counts();
            if counted != counts {
                log.add(|| format!("entry {} of slot {slot} does not count what is in it", entry.number));
            }
            if let Ok(of_slot) = &mut of_slot {
                of_slot.take(&entry);
            }
            sums.add(entry.number, counted)
        });
        match (readable(read.and_then(|()| Ok(sums.finish()?)))?, of_slot) {
            (Ok(()), Ok(of_slot)) => {
                let (rows, devices) = of_slot.compare(&mut rows);
                compared += rows;
                differing.extend(devices.into_iter().map(|device| (slot, device, checkpoint)));
            }
            (Ok(()), Err(error)) => rows.add(|| error),
            (Err(error), _) => {
                unread = true;
                log.add(|| error);
            }
        }
    }
    if !begins.is_empty() {
        reporter.check(Check::pass(START, words::starts(&begins, coverage.complete_from())))?;
    }
    log.report(reporter, LOG, format!("{entries} entries with {messages} messages"), RESTORE)?;
    match listed {
        Err(error) => reporter.check(Check::fail(WINDOWS, error, REPAIR))?,
        Ok(_) if unread => {
            reporter.check(Check::skip(WINDOWS, "the log that they are made from is not readable"))?
        }
        Ok(listed) => {
            let differing: Vec<_> = digest.differing().collect();
            let torn: Vec<_> = coverage.torn().collect();
            windows(snapshot, reporter, listed, &differing, &torn)?;
        }
    }
    rows.report(reporter, ROWS, format!("{compared} agree with the log"), REPAIR)?;
    device_windows(snapshot, reporter, &coverage, compared, &differing)
}

/// Says what is wrong with the windows of devices.
fn device_windows(
    snapshot: &mut dyn Snapshot,
    reporter: &mut Reporter,
    coverage: &Coverage,
    compared: u64,
    differing: &[(Slot, DeviceId, u64)],
) -> Result<(), Stop> {
    let mut findings = Findings::default();
    for (slot, device, checkpoint) in differing.iter().take(DEVICES_SHOWN) {
        match readable(devices::look_again(
            snapshot,
            reporter,
            (*slot, coverage.start(*slot)),
            *device,
            *checkpoint,
        ))? {
            Ok(minutes) => minutes.into_iter().for_each(|minute| findings.add(|| minute)),
            Err(error) => findings.add(|| error),
        }
    }
    if let Some(more) = differing.len().checked_sub(DEVICES_SHOWN).filter(|more| *more > 0) {
        findings.rest(format!("{more} more devices have counts that differ"));
    }
    findings.report(reporter, DEVICES, format!("those of {compared} devices agree with the log"), REPAIR)?;
    Ok(())
}

/// Says what is wrong with the windows of the days in which something is.
fn windows(
    snapshot: &mut dyn Snapshot,
    reporter: &mut Reporter,
    listed: u64,
    days: &[u64],
    torn: &[u64],
) -> Result<(), Stop> {
    let mut findings = Findings::default();
    if !torn.is_empty() {
        torn.iter().for_each(|day| findings.add(|| words::torn_day(*day)));
        findings.report(reporter, WINDOWS, String::new(), RESTORE)?;
        findings = Findings::default();
    }
    match readable(look_again(snapshot, reporter, &days[..days.len().min(DAYS_SHOWN)]))? {
        Ok(exact) => exact.differing().for_each(|(cell, stored, logged)| {
            findings.add(|| words::window_difference(cell, stored, logged));
        }),
        Err(error) => findings.add(|| error),
    }
    if let Some(more) = days.len().checked_sub(DAYS_SHOWN).filter(|more| *more > 0) {
        findings.rest(format!("{more} more days have windows that differ"));
    }
    findings.report(reporter, WINDOWS, format!("{listed} agree with the log"), REPAIR)?;
    Ok(())
}

/// Looks at a few days window by window.
fn look_again(snapshot: &mut dyn Snapshot, reporter: &mut Reporter, days: &[u64]) -> Result<Exact, Stop> {
    let mut exact = Exact::of(days);
    if days.is_empty() {
        return Ok(exact);
    }
    // The store may have gone on since.
    let mut coverage = Coverage::new(snapshot.starts()?, &snapshot.checkpoints()?);
    for day in days {
        list(snapshot, reporter, *day..day + Resolution::Day.seconds(), &mut coverage, &mut exact)?;
    }
    for slot in Slot::all() {
        let mut sums = SlotSums::new(slot, &coverage, &mut exact);
        let (first, furthest) = (coverage.start(slot).first, coverage.furthest(slot));
        read(snapshot, reporter, slot, first, furthest, |logged| {
            sums.add(logged.entry.number, logged.entry.counts())
        })?;
        sums.finish()?;
    }
    Ok(exact)
}

/// Takes all windows that start in `range`; how many there are.
fn list(
    snapshot: &mut dyn Snapshot,
    reporter: &mut Reporter,
    range: Range<u64>,
    coverage: &mut Coverage,
    sums: &mut impl Sums,
) -> Result<u64, Stop> {
    let mut listed = 0;
    for resolution in [Resolution::Day, Resolution::Hour, Resolution::Minute] {
        let mut from = range.start;
        loop {
            let windows = snapshot.windows(resolution, from, READ_WINDOWS)?;
            for window in windows.iter().filter(|window| range.contains(&window.start)) {
                listed += 1;
                coverage.note(resolution, window)?;
                if coverage.is_left(window.start) {
                    sums::stored(sums, resolution, window)?;
                }
            }
            reporter.progress(|| format!("reading the windows: {listed}"))?;
            match windows.last() {
                Some(last) if windows.len() == READ_WINDOWS && last.start < range.end => {
                    from = last.start + 1
                }
                _ => break,
            }
        }
    }
    Ok(listed)
}

/// Takes the log of `slot` from its first entry to its end, which has to be at `furthest` or beyond.
fn read(
    snapshot: &mut dyn Snapshot,
    reporter: &mut Reporter,
    slot: Slot,
    first: u64,
    furthest: u64,
    mut with: impl FnMut(Logged) -> Result<(), StoreError>,
) -> Result<(), Stop> {
    let mut next = first;
    loop {
        let entries = snapshot.read(slot, next, READ_ENTRIES)?;
        let last = entries.len() < READ_ENTRIES;
        for logged in entries {
            if logged.entry.number != next {
                if snapshot.starts()?[slot.index()].first > next {
                    let reason = "messages were removed while they were read; try again".to_owned();
                    return Err(StoreError::Unavailable(reason).into());
                }
                return Err(StoreError::Corrupt(format!("entry {next} of slot {slot} is gone")).into());
            }
            next += 1;
            with(logged)?;
        }
        reporter
            .progress(|| format!("reading the log of slot {slot}: {next} entries of {furthest} or more"))?;
        if last {
            break;
        }
    }
    if next < furthest {
        let reason =
            format!("the log of slot {slot} ends at {next}, before what was made from it ({furthest})");
        return Err(StoreError::Corrupt(reason).into());
    }
    Ok(())
}
