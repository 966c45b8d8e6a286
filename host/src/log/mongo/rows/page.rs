//! A page: the rows of devices whose ids are neighbours, packed into one document,
//! `{_id: "3/porch-17", version: 5, end: "quay-2", rows: …}`. It has those from the device in its `_id` on, up to `end`.
//!
//! A page that grows too long is split in one statement: it keeps its first rows, and has the rest as `split`, as the pages
//! that they become. These are then inserted, and `split` is taken away. Whoever comes upon a `split` can do the rest.

use std::collections::BTreeMap;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use rollcall_wire::{DeviceId, Slot};
use serde::{Deserialize, Serialize};

use crate::log::StoreError;
use crate::log::devices::Sealed;
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
    rows: Binary,
}

/// A row as it is packed.
#[derive(Serialize)]
struct Packed<'a> {
    device: &'a str,
    upto: u64,
    state: &'a [u8],
    sealed: &'a [Sealed],
}

/// The same, of which nothing was looked at but the device.
#[derive(Deserialize)]
pub(super) struct Unread<'a> {
    pub(super) device: &'a str,
    upto: u64,
    state: &'a [u8],
    #[serde(borrow)]
    sealed: Vec<(u64, &'a [u8])>,
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
    split: Vec<Page>,
}

impl StoredPage {
    pub(super) fn is_being_split(&self) -> bool {
        !self.split.is_empty()
    }

    /// Its rows after `after`.
    pub(super) fn after<'a>(&'a self, after: &str) -> Result<impl Iterator<Item = Unread<'a>>, StoreError> {
        Ok(unread(&self.id, &self.rows)?.into_iter().filter(move |row| row.device > after))
    }
}

impl Page {
    /// One that is not stored yet.
    pub(super) fn new(id: String, end: String) -> Self {
        Self { id, version: 0, end, rows: BTreeMap::new(), split: Vec::new() }
    }

    pub(super) fn read(stored: StoredPage) -> Result<Self, StoreError> {
        let split = stored
            .split
            .into_iter()
            .map(|part| Ok(Self { rows: unpacked(&part.id, &part.rows)?, ..Self::new(part.id, part.end) }));
        Ok(Self {
            version: stored.version,
            rows: unpacked(&stored.id, &stored.rows)?,
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
        let row =
            |row: &Row| row.state.len() + row.sealed.iter().map(|sealed| sealed.minutes.len()).sum::<usize>();
        self.rows.values().map(row).sum::<usize>() + self.split.iter().map(Self::bytes).sum::<usize>()
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
        let (mut bytes, mut taken, mut changed) = (0, 0, false);
        for row in rows {
            taken += 1;
            let further = self.rows.get(&row.device).is_none_or(|held| held.upto < row.upto);
            if further {
                bytes +=
                    row.state.len() + row.sealed.iter().map(|sealed| sealed.minutes.len()).sum::<usize>();
                self.rows.insert(row.device, (*row).clone());
                changed = true;
            }
            if bytes >= TAKE_BYTES {
                break;
            }
        }
        self.cut(slot);
        (taken, changed)
    }

    /// Splits it, if it is too long.
    fn cut(&mut self, slot: Slot) {
        let lengths: Vec<_> = self.rows.values().map(|row| packed([row]).len()).collect();
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
        let part = |page: &Self| doc! { "_id": &page.id, "end": &page.end, "rows": binary(&page.rows) };
        let mut set = doc! { "version": self.version + 1, "end": &self.end, "rows": binary(&self.rows) };
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

fn packed<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<u8> {
    let packed = rows.into_iter().map(|row| Packed {
        device: row.device.as_str(),
        upto: row.upto,
        state: &row.state,
        sealed: &row.sealed,
    });
    let packed: Vec<_> = packed.collect();
    postcard::to_allocvec(&packed).expect("plain data always serialises into memory")
}

fn binary(rows: &BTreeMap<DeviceId, Row>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: packed(rows.values()) }
}

fn unpacked(id: &str, rows: &Binary) -> Result<BTreeMap<DeviceId, Row>, StoreError> {
    let rows = unread(id, rows)?;
    let rows = rows.into_iter().map(|row| row.row().map(|row| (row.device, row)));
    rows.collect::<Option<_>>().ok_or_else(|| corrupt(id))
}

fn unread<'a>(id: &str, rows: &'a Binary) -> Result<Vec<Unread<'a>>, StoreError> {
    let (unread, rest) = postcard::take_from_bytes(&rows.bytes).map_err(|_| corrupt(id))?;
    if rest.is_empty() { Ok(unread) } else { Err(corrupt(id)) }
}

fn corrupt(id: &str) -> StoreError {
    StoreError::Corrupt(format!("the rows of devices from {id} on"))
}

impl Unread<'_> {
    /// What it is, if it is one.
    pub(super) fn row(self) -> Option<Row> {
        let device = DeviceId::new(self.device).ok()?;
        let sealed = self.sealed.into_iter().map(|(below, minutes)| Sealed::of_stored(below, minutes));
        let sealed = sealed.collect::<Option<_>>()?;
        Some(Row { device, upto: self.upto, state: self.state.to_vec(), sealed, closed: None })
    }
}
