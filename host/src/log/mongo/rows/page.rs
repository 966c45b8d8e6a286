//! A page: the rows of devices whose ids are neighbours, packed into one document,
//! `{_id: "3/porch-17", version: 5, end: "quay-2", ids: …, rows: …}`. It has those from the device in its `_id` on, up to `end`.
//!
//! A page that grows too long is split in one statement: it keeps its first rows, and has the rest as `split`, as the pages
//! that they become. These are then inserted, and `split` is taken away. Whoever comes upon a `split` can do the rest.

use std::collections::BTreeMap;

use mongodb::bson::{Binary, Bson, Document, doc};
use rollcall_wire::{DeviceId, Slot};
use serde::Deserialize;

use super::packed::{Packed, PackedRows, pack};
use crate::log::StoreError;
use crate::log::row::Row;

/// A page with more bytes of rows than these is split: some hundred rows. What a document costs beside its bytes (350, with
/// the journal) is little then, and of a fleet that sends seldom not too much is written that has not changed.
const PAGE_BYTES: usize = 8 * 1024;

/// The pages that a page is split into are filled so far, so that all can grow.
const SPLIT_BYTES: usize = PAGE_BYTES / 2;

/// No page takes more bytes at a time, beyond one row: a document has 16 MB at most.
const TAKE_BYTES: usize = 1024 * 1024;

/// As it is stored.
#[derive(Debug, Deserialize)]
pub(super) struct StoredPage {
    #[serde(rename = "_id")]
    pub(super) id: String,
    version: i64,
    /// The device with which the next page begins; empty when there is none.
    pub(super) end: String,
    /// Absent in formats before 15.
    ids: Option<Binary>,
    rows: Binary,
    #[serde(default)]
    split: Vec<StoredPart>,
}

/// A page that is not inserted yet.
#[derive(Debug, Deserialize)]
struct StoredPart {
    #[serde(rename = "_id")]
    id: String,
    end: String,
    /// Absent in formats before 15.
    ids: Option<Binary>,
    rows: Binary,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) id: String,
    /// 0 when it is not stored yet; each change counts it up.
    version: i64,
    /// The device with which the next page begins; empty when there is none.
    pub(super) end: String,
    rows: BTreeMap<DeviceId, Row>,
    /// How many bytes what changes of its rows takes as it is stored.
    room: usize,
    split: Vec<Page>,
}

impl StoredPage {
    pub(super) fn is_being_split(&self) -> bool {
        !self.split.is_empty()
    }

    pub(super) fn rows(&self) -> Result<PackedRows<'_>, StoreError> {
        packed(&self.id, self.ids.as_ref(), &self.rows)
    }
}

impl Page {
    /// One that is not stored yet.
    pub(super) fn new(id: String, end: String) -> Self {
        Self { id, version: 0, end, rows: BTreeMap::new(), room: 0, split: Vec::new() }
    }

    pub(super) fn read(stored: StoredPage) -> Result<Self, StoreError> {
        let split = stored.split.into_iter().map(|part| {
            let rows = unpacked(&part.id, part.ids.as_ref(), &part.rows)?;
            Ok(Self { rows, ..Self::new(part.id, part.end) })
        });
        Ok(Self {
            version: stored.version,
            rows: unpacked(&stored.id, stored.ids.as_ref(), &stored.rows)?,
            room: stored.rows.bytes.len(),
            split: split.collect::<Result<_, StoreError>>()?,
            ..Self::new(stored.id, stored.end)
        })
    }

    /// The pages that it is being split into, beside itself.
    pub(super) fn split(&self) -> &[Self] {
        &self.split
    }

    /// Where the pages begin that come after it and what it is being split into.
    pub(super) fn last_end(&self) -> &str {
        &self.split.last().unwrap_or(self).end
    }

    /// Do rows of this device belong to it?
    pub(super) fn takes(&self, device: &DeviceId) -> bool {
        self.has(device, false)
    }

    /// Do rows of this device belong to it, or `or_split`, to what it is being split into?
    pub(super) fn has(&self, device: &DeviceId, or_split: bool) -> bool {
        let end = if or_split { self.last_end() } else { &self.end };
        end.is_empty() || device.as_str() < end
    }

