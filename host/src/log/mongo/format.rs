//! Entries as documents that a person reads: one subdocument a message, times as dates, ids as on the wire.
//!
//! Field names are whole words: the `entries` collection is compressed with zstd, to which they cost nothing.

use std::borrow::Cow;
use std::ops::Range;

use mongodb::bson::{DateTime, Document, doc};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};
use serde::{Deserialize, Serialize};

use super::stored_counts::{self, StoredSeconds};
use crate::log::StoreError;
use crate::log::plan::TailEntry;
use crate::model::{Entry, Record, TimeError, UnixMs};

/// The version of the documents' form. [`OLDER_FORMAT`] is read too; any other is refused.
pub(super) const FORMAT_VERSION: i64 = 3;

/// Differs in the state of a checkpoint alone, which is read in both forms and written in the new one by the
/// next chunk. A database of it becomes one of [`FORMAT_VERSION`] when it is opened.
pub(super) const OLDER_FORMAT: i64 = 2;

/// `_id` is slot · 2⁴⁰ + number. Numbers have 40 bits: a thousand flushes a second for 34 years.
const NUMBER_BITS: u32 = 40;

pub(super) fn key(slot: Slot, number: u64) -> i64 {
    ((slot.index() as i64) << NUMBER_BITS) + number.cast_signed()
}

/// The keys of a slot from `number` on.
pub(super) fn keys(slot: Slot, number: u64) -> Range<i64> {
    key(slot, number)..((slot.index() as i64 + 1) << NUMBER_BITS)
}

/// The slot and the number that a key stands for.
fn place(key: i64) -> Result<(Slot, u64), StoreError> {
    let slot = u8::try_from(key >> NUMBER_BITS).ok().and_then(Slot::new);
    let slot = slot.ok_or_else(|| StoreError::Corrupt(format!("there is an entry with the _id {key}")))?;
    Ok((slot, (key & ((1 << NUMBER_BITS) - 1)).cast_unsigned()))
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredEntry<'a> {
    #[serde(rename = "_id")]
    key: i64,
    received_at: DateTime,
    seconds: StoredSeconds,
    messages: Vec<StoredMessage<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredMessage<'a> {
    device: Cow<'a, str>,
    /// Absent, as `seq`, for a bare message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    status: i32,
    sampled_at: DateTime,
    received_at: DateTime,
    /// Absent when the time is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_error_ms: Option<i32>,
}

/// What the tail of a log is counted from.
#[derive(Debug, Deserialize)]
pub(super) struct StoredTail {
    #[serde(rename = "_id")]
    key: i64,
    seconds: StoredSeconds,
}

/// The view `messages`: one document a message.
pub(super) fn messages_view() -> Vec<Document> {
    vec![
        doc! { "$unwind": { "path": "$messages", "includeArrayIndex": "index" } },
        doc! { "$replaceWith": { "$mergeObjects": [
            { "_id": { "entry": "$_id", "index": "$index" } }, "$messages",
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
            key: key(entry.slot, entry.number),
            received_at: date(entry.received_at),
            seconds: stored_counts::seconds(&entry.counts()),
            messages: entry.records.iter().map(StoredMessage::of).collect(),
        }
    }

    pub(super) fn entry(self) -> Result<Entry, StoreError> {
        let (slot, number) = place(self.key)?;
        let records: Option<Vec<_>> = self.messages.into_iter().map(StoredMessage::record).collect();
        let records = records.ok_or_else(|| StoreError::Corrupt(format!("entry {number} of slot {slot}")))?;
        Ok(Entry { slot, number, received_at: time(self.received_at), records })
    }
}

impl<'a> StoredMessage<'a> {
    fn of(record: &'a Record) -> Self {
        Self {
            device: record.device.as_str().into(),
            boot: record.id.map(|id| id.boot.to_string()),
            seq: record.id.map(|id| id.seq.get().cast_signed()),
            status: record.status.get().into(),
            sampled_at: date(record.sampled_at),
            received_at: date(record.received_at),
            time_error_ms: (record.time_error == TimeError::OneSecond).then_some(1000),
        }
    }

    fn record(self) -> Option<Record> {
        let id = match (self.boot, self.seq) {
            (Some(boot), Some(seq)) => {
                Some(SampleId { boot: BootId::parse(&boot)?, seq: Sequence::new(u64::try_from(seq).ok()?)? })
            }
            (None, None) => None,
            _ => return None,
        };
        Some(Record {
            device: DeviceId::new(&self.device).ok()?,
            id,
            status: Status::new(u8::try_from(self.status).ok()?)?,
            sampled_at: time(self.sampled_at),
            time_error: if self.time_error_ms.is_some() { TimeError::OneSecond } else { TimeError::Exact },
            received_at: time(self.received_at),
        })
    }
}

impl StoredTail {
    pub(super) fn entry(&self) -> Result<TailEntry, StoreError> {
        let (slot, number) = place(self.key)?;
        let counts = stored_counts::by_second(&self.seconds)
            .ok_or_else(|| StoreError::Corrupt(format!("the counts of entry {number} of slot {slot}")))?;
        Ok(TailEntry::new(slot, number, counts))
    }
}
