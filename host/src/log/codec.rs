//! Entries and minutes as bytes, for stores that keep bytes (postcard: small integers take one byte).
//!
//! An entry names each device and boot once and writes sequences and times by their differences, so that a
//! sample of a full flush takes about five bytes. The counts come first: the tail is counted without
//! reading the samples.
//!
//! An entry begins with the version of its form. The first form had none and no log time: it began with a time,
//! whose first byte is at least 0x80. The first and the second did not count how exactly times are known: what has one
//! of these is counted from its samples.

use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};
use serde::{Deserialize, Serialize};

use super::{Logged, StoreError};
use crate::model::{BySecond, Counts, Entry, Record, RecordKind, TimeError, UnixMs};

/// What an entry of today's form begins with, and one of the form before it.
const ENTRY_VERSION: u8 = 3;
const ENTRY_VERSION_2: u8 = 2;

/// Counts as a row of numbers: by status, then how many are known to a second only, then those that are not known.
pub(super) type Numbers = [u64; Status::COUNT + 2];

/// Counts of one second: its distance from the second before it, and those of its [`Numbers`] that are not 0.
type StoredSecond = (u64, Vec<(u8, u64)>);

/// As [`counts`] reads them.
pub(super) fn numbers(counts: &Counts) -> Numbers {
    let mut numbers = Numbers::default();
    numbers[..Status::COUNT].copy_from_slice(&counts.statuses);
    [numbers[Status::COUNT], numbers[Status::COUNT + 1]] = [counts.one_second, counts.unknown];
    numbers
}

/// Reads what [`numbers`] gave.
pub(super) fn counts(numbers: &Numbers) -> Counts {
    let statuses = std::array::from_fn(|status| numbers[status]);
    Counts { statuses, one_second: numbers[Status::COUNT], unknown: numbers[Status::COUNT + 1] }
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
    let head = (ENTRY_VERSION, entry.received_at.0, log_time, seconds(counts));
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
    if ![ENTRY_VERSION, ENTRY_VERSION_2].contains(version) {
        let ((received_at, _), streams): ((u64, Vec<StoredSecond>), _) =
            postcard::take_from_bytes(bytes).ok()?;
        return Some(Head { received_at, log_time: received_at, seconds: None, streams });
    }
    let ((received_at, log_time, seconds), streams): ((u64, i64, _), _) =
        postcard::take_from_bytes(rest).ok()?;
    let log_time = received_at.wrapping_add_signed(log_time);
    let seconds: Vec<StoredSecond> = seconds;
    Some(Head { received_at, log_time, seconds: (*version == ENTRY_VERSION).then_some(seconds), streams })
}