    /// About how many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        self.rows.values().map(bytes).sum::<usize>() + self.split.iter().map(Self::bytes).sum::<usize>()
    }

    /// All rows that are in it, those of its `split` too.
    pub(super) fn into_rows(self) -> Vec<Row> {
        let mut rows: Vec<_> = self.rows.into_values().collect();
        rows.extend(self.split.into_iter().flat_map(Self::into_rows));
        rows
    }

    /// Takes rows, each unless the one that is there is as far or further; how many it has taken or had, which are fewer
    /// than there are when they are very long. Is it another one then?
    pub(super) fn take(&mut self, slot: Slot, rows: &[&Row]) -> (usize, bool) {
        let (mut taken_bytes, mut taken, mut changed) = (0, 0, false);
        for row in rows {
            taken += 1;
            let further = self.rows.get(&row.device).is_none_or(|held| held.upto < row.upto);
            if further {
                taken_bytes += bytes(row);
                self.rows.insert(row.device, (*row).clone());
                changed = true;
            }
            if taken_bytes >= TAKE_BYTES {
                break;
            }
        }
        self.cut(slot);
        (taken, changed)
    }

    /// Splits it, if it is too long.
    fn cut(&mut self, slot: Slot) {
        let lengths: Vec<_> = self.rows.values().map(bytes).collect();
        if lengths.iter().sum::<usize>() <= PAGE_BYTES {
            return;
        }
        let mut firsts = Vec::new();
        let mut filled = 0;
        for (device, length) in self.rows.keys().zip(lengths) {
            if filled > 0 && filled + length > SPLIT_BYTES {
                firsts.push(*device);
                filled = 0;
            }
            filled += length;
        }
        let mut end = std::mem::take(&mut self.end);
        for first in firsts.into_iter().rev() {
            let rows = self.rows.split_off(&first);
            let next = std::mem::replace(&mut end, first.to_string());
            self.split.push(Self { rows, ..Self::new(super::id(slot, first.as_str()), next) });
        }
        self.split.reverse();
        self.end = end;
    }

    /// The statement that stores it, if it is still as it was read.
    pub(super) fn store(&self) -> Document {
        let part = |page: &Self| {
            let Packed { ids, rows } = pack(page.rows.values(), 0);
            doc! { "_id": &page.id, "end": &page.end, "ids": ids, "rows": rows }
        };
        let Packed { ids, rows } = pack(self.rows.values(), self.room);
        let mut set = doc! { "version": self.version + 1, "end": &self.end, "ids": ids, "rows": rows };
        if !self.split.is_empty() {
            set.insert("split", self.split.iter().map(part).collect::<Vec<_>>());
        }
        let version =
            if self.version == 0 { Bson::from(doc! { "$exists": false }) } else { self.version.into() };
        doc! { "q": { "_id": &self.id, "version": version }, "u": { "$set": set }, "upsert": self.version == 0 }
    }

    /// The statements that insert what it is split into, each unless it is there.
    pub(super) fn insert_split(&self) -> Vec<Document> {
        self.split.iter().map(Self::store).collect()
    }

    /// The statement that takes `split` away, if the page is as it was read, or as it was stored if it `was_stored`.
    pub(super) fn end_split(&self, was_stored: bool) -> Document {
        let version = self.version + i64::from(was_stored);
        doc! {
            "q": { "_id": &self.id, "version": version },
            "u": { "$unset": { "split": "" }, "$inc": { "version": 1_i64 } },
        }
    }
}

/// About how many bytes a row takes.
fn bytes(row: &Row) -> usize {
    let sealed = row.sealed.iter().map(|sealed| sealed.minutes.len());
    row.device.as_str().len() + row.state.len() + sealed.sum::<usize>()
}

fn packed<'a>(id: &str, ids: Option<&'a Binary>, rows: &'a Binary) -> Result<PackedRows<'a>, StoreError> {
    PackedRows::read(ids, rows).ok_or_else(|| corrupt(id))
}

fn unpacked(id: &str, ids: Option<&Binary>, rows: &Binary) -> Result<BTreeMap<DeviceId, Row>, StoreError> {
    let rows = packed(id, ids, rows)?;
    let rows = rows.iter().map(|row| row.row().map(|row| (row.device, row)));
    rows.collect::<Option<_>>().ok_or_else(|| corrupt(id))
}

fn corrupt(id: &str) -> StoreError {
    StoreError::Corrupt(format!("the rows of devices from {id} on"))
}
