//! Entries and minutes as bytes, for stores that keep bytes (postcard: small integers take one byte).
//!
//! An entry names each device and boot once and writes sequences and times by their differences, so that a
//! sample of a full flush takes about five bytes. The counts come first: the tail is counted without
//! reading the samples.
//!
//! An entry begins with the version of its form. The first form had none and no log time: it began with a time,
//! whose first byte is at least 0x80. The first and the second did not count how exactly times are known, and the third
//! neither what came late nor what is undecided: what has one of these is counted from its samples. None of them says who
//! wrote it.

use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};
use serde::{Deserialize, Serialize};

use super::run::{self, Common};
use super::{Logged, StoreError};
use crate::model::{self, BySecond, Counts, Entry, Record, RecordKind, TimeError, UnixMs, WriterId};

/// What an entry of today's form begins with, and those of the two forms before it.
const ENTRY_VERSION: u8 = 4;
const ENTRY_VERSION_3: u8 = 3;
const ENTRY_VERSION_2: u8 = 2;

/// Counts as a row of numbers: by status, then how many are known to a second only, those that are not known, those that
/// came late, and those that are undecided.
pub(super) type Numbers = [u64; Status::COUNT + 4];

/// Counts of one second: its distance from the second before it, and those of its [`Numbers`] that are not 0.
type StoredSecond = (u64, Vec<(u8, u64)>);

/// As [`counts`] reads them.
pub(super) fn numbers(counts: &Counts) -> Numbers {
    let Counts { statuses: [a, b, c, d, e, f, g], one_second, unknown, late, undecided } = *counts;
    [a, b, c, d, e, f, g, one_second, unknown, late, undecided]
}

/// Reads what [`numbers`] gave.
pub(super) fn counts(numbers: &Numbers) -> Counts {
    let [a, b, c, d, e, f, g, one_second, unknown, late, undecided] = *numbers;
    Counts { statuses: [a, b, c, d, e, f, g], one_second, unknown, late, undecided }
}

#[derive(Serialize, Deserialize)]
struct StoredStream<'a> {
    device: &'a str,
    /// `None` for bare messages.
    boot: Option<[u8; 8]>,
    records: Vec<StoredRecord>,
}

/// Differences from the record before it in the stream, the first from 0 and the entry's `received_at`.
#[derive(Serialize, Deserialize)]
struct StoredRecord {
    /// The status and the flags beside it.
    status: u8,
    /// The sequence less the one after the last; 0 for bare messages.
    seq: i64,
    sampled: i64,
    received: i64,
}

/// The bits of a status, and the flags: the time is known to a second only, or not at all; the record is
/// imported, or undecided.
const STATUS: u8 = 0x07;
const ONE_SECOND: u8 = 0x80;
const IMPORTED: u8 = 0x40;
const UNDECIDED: u8 = 0x20;
const TIME_UNKNOWN: u8 = 0x10;

fn flags(record: &Record) -> u8 {
    let time = match record.time_error {
        TimeError::Exact => 0,
        TimeError::OneSecond => ONE_SECOND,
        TimeError::Unknown => TIME_UNKNOWN,
    };
    let kind = match record.kind {
        RecordKind::Sample => 0,
        RecordKind::Imported => IMPORTED,
        RecordKind::Undecided => UNDECIDED,
    };
    time | kind
}

fn time_error(status: u8) -> Option<TimeError> {
    match status & (ONE_SECOND | TIME_UNKNOWN) {
        0 => Some(TimeError::Exact),
        ONE_SECOND => Some(TimeError::OneSecond),
        TIME_UNKNOWN => Some(TimeError::Unknown),
        _ => None,
    }
}

fn kind(status: u8) -> Option<RecordKind> {
    match status & (IMPORTED | UNDECIDED) {
        0 => Some(RecordKind::Sample),
        IMPORTED => Some(RecordKind::Imported),
        UNDECIDED => Some(RecordKind::Undecided),
        _ => None,
    }
}

/// Read back whole by [`entry`], the counts alone by [`entry_counts`].
pub(super) fn entry_bytes(entry: &Entry, counts: &BySecond) -> Vec<u8> {
    let log_time = entry.log_time.0.wrapping_sub(entry.received_at.0) as i64;
    let head = (ENTRY_VERSION, entry.writer.0, entry.received_at.0, log_time, seconds(counts));
    let mut sorted: Vec<&Record> = entry.records.iter().collect();
    sorted.sort_by_key(|record| stream_key(record));
    let streams: Vec<StoredStream<'_>> = sorted
        .chunk_by(|a, b| stream_key(a) == stream_key(b))
        .map(|records| stream(records, entry.received_at))
        .collect();
    postcard::to_allocvec(&(head, streams)).expect("plain data always serialises into memory")
}

