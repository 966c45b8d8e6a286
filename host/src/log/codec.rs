//! Entries and minutes as bytes, for stores that keep bytes (postcard: small integers take one byte).
//!
//! An entry names each device and boot once and writes sequences and times by their differences, so that a
//! sample of a full flush takes about five bytes. The counts come first: the tail is counted without
//! reading the samples.

use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::model::{BySecond, Counts, Entry, Record, TimeError, UnixMs};

/// The version of everything here and of the tables' layout. [`OLDER_FORMAT`] is read too; any other is refused.
pub(super) const FORMAT_VERSION: u64 = 2;

/// Differs in the state of a checkpoint alone, which is read in both forms and written in the new one by the
/// next chunk. A store of it becomes one of [`FORMAT_VERSION`] when it is opened.
pub(super) const OLDER_FORMAT: u64 = 1;

/// Counts of one second: its distance from the second before it, and the statuses that occurred.
type StoredSecond = (u64, Vec<(u8, u64)>);

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
    /// The status, plus [`INEXACT`] when the time is known to a second only.
    status: u8,
    /// The sequence less the one after the last; 0 for bare messages.
    seq: i64,
    sampled: i64,
    received: i64,
}

const INEXACT: u8 = 0x80;

/// Read back whole by [`entry`], the counts alone by [`entry_counts`].
pub(super) fn entry_bytes(entry: &Entry, counts: &BySecond) -> Vec<u8> {
    let head = (entry.received_at.0, seconds(counts));
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
        let inexact = if record.time_error == TimeError::OneSecond { INEXACT } else { 0 };
        let stored = StoredRecord {
            status: record.status.get() | inexact,
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
            status: Status::new(stored.status & !INEXACT)?,
            sampled_at: UnixMs(sampled),
            time_error: if stored.status & INEXACT == 0 { TimeError::Exact } else { TimeError::OneSecond },
            received_at: UnixMs(received),
        })
    }
}

/// Reads a whole entry.
pub(super) fn entry(slot: Slot, number: u64, bytes: &[u8]) -> Result<Entry, StoreError> {
    let unreadable = || StoreError::Corrupt(format!("entry {number} of slot {slot}"));
    let ((received_at, _), streams): ((u64, Vec<StoredSecond>), Vec<StoredStream<'_>>) =
        postcard::from_bytes(bytes).map_err(|_| unreadable())?;
    let mut records = Vec::new();
    for stream in streams {
        let device = DeviceId::new(stream.device).map_err(|_| unreadable())?;
        let boot = stream.boot.map(|boot| BootId(u64::from_le_bytes(boot)));
        let mut last = Last { seq: 0, sampled: received_at, received: received_at };
        for stored in &stream.records {
            records.push(last.restore(device, boot, stored).ok_or_else(unreadable)?);
        }
    }
    Ok(Entry { slot, number, received_at: UnixMs(received_at), records })
}

/// Reads an entry's counts only.
pub(super) fn entry_counts(slot: Slot, number: u64, bytes: &[u8]) -> Result<BySecond, StoreError> {
    let unreadable = || StoreError::Corrupt(format!("entry {number} of slot {slot}"));
    let ((_, seconds), _): ((u64, Vec<StoredSecond>), _) =
        postcard::take_from_bytes(bytes).map_err(|_| unreadable())?;
    by_second(seconds).ok_or_else(unreadable)
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
        let some = counts.0.iter().zip(0..).filter(|(count, _)| **count > 0);
        stored.push((second - last, some.map(|(count, status)| (status, *count)).collect()));
        last = *second;
    }
    stored
}

fn by_second(stored: Vec<StoredSecond>) -> Option<BySecond> {
    let mut second = 0_u64;
    let mut counts = BySecond::new();
    for (distance, some) in stored {
        second = second.checked_add(distance)?;
        let all: &mut Counts = counts.entry(second).or_default();
        for (status, count) in some {
            *all.0.get_mut(usize::from(status))? = count;
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let id = prop::option::of((0..3_u64, 0..=Sequence::MAX.get()));
        let at = prop_oneof![1_700_000_000_000..1_700_000_100_000_u64, any::<u32>().prop_map(u64::from)];
        (0..4_u8, id, 0..7_u8, at.clone(), at, any::<bool>()).prop_map(
            |(device, id, status, sampled_at, received_at, exact)| Record {
                device: DeviceId::new(&format!("device-{device}")).unwrap(),
                id: id.map(|(boot, seq)| SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() }),
                status: Status::new(status).unwrap(),
                sampled_at: UnixMs(sampled_at),
                time_error: if exact { TimeError::Exact } else { TimeError::OneSecond },
                received_at: UnixMs(received_at),
            },
        )
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_sorted_by_stream(records in prop::collection::vec(record(), 0..50)) {
            let slot = Slot::new(5).unwrap();
            let mut sent = Entry { slot, number: 9, received_at: UnixMs(1_700_000_050_000), records };
            let bytes = entry_bytes(&sent, &sent.counts());
            prop_assert_eq!(entry_counts(slot, 9, &bytes).unwrap(), sent.counts());
            sent.records.sort_by(|a, b| stream_key(a).cmp(&stream_key(b)));
            prop_assert_eq!(entry(slot, 9, &bytes).unwrap(), sent);
        }

        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let slot = Slot::new(0).unwrap();
            let _ = (entry(slot, 0, &bytes), entry_counts(slot, 0, &bytes), minute(0, &bytes));
        }
    }

    #[test]
    fn a_sample_of_a_full_flush_takes_few_bytes() {
        let records = (0..1_000_u64).map(|n| Record {
            device: DeviceId::new(if n % 3 == 0 { "sim-000123" } else { "sim-000124" }).unwrap(),
            id: Some(SampleId { boot: BootId(u64::MAX - n % 3), seq: Sequence::new(n / 3).unwrap() }),
            status: Status::new((n % 7) as u8).unwrap(),
            sampled_at: UnixMs(1_700_000_000_000 + n),
            time_error: TimeError::Exact,
            received_at: UnixMs(1_700_000_000_000 + n),
        });
        let received_at = UnixMs(1_700_000_001_000);
        let entry = Entry { slot: Slot::new(0).unwrap(), number: 0, received_at, records: records.collect() };
        let bytes = entry_bytes(&entry, &entry.counts()).len();
        assert!(bytes < 6 * 1_000, "{bytes}");
    }
}
