//! Differences in plain words.

use std::fmt::Display;

use crate::log::rollup::Resolution;
use crate::log::row::{Boot, ClosedBoots, DeviceState, Row, SeqRange};
use crate::model::{Counts, Entry, UnixMs};

use super::sums::Cell;

pub(super) fn window_difference(cell: Cell, stored: &Counts, logged: &Counts) -> String {
    let at = UnixMs(cell.start.saturating_mul(1000)).to_rfc3339();
    let what = match cell.seconds {
        1 => "second",
        60 => "minute",
        seconds if seconds == Resolution::Hour.seconds() => "hour",
        _ => "day",
    };
    let of_hour = cell.seconds == 60 && cell.of == Resolution::Hour.seconds();
    let holder = if of_hour { ", in its hour" } else { "" };
    format!("the {what} at {at}{holder}: stored {}, the log says {}", counts(stored), counts(logged))
}

/// `slot 3 at entry 640 of 2026-08-01T…`.
pub(super) fn begin(entry: &Entry) -> String {
    format!("slot {} at entry {} of {}", entry.slot, entry.number, entry.received_at.to_rfc3339())
}

pub(super) fn starts(begins: &[String], (complete_from, days): (u64, usize)) -> String {
    let from = UnixMs(complete_from.saturating_mul(1000)).to_rfc3339();
    let but = if days > 0 { format!(" but for {days} single days") } else { String::new() };
    format!(
        "older messages were removed; those sampled from {from} on are all there{but}; {}",
        begins.join(", ")
    )
}

pub(super) fn torn_day(day: u64) -> String {
    let at = UnixMs(day.saturating_mul(1000)).to_rfc3339();
    format!("the windows of the day at {at} do not add up, and its messages were removed")
}

/// `17 of status 3, 2 of status 5, 4 times known to a second, 1 undecided`.
fn counts(counts: &Counts) -> String {
    let Counts { statuses, one_second, unknown, late, undecided } = counts;
    let statuses = statuses.iter().enumerate().map(|(status, count)| (*count, format!("of status {status}")));
    let others = [
        (*one_second, "times known to a second"),
        (*unknown, "times unknown"),
        (*late, "late"),
        (*undecided, "undecided"),
    ];
    let some =
        statuses.chain(others.map(|(count, of)| (count, of.to_owned()))).filter(|(count, _)| *count > 0);
    let some: Vec<_> = some.map(|(count, of)| format!("{count} {of}")).collect();
    if some.is_empty() { "nothing".to_owned() } else { some.join(", ") }
}

/// What of a row is not as the log says; `None` when all is.
pub(super) fn row_difference(stored: &Row, logged: &Row) -> Option<String> {
    let state = |row: &Row| DeviceState::from_bytes(&row.state);
    let (Some(stored_state), Some(logged_state)) = (state(stored), state(logged)) else {
        return Some("it is not readable".to_owned());
    };
    let closed =
        |row: &Row| row.closed.as_deref().map_or(Some(ClosedBoots::default()), ClosedBoots::from_bytes);
    let (Some(stored_closed), Some(logged_closed)) = (closed(stored), closed(logged)) else {
        return Some("its closed boots are not readable".to_owned());
    };
    let (a, b) = (&stored_state, &logged_state);
    let mut found = Vec::new();
    found.extend(difference("first heard", a.first_seen.to_rfc3339(), b.first_seen.to_rfc3339()));
    found.extend(difference("last heard", a.last_seen.to_rfc3339(), b.last_seen.to_rfc3339()));
    found.extend(difference("last sample", last_sample(a), last_sample(b)));
    found.extend(difference("undecided", a.undecided, b.undecided));
    found.extend(difference("forgotten before", known_from(a), known_from(b)));
    if a.counts != b.counts {
        found.push("what it has counted last is not as the log says".to_owned());
    }
    found.extend(difference("boots", ids(&a.boots), ids(&b.boots)));
    for (a, b) in a.boots.iter().zip(&b.boots).filter(|(a, b)| a.id == b.id) {
        found.extend(boot_differences(a, b));
    }
    if stored_closed != logged_closed {
        let (stored, logged) = (stored_closed.len(), logged_closed.len());
        found.push(format!("closed boots: {stored} are stored, the log says {logged}, or they are others"));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

fn difference<T: Display + PartialEq>(what: &str, stored: T, logged: T) -> Option<String> {
    (stored != logged).then(|| format!("{what}: stored {stored}, the log says {logged}"))
}

fn last_sample(state: &DeviceState) -> String {
    match state.last_sample {
        Some((at, status)) => format!("status {} at {}", status.get(), at.to_rfc3339()),
        None => "none".to_owned(),
    }
}

fn known_from(state: &DeviceState) -> String {
    state.known_from.map_or_else(|| "none".to_owned(), UnixMs::to_rfc3339)
}

fn ids(boots: &[Boot]) -> String {
    let ids: Vec<_> = boots.iter().map(|boot| boot.id.to_string()).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(" ") }
}

fn boot_differences(stored: &Boot, logged: &Boot) -> impl Iterator<Item = String> {
    let what = |what: &str| format!("{what} of boot {}", stored.id);
    let last_logged = (stored.last_logged.to_rfc3339(), logged.last_logged.to_rfc3339());
    // The first that differs: those after it may only have moved.
    let ranges = stored.ranges.len().max(logged.ranges.len());
    let ranges = (0..ranges).map(|at| (range(stored.ranges.get(at)), range(logged.ranges.get(at))));
    let (stored_range, logged_range) = ranges.into_iter().find(|(a, b)| a != b).unwrap_or_default();
    [
        difference(&what("first open sequence"), stored.open_from, logged.open_from),
        difference(&what("last log time"), last_logged.0, last_logged.1),
        difference(&what("samples"), stored_range, logged_range),
    ]
    .into_iter()
    .flatten()
}

fn range(range: Option<&SeqRange>) -> String {
    let Some(SeqRange { first, last, first_at, last_at }) = range else { return "no more".to_owned() };
    format!("{first} to {last}, taken at {} and {}", first_at.to_rfc3339(), last_at.to_rfc3339())
}