fn stream_key(record: &Record) -> (&str, Option<BootId>) {
    (record.device.as_str(), record.id.map(|id| id.boot))
}

fn stream<'a>(records: &[&'a Record], entry_received_at: UnixMs) -> StoredStream<'a> {
    let mut last = Last { seq: 0, sampled: entry_received_at.0, received: entry_received_at.0 };
    let (device, boot) = stream_key(records[0]);
    StoredStream {
        device,
        boot: boot.map(|boot| boot.0.to_le_bytes()),
        records: records.iter().map(|record| last.difference(record)).collect(),
    }
}

/// The numbers of the record before.
struct Last {
    seq: u64,
    sampled: u64,
    received: u64,
}

impl Last {
    fn difference(&mut self, record: &Record) -> StoredRecord {
        let seq = record.id.map_or(0, |id| id.seq.get());
        let stored = StoredRecord {
            status: record.status.get() | flags(record),
            seq: seq.wrapping_sub(self.seq) as i64,
            sampled: record.sampled_at.0.wrapping_sub(self.sampled) as i64,
            received: record.received_at.0.wrapping_sub(self.received) as i64,
        };
        *self = Self { seq: seq + 1, sampled: record.sampled_at.0, received: record.received_at.0 };
        stored
    }

    fn restore(&mut self, device: DeviceId, boot: Option<BootId>, stored: &StoredRecord) -> Option<Record> {
        let seq = self.seq.wrapping_add_signed(stored.seq);
        let sampled = self.sampled.wrapping_add_signed(stored.sampled);
        let received = self.received.wrapping_add_signed(stored.received);
        *self = Self { seq: seq.wrapping_add(1), sampled, received };
        let id = match boot {
            Some(boot) => Some(SampleId { boot, seq: Sequence::new(seq)? }),
            None => None,
        };
        Some(Record {
            device,
            id,
            status: Status::new(stored.status & STATUS)?,
            kind: kind(stored.status)?,
            sampled_at: UnixMs(sampled),
            time_error: time_error(stored.status)?,
            received_at: UnixMs(received),
        })
    }
}

/// What an entry begins with.
struct Head<'a> {
    writer: WriterId,
    received_at: u64,
    log_time: u64,
    /// Its counts; `None` in an older form, whose counts do not have all numbers.
    seconds: Option<Vec<StoredSecond>>,
    /// Its samples.
    streams: &'a [u8],
}

/// The head of an entry of whichever form.
fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let (version, rest) = bytes.split_first()?;
    if ![ENTRY_VERSION, ENTRY_VERSION_3, ENTRY_VERSION_2].contains(version) {
        let ((received_at, _), streams): ((u64, Vec<StoredSecond>), _) =
            postcard::take_from_bytes(bytes).ok()?;
        let (writer, log_time) = (WriterId::NOBODY, received_at);
        return Some(Head { writer, received_at, log_time, seconds: None, streams });
    }
    let (writer, rest): (u32, &[u8]) =
        if *version == ENTRY_VERSION { postcard::take_from_bytes(rest).ok()? } else { (0, rest) };
    let ((received_at, log_time, seconds), streams): ((u64, i64, _), _) =
        postcard::take_from_bytes(rest).ok()?;
    let log_time = received_at.wrapping_add_signed(log_time);
    let seconds: Vec<StoredSecond> = seconds;
    let seconds = (*version == ENTRY_VERSION).then_some(seconds);
    Some(Head { writer: WriterId(writer), received_at, log_time, seconds, streams })
}

/// Reads a whole entry.
pub(super) fn entry(slot: Slot, number: u64, bytes: &[u8]) -> Result<Entry, StoreError> {
    let unreadable = || StoreError::Corrupt(format!("entry {number} of slot {slot}"));
    let Head { writer, received_at, log_time, streams, .. } = head(bytes).ok_or_else(unreadable)?;
    let streams: Vec<StoredStream<'_>> = postcard::from_bytes(streams).map_err(|_| unreadable())?;
    let mut records = Vec::new();
    for stream in streams {
        let device = DeviceId::new(stream.device).map_err(|_| unreadable())?;
        let boot = stream.boot.map(|boot| BootId(u64::from_le_bytes(boot)));
        let mut last = Last { seq: 0, sampled: received_at, received: received_at };
        for stored in &stream.records {
            records.push(last.restore(device, boot, stored).ok_or_else(unreadable)?);
        }
    }
    let (received_at, log_time) = (UnixMs(received_at), UnixMs(log_time));
    Ok(Entry { slot, number, writer, received_at, log_time, records })
}

/// Reads when an entry was received.
pub(super) fn entry_received_at(slot: Slot, number: u64, bytes: &[u8]) -> Result<UnixMs, StoreError> {
    let head = head(bytes).ok_or_else(|| StoreError::Corrupt(format!("entry {number} of slot {slot}")))?;
    Ok(UnixMs(head.received_at))
}