/// Reads a whole entry.
pub(super) fn entry(slot: Slot, number: u64, bytes: &[u8]) -> Result<Entry, StoreError> {
    let unreadable = || StoreError::Corrupt(format!("entry {number} of slot {slot}"));
    let Head { received_at, log_time, streams, .. } = head(bytes).ok_or_else(unreadable)?;
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
    Ok(Entry { slot, number, received_at: UnixMs(received_at), log_time: UnixMs(log_time), records })
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

/// A minute's counts by second.
pub(super) fn minute_bytes(counts: &BySecond) -> Vec<u8> {
    postcard::to_allocvec(&seconds(counts)).expect("plain data always serialises into memory")
}

/// Reads what [`minute_bytes`] wrote.
pub(super) fn minute(start: u64, bytes: &[u8]) -> Result<BySecond, StoreError> {
    let seconds = postcard::from_bytes(bytes).ok();
    seconds
        .and_then(by_second)
        .ok_or_else(|| StoreError::Corrupt(format!("the window of the minute at {start}")))
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let id = prop::option::of((0..3_u64, 0..=Sequence::MAX.get()));
        let at = prop_oneof![1_700_000_000_000..1_700_000_100_000_u64, any::<u32>().prop_map(u64::from)];
        let time_error =
            prop::sample::select(&[TimeError::Exact, TimeError::OneSecond, TimeError::Unknown][..]);
        let kind =
            prop::sample::select(&[RecordKind::Sample, RecordKind::Imported, RecordKind::Undecided][..]);
        (0..4_u8, id, 0..7_u8, at.clone(), at, time_error, kind).prop_map(
            |(device, id, status, sampled_at, received_at, time_error, kind)| Record {
                device: DeviceId::new(&format!("device-{device}")).unwrap(),
                id: id.map(|(boot, seq)| SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() }),
                status: Status::new(status).unwrap(),
                kind,
                sampled_at: UnixMs(sampled_at),
                time_error,
                received_at: UnixMs(received_at),
            },
        )
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_sorted_by_stream(
            records in prop::collection::vec(record(), 0..50), log_time in 0..1_800_000_000_000_u64,
        ) {
            let slot = Slot::new(5).unwrap();
            let received_at = UnixMs(1_700_000_050_000);
            let mut sent = Entry { slot, number: 9, received_at, log_time: UnixMs(log_time), records };
            let bytes = entry_bytes(&sent, &sent.counts());
            prop_assert_eq!(entry_counts(slot, 9, &bytes).unwrap(), sent.counts());
            prop_assert_eq!(entry_counts(slot, 9, &as_version_2(&sent)).unwrap(), sent.counts());
            sent.records.sort_by(|a, b| stream_key(a).cmp(&stream_key(b)));
            prop_assert_eq!(entry(slot, 9, &bytes).unwrap(), sent.clone());
            prop_assert_eq!(entry(slot, 9, &as_version_2(&sent)).unwrap(), sent);
        }

        #[test]
        fn a_minute_comes_back(entries in prop::collection::vec(record(), 0..50)) {
            let at = UnixMs(0);
            let entry = Entry {
                slot: Slot::new(5).unwrap(), number: 9, received_at: at, log_time: at, records: entries,
            };
            let counts = entry.counts();
            prop_assert_eq!(minute(60, &minute_bytes(&counts)).unwrap(), counts);
        }

        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let slot = Slot::new(0).unwrap();
            let _ = (entry(slot, 0, &bytes), entry_counts(slot, 0, &bytes), minute(0, &bytes));
        }
    }

    /// An entry in the form before today's, which counted statuses only.
    fn as_version_2(entry: &Entry) -> Vec<u8> {
        let mut counts = entry.counts();
        counts.values_mut().for_each(|counts| (counts.one_second, counts.unknown) = (0, 0));
        let mut bytes = entry_bytes(entry, &counts);
        bytes[0] = ENTRY_VERSION_2;
        bytes
    }

    #[test]
    fn an_entry_of_the_first_form_is_read_with_its_own_time_as_log_time() {
        let at = 1_700_000_050_000_u64;
        let boot = Some(9_u64.to_le_bytes());
        let record = StoredRecord { status: 3 | ONE_SECOND, seq: 17, sampled: -50, received: -2 };
        let stream = StoredStream { device: "d", boot, records: vec![record] };
        let seconds: Vec<StoredSecond> = vec![(at / 1000 - 1, vec![(3, 1)])];
        let bytes = postcard::to_allocvec(&((at, &seconds), vec![stream])).unwrap();
        let slot = Slot::new(4).unwrap();
        let read = entry(slot, 2, &bytes).unwrap();
        assert_eq!((read.received_at, read.log_time), (UnixMs(at), UnixMs(at)));
        assert_eq!(read.records[0].sampled_at, UnixMs(at - 50));
        assert_eq!(
            (read.records[0].time_error, read.records[0].kind),
            (TimeError::OneSecond, RecordKind::Sample)
        );
        let mut counts = by_second(seconds).unwrap();
        counts.values_mut().for_each(|counts| counts.one_second = 1);
        assert_eq!(entry_counts(slot, 2, &bytes).unwrap(), counts);
    }

    #[test]
    fn a_sample_of_a_full_flush_takes_few_bytes() {
        let records = (0..1_000_u64).map(|n| Record {
            device: DeviceId::new(if n % 3 == 0 { "sim-000123" } else { "sim-000124" }).unwrap(),
            id: Some(SampleId { boot: BootId(u64::MAX - n % 3), seq: Sequence::new(n / 3).unwrap() }),
            status: Status::new((n % 7) as u8).unwrap(),
            kind: RecordKind::Sample,
            sampled_at: UnixMs(1_700_000_000_000 + n),
            time_error: TimeError::Exact,
            received_at: UnixMs(1_700_000_000_000 + n),
        });
        let received_at = UnixMs(1_700_000_001_000);
        let slot = Slot::new(0).unwrap();
        let entry = Entry { slot, number: 0, received_at, log_time: received_at, records: records.collect() };
        let bytes = entry_bytes(&entry, &entry.counts()).len();
        assert!(bytes < 6 * 1_000, "{bytes}");
    }
}
