//! Windows and checkpoints as documents, and the updates that move them on.
//!
//! A window says per slot which entries it holds (`upto`), so that adding a chunk twice changes nothing:
//! `{_id: 1721433660, upto: {a: 128}, counts: {3: 17}, seconds: {16: {3: 17}}}`, `seconds` in minutes only.

use std::collections::BTreeMap;
use std::ops::Range;

use mongodb::bson::{Document, doc};
use rollcall_wire::Slot;
use serde::Deserialize;

use super::stored_counts::{StoredCounts, StoredSeconds, add, named};
use crate::log::plan::{Upto, Window};
use crate::log::rollup::{self, Chunk, Resolution};
use crate::log::{Checkpoint, StoreError, WindowRow};
use crate::model::{BySecond, Counts};

#[derive(Debug, Deserialize)]
pub(super) struct StoredWindow {
    #[serde(rename = "_id")]
    start: i64,
    #[serde(default)]
    upto: BTreeMap<String, i64>,
    #[serde(default)]
    counts: StoredCounts,
    #[serde(default)]
    seconds: StoredSeconds,
}

#[derive(Debug, Deserialize)]
pub(super) struct StoredCheckpoint {
    #[serde(rename = "_id")]
    slot: i32,
    /// How far the windows are; absent when only rows were written yet.
    #[serde(default)]
    next: i64,
    /// How far the rows of devices are.
    #[serde(default)]
    rows: i64,
}

/// The collection of a resolution's windows.
pub(super) const fn collection(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Minute => "minutes",
        Resolution::Hour => "hours",
        Resolution::Day => "days",
    }
}

/// The statements of an `update` command that adds a chunk to the windows of one resolution.
pub(super) fn window_updates(chunk: &Chunk, resolution: Resolution) -> Vec<Document> {
    let upto = format!("upto.{}", chunk.slot);
    let end = chunk.entries.end.cast_signed();
    let windows = rollup::windows(&chunk.counts, resolution).into_iter().map(|(start, counts)| {
        let mut add = Document::new();
        increments(&mut add, "counts", &counts);
        if resolution == Resolution::Minute {
            for (second, counts) in chunk.counts.range(start..start + resolution.seconds()) {
                increments(&mut add, &format!("seconds.{}", second - start), counts);
            }
        }
        doc! {
            // Matches a window that lacks the slot too, which `$lt` would not.
            "q": { "_id": start.cast_signed(), &upto: { "$not": { "$gte": end } } },
            "u": { "$inc": add, "$set": { &upto: end } },
            "upsert": true,
        }
    });
    windows.collect()
}

fn increments(add: &mut Document, path: &str, counts: &Counts) {
    for (name, count) in named(counts) {
        add.insert(format!("{path}.{name}"), count);
    }
}

/// The statement that moves a checkpoint to the end of a chunk.
pub(super) fn checkpoint_update(chunk: &Chunk) -> Document {
    forward(chunk.slot, "next", chunk.entries.end)
}

/// The statement that moves the checkpoint of rows.
pub(super) fn rows_checkpoint_update(slot: Slot, upto: u64) -> Document {
    forward(slot, "rows", upto)
}

fn forward(slot: Slot, field: &str, upto: u64) -> Document {
    let upto = upto.cast_signed();
    doc! {
        "q": { "_id": slot.index() as i32, field: { "$not": { "$gte": upto } } },
        "u": { "$set": { field: upto } },
        "upsert": true,
    }
}

impl StoredWindow {
    /// All that it holds.
    pub(super) fn row(&self, resolution: Resolution) -> Result<WindowRow, StoreError> {
        let start = self.start.cast_unsigned();
        let row = || {
            let (mut counts, mut seconds) = (Counts::default(), BySecond::new());
            add(&mut counts, &self.counts)?;
            for (second, counts) in &self.seconds {
                add(seconds.entry(start.checked_add(second.parse().ok()?)?).or_default(), counts)?;
            }
            Some(WindowRow { start, counts, seconds, upto: self.upto()? })
        };
        row().ok_or_else(|| self.unreadable(resolution))
    }

    fn upto(&self) -> Option<Upto> {
        let mut upto: Upto = [0; Slot::COUNT];
        for (slot, next) in &self.upto {
            *upto.get_mut(usize::from_str_radix(slot, 16).ok()?)? = next.cast_unsigned();
        }
        Some(upto)
    }

    fn unreadable(&self, resolution: Resolution) -> StoreError {
        StoreError::Corrupt(format!("{} {}", collection(resolution), self.start))
    }

    /// Its seconds.
    pub(super) fn range(&self, resolution: Resolution) -> Range<u64> {
        let start = self.start.cast_unsigned();
        start..start + resolution.seconds()
    }

    /// A part of the window; the whole window is read from its sum.
    pub(super) fn part(&self, resolution: Resolution, range: Range<u64>) -> Result<Window, StoreError> {
        let all = self.range(resolution);
        let unreadable = || self.unreadable(resolution);
        let mut sum = Counts::default();
        if range == all {
            add(&mut sum, &self.counts).ok_or_else(unreadable)?;
        } else {
            for (second, counts) in &self.seconds {
                let second: u64 = second.parse().map_err(|_| unreadable())?;
                if range.contains(&(all.start + second)) {
                    add(&mut sum, counts).ok_or_else(unreadable)?;
                }
            }
        }
        Ok(Window { range, counts: sum, upto: self.upto().ok_or_else(unreadable)? })
    }
}

impl StoredCheckpoint {
    /// The slot's index and how far it is.
    pub(super) fn place(&self) -> Result<(Slot, u64), StoreError> {
        let slot = u8::try_from(self.slot).ok().and_then(Slot::new);
        let slot =
            slot.ok_or_else(|| StoreError::Corrupt(format!("there is a checkpoint of slot {}", self.slot)))?;
        Ok((slot, self.next.cast_unsigned()))
    }

    pub(super) fn checkpoint(self) -> Checkpoint {
        Checkpoint { windows: self.next.cast_unsigned(), rows: self.rows.cast_unsigned() }
    }
}