/// Reads a whole entry, and its counts as they are stored.
pub(super) fn logged(slot: Slot, number: u64, bytes: &[u8]) -> Result<Logged, StoreError> {
    Ok(Logged { entry: entry(slot, number, bytes)?, counts: entry_counts(slot, number, bytes)? })
}

/// Reads an entry's counts only, if its form has them.
pub(super) fn entry_counts(slot: Slot, number: u64, bytes: &[u8]) -> Result<BySecond, StoreError> {
    let unreadable = || StoreError::Corrupt(format!("entry {number} of slot {slot}"));
    match head(bytes).ok_or_else(unreadable)?.seconds {
        Some(seconds) => by_second(seconds).ok_or_else(unreadable),
        None => Ok(entry(slot, number, bytes)?.counts()),
    }
}

/// A minute of today's form begins with this bit, and what all its samples have in common. Earlier ones begin with how many
/// seconds they have, which are 60 at most.
const MINUTE_WITH_SUM: u8 = 0x80;

/// A minute's counts by second: their sum, and then each second at its place, the first at 1.
pub(super) fn minute_bytes(start: u64, by_second: &BySecond) -> Vec<u8> {
    let common = Common::of(by_second.values().copied());
    let mut bytes = vec![MINUTE_WITH_SUM | common.bits()];
    run::write(&mut bytes, 0, &common.left_out(model::sum(by_second, 0..u64::MAX)));
    let mut last = 0;
    for (second, counts) in by_second.iter().filter(|(_, counts)| **counts != Counts::default()) {
        let place = second.saturating_sub(start).cast_signed().saturating_add(1);
        run::write(&mut bytes, place - last, &common.left_out(*counts));
        last = place;
    }
    bytes
}

/// Reads what [`minute_bytes`] wrote of this minute, or an earlier version.
pub(super) fn minute(start: u64, bytes: &[u8]) -> Result<BySecond, StoreError> {
    let read = || {
        if has_sum(bytes) {
            minute_with_sum(start, bytes)
        } else {
            by_second(postcard::from_bytes(bytes).ok()?)
        }
    };
    read().ok_or_else(|| no_minute(start))
}

fn has_sum(minute: &[u8]) -> bool {
    minute.first().is_some_and(|first| first & MINUTE_WITH_SUM > 0)
}

/// What a minute's samples have in common, their sum, and its seconds.
fn sum_and_seconds(bytes: &[u8]) -> Option<(Common, Counts, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let common = Common::from_bits(first ^ MINUTE_WITH_SUM)?;
    let (_, sum) = run::read(&mut rest)?;
    Some((common, common.put_back(sum), rest))
}

fn minute_with_sum(start: u64, bytes: &[u8]) -> Option<BySecond> {
    let (common, sum, mut rest) = sum_and_seconds(bytes)?;
    let (mut by_second, mut place) = (BySecond::new(), 0);
    while !rest.is_empty() {
        let (difference, counts) = run::read(&mut rest)?;
        place = u64::checked_add_signed(place, difference).filter(|place| (1..=60).contains(place))?;
        by_second.insert(start.checked_add(place - 1)?, common.put_back(counts));
    }
    (model::sum(&by_second, 0..u64::MAX) == sum).then_some(by_second)
}

/// The sum of a minute's counts, as [`minute`] reads them.
pub(super) fn minute_sum(start: u64, bytes: &[u8]) -> Result<Counts, StoreError> {
    if has_sum(bytes) {
        return sum_and_seconds(bytes).map(|(_, sum, _)| sum).ok_or_else(|| no_minute(start));
    }
    Ok(model::sum(&minute(start, bytes)?, 0..u64::MAX))
}

fn no_minute(start: u64) -> StoreError {
    StoreError::Corrupt(format!("the window of the minute at {start}"))
}

fn seconds(counts: &BySecond) -> Vec<StoredSecond> {
    let mut last = 0;
    let mut stored = Vec::with_capacity(counts.len());
    for (second, counts) in counts {
        let some = (0..).zip(numbers(counts)).filter(|(_, count)| *count > 0);
        stored.push((second - last, some.collect()));
        last = *second;
    }
    stored
}

fn by_second(stored: Vec<StoredSecond>) -> Option<BySecond> {
    let mut second = 0_u64;
    let mut by_second = BySecond::new();
    for (distance, some) in stored {
        second = second.checked_add(distance)?;
        let mut numbers = Numbers::default();
        for (which, count) in some {
            *numbers.get_mut(usize::from(which))? = count;
        }
        by_second.insert(second, counts(&numbers));
    }
    Some(by_second)
}

#[cfg(test)]
mod tests;
