//! Windows and checkpoints as documents, and the updates that move them on.
//!
//! A window says per slot which entries it holds (`upto`), so that adding a chunk twice changes nothing:
//! `{_id: 1721433660, upto: {a: 128}, counts: {3: 17}, seconds: {16: {3: 17}}}`, `seconds` in minutes only, and in hours
//! `minutes`. Earlier versions wrote no `minutes`: they are all of an hour's where they add up to its `counts`, for an update
//! adds the same to both, and never less than nothing.

use std::ops::Range;

use mongodb::bson::{Document, doc};
use rollcall_wire::Slot;
use serde::Deserialize;

use super::stored_counts::{FromNames, Named, StoredCounts, StoredParts, named};
use crate::log::plan::{Upto, Window};
use crate::log::rollup::{self, Chunk, Resolution};
use crate::log::{Checkpoint, StoreError, WindowRow};
use crate::model::{self, BySecond, Counts};

#[derive(Debug, Deserialize)]
pub(super) struct StoredWindow {
    #[serde(rename = "_id")]
    start: i64,
    #[serde(default)]
    upto: Named<Upto>,
    #[serde(default)]
    counts: StoredCounts,
    #[serde(default)]
    seconds: StoredParts,
    #[serde(default)]
    minutes: StoredParts,
}

impl FromNames for Upto {
    type Value = i64;

    fn take(&mut self, slot: &str, next: i64) -> Option<()> {
        *self.get_mut(usize::from_str_radix(slot, 16).ok()?)? = next.cast_unsigned();
        Some(())
    }
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
    let parts = match resolution {
        Resolution::Minute => Some(("seconds", 1, chunk.counts.clone())),
        Resolution::Hour => {
            let minute = Resolution::Minute;
            Some(("minutes", minute.seconds(), rollup::windows(&chunk.counts, minute)))
        }
        Resolution::Day => None,
    };
    let windows = rollup::windows(&chunk.counts, resolution).into_iter().map(|(start, counts)| {
        let mut add = Document::new();
        increments(&mut add, "counts", &counts);
        if let Some((field, seconds, parts)) = &parts {
            for (part, counts) in parts.range(start..start + resolution.seconds()) {
                increments(&mut add, &format!("{field}.{}", (part - start) / seconds), counts);
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
        let row = || {
            let parts = match resolution {
                Resolution::Minute => self.parts(&self.seconds, 1)?,
                Resolution::Hour => self.minutes()?,
                Resolution::Day => BySecond::new(),
            };
            let start = self.start.cast_unsigned();
            Some(WindowRow { start, counts: *self.counts.get()?, parts, upto: *self.upto.get()? })
        };
        row().ok_or_else(|| self.unreadable(resolution))
    }

    /// The sums of its parts of so many seconds, by the first second of each.
    fn parts(&self, parts: &StoredParts, seconds: u64) -> Option<BySecond> {
        let at = |part: u64| self.start.cast_unsigned().checked_add(part.checked_mul(seconds)?);
        parts.get()?.iter().map(|(part, counts)| Some((at(*part)?, *counts))).collect()
    }

    /// The sums of an hour's minutes, if all of them are there, and otherwise none.
    fn minutes(&self) -> Option<BySecond> {
        let minutes = self.parts(&self.minutes, Resolution::Minute.seconds())?;
        let are_all = model::sum(&minutes, 0..u64::MAX) == *self.counts.get()?;
        Some(if are_all { minutes } else { BySecond::new() })
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
        let sum = || {
            if range == all {
                return self.counts.get().copied();
            }
            let mut sum = Counts::default();
            for (second, counts) in self.seconds.get()? {
                if range.contains(&all.start.checked_add(*second)?) {
                    sum += *counts;
                }
            }
            Some(sum)
        };
        let part = sum().zip(self.upto.get());
        let (counts, upto) = part.ok_or_else(|| self.unreadable(resolution))?;
        Ok(Window { range, counts, upto: *upto })
    }

    /// The minutes of an hour that lie in a range of whole ones; `None` when not all of the hour's are there.
    pub(super) fn minutes_in(&self, range: Range<u64>) -> Result<Option<Vec<Window>>, StoreError> {
        let minutes = || {
            let upto = *self.upto.get()?;
            let minutes = self.minutes()?;
            let window = |(start, counts): (&u64, &Counts)| {
                let range = *start..start + Resolution::Minute.seconds();
                Window { range, counts: *counts, upto }
            };
            Some((!minutes.is_empty()).then(|| minutes.range(range).map(window).collect()))
        };
        minutes().ok_or_else(|| self.unreadable(Resolution::Hour))
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
