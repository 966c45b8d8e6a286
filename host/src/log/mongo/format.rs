//! Entries as documents that a person reads: one subdocument a message, times as dates, ids as on the wire.
//!
//! Field names are whole words: the `entries` collection is compressed with zstd, to which they cost nothing. The boots of
//! an entry stand together, for random digits cost more among words; the view `messages` has each with its message.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use mongodb::bson::{DateTime, Document, doc};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};
use serde::{Deserialize, Serialize};

use super::stored_counts::{self, StoredParts};
use crate::log::plan::TailEntry;
use crate::log::{Logged, StoreError, key};
use crate::model::{BySecond, Entry, Record, RecordKind, TimeError, UnixMs, WriterId};

/// The version of the documents' form, in a database whose first messages were removed.
pub(super) const FORMAT_VERSION: i64 = 16;

/// The version of one that has all its messages. Older ones are converted by `rollcall migrate`.
pub(super) const FORMAT_WHOLE: i64 = 15;

/// Those before that also have a number for databases with all their messages and the one after it for others. What is in
/// them is read as it is, beside what is written now, which older versions cannot read.
pub(super) const ONLY_RENUMBERED: RangeInclusive<i64> = 7..=14;

/// What becomes of one of [`ONLY_RENUMBERED`].
pub(super) fn renumbered(version: i64) -> i64 {
    FORMAT_WHOLE + (version - ONLY_RENUMBERED.start()) % 2
}

/// The oldest version that can be converted.
pub(super) const OLDEST_FORMAT: i64 = 2;

/// What an entry of today's form says of itself. The counts of earlier ones do not tell what came late and what is
/// undecided, and those of the earliest, which say nothing of themselves, not how exactly times are known.
const ENTRY_VERSION: i32 = 7;

/// What stands in the place of a boot for a bare message.
const NO_BOOT: &str = "----------------";

/// How many digits a boot has.
const BOOT_DIGITS: usize = NO_BOOT.len();

/// The keys of a slot's entries from `number` on, as `_id`s.
pub(super) fn keys(slot: Slot, number: u64) -> Range<i64> {
    let keys = key::keys(slot, number);
    keys.start.cast_signed()..keys.end.cast_signed()
}

/// The slot and the number that an `_id` stands for.
pub(super) fn place(id: i64) -> Result<(Slot, u64), StoreError> {
    let place = u64::try_from(id).ok().and_then(key::place);
    place.ok_or_else(|| StoreError::Corrupt(format!("there is an entry with the _id {id}")))
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredEntry<'a> {
    #[serde(rename = "_id")]
    key: i64,
    #[serde(default)]
    version: i32,
    /// Absent in entries of formats before 7.
    #[serde(default)]
    writer: i32,
    received_at: DateTime,
    /// Absent in entries of formats before 4, and when it is `received_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_time: Option<DateTime>,
    seconds: StoredParts,
    messages: Vec<StoredMessage<'a>>,
    /// The boots of the messages, [`BOOT_DIGITS`] of each; absent when none has one, and in entries of formats before 13.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boots: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredMessage<'a> {
    device: Cow<'a, str>,
    /// In entries of formats before 13.
    #[serde(default, skip_serializing)]
    boot: Option<String>,
    /// Absent for a bare message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    status: i32,
    sampled_at: DateTime,
    received_at: DateTime,
    /// Absent when the time is exact; null when it is not known how far it is off.
    #[serde(default, with = "time_error", skip_serializing_if = "is_exact")]
    time_error_ms: TimeError,
    /// `imported` or `undecided`; absent for a device's own sample that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<StoredKind>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredKind {
    Imported,
    Undecided,
}

fn is_exact(error: &TimeError) -> bool {
    *error == TimeError::Exact
}

/// How far off a time may be in milliseconds.
mod time_error {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::TimeError;

    pub(super) fn serialize<S: Serializer>(error: &TimeError, serializer: S) -> Result<S::Ok, S::Error> {
        match error {
            TimeError::Exact => Some(0),
            TimeError::OneSecond => Some(1000),
            TimeError::Unknown => None,
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeError, D::Error> {
        Ok(match <Option<i32>>::deserialize(deserializer)? {
            Some(0) => TimeError::Exact,
            Some(_) => TimeError::OneSecond,
            None => TimeError::Unknown,
        })
    }
}

/// What the tail of a log is counted from.
#[derive(Debug, Deserialize)]
pub(super) struct StoredTail {
    #[serde(rename = "_id")]
    pub(super) key: i64,
    #[serde(default)]
    version: i32,
    seconds: StoredParts,
}

/// The view `messages`: one document a message.
pub(super) fn messages_view() -> Vec<Document> {
    let has_boot = doc! { "$and": [
        { "$eq": [{ "$type": "$boots" }, "string"] }, { "$ne": [{ "$type": "$messages.seq" }, "missing"] },
    ] };
    let digits = BOOT_DIGITS as i32;
    let boot = doc! { "$substrBytes": ["$boots", { "$multiply": ["$index", digits] }, digits] };
    vec![
        doc! { "$unwind": { "path": "$messages", "includeArrayIndex": "index" } },
        doc! { "$replaceWith": { "$mergeObjects": [
            {
                "_id": { "entry": "$_id", "index": "$index" },
                "device": "$messages.device",
                "boot": { "$cond": [has_boot, boot, "$$REMOVE"] },
            },
            "$messages",
        ] } },
    ]
}

fn date(time: UnixMs) -> DateTime {
    DateTime::from_millis(time.0.cast_signed())
}

fn time(date: DateTime) -> UnixMs {
    UnixMs(date.timestamp_millis().cast_unsigned())
}

impl<'a> StoredEntry<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            key: key::key(entry.slot, entry.number).cast_signed(),
            version: ENTRY_VERSION,
            writer: entry.writer.0.cast_signed(),
            received_at: date(entry.received_at),
            log_time: (entry.log_time != entry.received_at).then(|| date(entry.log_time)),
            seconds: stored_counts::seconds(&entry.counts()),
            messages: entry.records.iter().map(StoredMessage::of).collect(),
            boots: boots(&entry.records),
        }
    }

    /// The entry, and its counts as they are stored.
    pub(super) fn logged(self) -> Result<Logged, StoreError> {
        let (version, counts) = (self.version, counts(self.key, &self.seconds)?);
        let entry = self.entry()?;
        let counts = if version >= ENTRY_VERSION { counts } else { entry.counts() };
        Ok(Logged { entry, counts })
    }

    pub(super) fn entry(self) -> Result<Entry, StoreError> {
        let (slot, number) = place(self.key)?;
        let boots = self.boots.as_deref();
        let is_whole = boots.is_none_or(|boots| boots.len() == self.messages.len() * BOOT_DIGITS);
        let boot = |at: usize| boots?.get(at * BOOT_DIGITS..(at + 1) * BOOT_DIGITS);
        let records = self.messages.into_iter().enumerate().map(|(at, message)| message.record(boot(at)));
        let records = records.collect::<Option<Vec<_>>>().filter(|_| is_whole);
        let records = records.ok_or_else(|| StoreError::Corrupt(format!("entry {number} of slot {slot}")))?;
        let received_at = time(self.received_at);
        let log_time = self.log_time.map_or(received_at, time);
        Ok(Entry {
            slot,
            number,
            writer: WriterId(self.writer.cast_unsigned()),
            received_at,
            log_time,
            records,
        })
    }
}

/// The boots of these records, one after the other, if there are some.
fn boots(records: &[Record]) -> Option<String> {
    let boot = |record: &Record| record.id.map_or_else(|| NO_BOOT.to_owned(), |id| id.boot.to_string());
    records.iter().any(|record| record.id.is_some()).then(|| records.iter().map(boot).collect())
}

impl<'a> StoredMessage<'a> {
    fn of(record: &'a Record) -> Self {
        Self {
            device: record.device.as_str().into(),
            boot: None,
            seq: record.id.map(|id| id.seq.get().cast_signed()),
            status: record.status.get().into(),
            sampled_at: date(record.sampled_at),
            received_at: date(record.received_at),
            time_error_ms: record.time_error,
            kind: match record.kind {
                RecordKind::Sample => None,
                RecordKind::Imported => Some(StoredKind::Imported),
                RecordKind::Undecided => Some(StoredKind::Undecided),
            },
        }
    }

    /// The record, if it is one, of which this is the boot where it is not in the message.
    fn record(self, boot: Option<&str>) -> Option<Record> {
        let id = match (self.boot.as_deref().or(boot), self.seq) {
            (Some(boot), Some(seq)) => {
                Some(SampleId { boot: BootId::parse(boot)?, seq: Sequence::new(u64::try_from(seq).ok()?)? })
            }
            (None | Some(NO_BOOT), None) => None,
            _ => return None,
        };
        Some(Record {
            device: DeviceId::new(&self.device).ok()?,
            id,
            status: Status::new(u8::try_from(self.status).ok()?)?,
            kind: match self.kind {
                None => RecordKind::Sample,
                Some(StoredKind::Imported) => RecordKind::Imported,
                Some(StoredKind::Undecided) => RecordKind::Undecided,
            },
            sampled_at: time(self.sampled_at),
            time_error: self.time_error_ms,
            received_at: time(self.received_at),
        })
    }
}

impl StoredTail {
    /// Are its counts all that there is to count?
    pub(super) fn has_all_counts(&self) -> bool {
        self.version >= ENTRY_VERSION
    }

    pub(super) fn entry(&self) -> Result<TailEntry, StoreError> {
        let (slot, number) = place(self.key)?;
        Ok(TailEntry::new(slot, number, counts(self.key, &self.seconds)?))
    }
}

fn counts(key: i64, seconds: &StoredParts) -> Result<BySecond, StoreError> {
    let (slot, number) = place(key)?;
    let seconds = seconds.get().map(|seconds| seconds.iter().copied().collect());
    seconds.ok_or_else(|| StoreError::Corrupt(format!("the counts of entry {number} of slot {slot}")))
}
