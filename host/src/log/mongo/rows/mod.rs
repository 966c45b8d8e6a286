//! The rows of devices: in pages, so that a row costs little when most of a fleet's are written, and beside them those that
//! have closed boots as documents of their own (`alone.rs`).
//!
//! A row that comes with closed boots is written alone; without, into its page. So a device may have both, and the further
//! one is its row; its closed boots are those of the document of its own, for they did not change since.
//!
//! A page is written as a whole if it is as it was read, so that nothing is lost between two writers, nor by a split.

mod alone;
mod beyond;
mod columns;
mod first;
mod packed;
mod page;
mod salvage;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mongodb::ClientSession;
use mongodb::bson::{Document, doc};
use rollcall_wire::{DeviceId, Slot};
use serde::Deserialize;

pub(super) use self::beyond::{beyond, known};
pub(super) use self::first::first;
use self::page::{Page, StoredPage};
pub(super) use self::salvage::salvage;
use super::{MongoStore, corrupt, unavailable, view};
use crate::log::plan::Upto;
use crate::log::row::Row;
use crate::log::{RowWrite, StoreError};

/// Rows that have closed boots; and pages.
pub(super) const ALONE: &str = "devices";
pub(super) const PAGES: &str = "device_rows";

/// How WiredTiger keeps pages: ids and boots repeat little, but states are alike.
pub(super) const PAGES_PACKED: &str = "block_compressor=zstd";

/// How many pages are read, and then written, at a time, and how many rows that stand alone: a command has 16 MB at most.
/// A page has 8 KB unless its rows are very long, and then it takes 1 MB at a time.
const PAGES_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
const ALONE_AT_ONCE: usize = 8;

/// How often pages are read again that another process writes too.
const TRIES: usize = 16;

/// A page is taken to have so many rows, when it is reckoned how many pages are to be read.
const ROWS_A_PAGE: usize = 64;

/// What earlier calls have found out.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// With which devices the pages of each slot begin, as far as they were looked at; at the first of a slot, there is none.
    /// A page may have been split since: then it says so by its `end`.
    starts: Mutex<[Arc<[String]>; Slot::COUNT]>,
    /// How far rows were.
    checkpoints: Mutex<Upto>,
    /// More than a few rows stand alone.
    many_alone: AtomicBool,
}

impl Directory {
    /// What is known of a slot is not right any more.
    fn forget(&self, slot: Slot) {
        self.lock()[slot.index()] = Arc::default();
    }

    fn checkpoints(&self) -> MutexGuard<'_, Upto> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, [Arc<[String]>; Slot::COUNT]> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Deserialize)]
struct StoredId {
    #[serde(rename = "_id")]
    id: String,
}

/// The `_id` of a device's row that stands alone, and of the page that begins with the device.
fn id(slot: Slot, device: &str) -> String {
    format!("{slot}/{device}")
}

/// The documents of a slot, from this `_id` on. In the order of characters, the slash is followed by 0.
fn from(slot: Slot, start: &str) -> Document {
    doc! { "_id": { "$gte": start, "$lt": format!("{slot}0") } }
}

/// Where the pages of a slot begin; the first one, whether or not it is there.
async fn starts(
    store: &MongoStore,
    session: &mut ClientSession,
    slot: Slot,
) -> Result<Arc<[String]>, StoreError> {
    let known = store.directory.lock()[slot.index()].clone();
    if !known.is_empty() {
        return Ok(known);
    }
    let first = id(slot, "");
    let stored: Vec<StoredId> =
        view::find(store, session, PAGES, from(slot, &first), doc! { "_id": 1 }).await?;
    let others = stored.into_iter().map(|stored| stored.id).filter(|id| *id != first);
    let starts: Arc<[String]> = std::iter::once(first.clone()).chain(others).collect();
    store.directory.lock()[slot.index()] = starts.clone();
    Ok(starts)
}

/// The page that begins last of those that do not begin after this device.
fn page_of(starts: &[String], slot: Slot, device: &str) -> usize {
    let id = id(slot, device);
    starts.partition_point(|start| *start <= id).saturating_sub(1)
}

/// Stores rows, each unless the one that is there is as far or further.
pub(super) async fn write(store: &MongoStore, writes: &[RowWrite]) -> Result<(), StoreError> {
    let rows = || writes.iter().flat_map(|write| write.rows.iter().map(move |row| (write.slot, row)));
    let alone: Vec<_> = rows().filter(|(_, row)| row.closed.is_some()).collect();
    for rows in alone.chunks(ALONE_AT_ONCE) {
        let mut session = store.session().await?;
        let devices: Vec<_> = rows.iter().map(|(slot, row)| (*slot, row.device)).collect();
        // Closed boots that are older than the row in a page would be taken for that one's.
        let stored = some(store, &mut session, &devices).await?;
        let is_further = |row: &Row| stored.get(&row.device).is_none_or(|stored| stored.upto < row.upto);
        let rows = rows.iter().filter(|(_, row)| is_further(row));
        store.update(ALONE, rows.map(|(slot, row)| alone::update(*slot, row)).collect()).await?;
    }
    let paged: Vec<_> = rows().filter(|(_, row)| row.closed.is_none()).collect();
    let (mut written, mut tries) = (0, 0);
    while written < paged.len() {
        match write_some(store, &paged[written..]).await? {
            0 => tries += 1,
            some => (written, tries) = (written + some, 0),
        }
        if tries == TRIES {
            let slot = paged[written].0;
            return Err(StoreError::Unavailable(format!(
                "the rows of slot {slot} change while they are written, or one of their pages is gone: rollcall doctor \
                 tells whether it is"
            )));
        }
    }
    Ok(())
}

/// Stores the first of these rows; how many, and none when a page is not as it was thought to be.
async fn write_some(store: &MongoStore, rows: &[(Slot, &Row)]) -> Result<usize, StoreError> {
    let mut session = store.session().await?;
    let runs = runs(store, &mut session, rows).await?;
    let ids: Vec<_> = runs.iter().map(|run| run.page.as_str()).collect();
    let mut stored = pages(store, &mut session, doc! { "_id": { "$in": ids } }).await?;
    let (mut changed, mut taken, mut bytes) = (Vec::new(), 0, 0);
    for run in &runs {
        let mut page = match stored.remove(&run.page) {
            Some(page) => page,
            None if run.is_only => Page::new(run.page.clone(), String::new()),
            None => return Err(gone(run.slot)),
        };
        if !page.split().is_empty() || !run.rows.iter().all(|row| page.takes(&row.device)) {
            store.directory.forget(run.slot);
            return end_split(store, &page, false).await.map(|()| 0);
        }
        let (some, is_changed) = page.take(run.slot, &run.rows);
        taken += some;
        bytes += page.bytes();
        if is_changed {
            changed.push((run.slot, page));
        }
        if some < run.rows.len() || bytes > BYTES_AT_ONCE {
            break;
        }
    }
    let as_they_were =
        store.update_all(PAGES, changed.iter().map(|(_, page)| page.store()).collect()).await?;
    for (slot, page) in &changed {
        if !as_they_were || !page.split().is_empty() {
            store.directory.forget(*slot);
        }
        if as_they_were {
            end_split(store, page, true).await?;
        }
    }
    Ok(if as_they_were { taken } else { 0 })
}

/// Rows that belong to one page.
struct Run<'a> {
    slot: Slot,
    page: String,
    /// Is it the only page of its slot?
    is_only: bool,
    rows: Vec<&'a Row>,
}

/// The first of these rows, page by page.
async fn runs<'a>(
    store: &MongoStore,
    session: &mut ClientSession,
    rows: &[(Slot, &'a Row)],
) -> Result<Vec<Run<'a>>, StoreError> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    for of_slot in rows.chunk_by(|(one, _), (other, _)| one == other) {
        let slot = of_slot[0].0;
        let starts = starts(store, session, slot).await?;
        for (_, row) in of_slot {
            let page = &starts[page_of(&starts, slot, row.device.as_str())];
            if let Some(run) = runs.last_mut().filter(|run| run.page == *page) {
                run.rows.push(row);
            } else if runs.len() == PAGES_AT_ONCE {
                return Ok(runs);
            } else {
                runs.push(Run { slot, page: page.clone(), is_only: starts.len() == 1, rows: vec![row] });
            }
        }
    }
    Ok(runs)
}

/// Does what is left of a split, if there is something. Somebody else may do the same.
async fn end_split(store: &MongoStore, page: &Page, was_stored: bool) -> Result<(), StoreError> {
    if page.split().is_empty() {
        return Ok(());
    }
    store.update(PAGES, page.insert_split()).await?;
    store.update(PAGES, vec![page.end_split(was_stored)]).await
}

/// The pages that a filter finds.
async fn pages(
    store: &MongoStore,
    session: &mut ClientSession,
    filter: Document,
) -> Result<BTreeMap<String, Page>, StoreError> {
    let stored: Vec<StoredPage> = view::find_unordered(store, session, PAGES, filter, doc! {}).await?;
    let pages = stored.into_iter().map(|stored| Page::read(stored).map(|page| (page.id.clone(), page)));
    pages.collect()
}

/// The page that begins where this one ends; `None` after the last one of a slot.
fn page_after(slot: Slot, page: &str, end: &str) -> Result<Option<String>, StoreError> {
    let next = (!end.is_empty()).then(|| id(slot, end));
    if next.as_deref().is_some_and(|next| next <= page) {
        return Err(StoreError::Corrupt(format!("the page of rows {page} ends before it begins")));
    }
    Ok(next)
}

fn gone(slot: Slot) -> StoreError {
    StoreError::Corrupt(format!("a page of the rows of slot {slot} is gone"))
}

/// Puts a row to others, if it is further than the one that is there.
fn put(rows: &mut BTreeMap<DeviceId, Row>, row: Row) {
    match rows.entry(row.device) {
        Entry::Vacant(entry) => drop(entry.insert(row)),
        Entry::Occupied(mut entry) => {
            let held = entry.get_mut();
            let closed = held.closed.take().or_else(|| row.closed.clone());
            if held.upto < row.upto {
                *held = row;
            }
            held.closed = closed;
        }
    }
}

/// The rows of a slot in the order of their devices, those after `after` and `limit` at most.
pub(super) async fn read(
    store: &MongoStore,
    session: &mut ClientSession,
    slot: Slot,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    // In this order: a row in a page has the closed boots that stood alone when it was written, or ones that came later
    // with a further row.
    let paged = read_pages(store, session, slot, after, limit).await?;
    let alone = alone::after(store, session, slot, after, limit).await?;
    // Where one of them was cut off, more of it may come behind its last one.
    let cut = |rows: &[Row]| if rows.len() < limit { None } else { rows.last().map(|row| row.device) };
    let end = cut(&alone).into_iter().chain(cut(&paged)).min();
    let mut rows = BTreeMap::new();
    alone.into_iter().chain(paged).for_each(|row| put(&mut rows, row));
    let rows = rows.into_values().filter(|row| end.is_none_or(|end| row.device <= end));
    Ok(rows.take(limit).collect())
}

/// Of the rows that are in pages, those after `after`, `limit` at least if there are as many.
async fn read_pages(
    store: &MongoStore,
    session: &mut ClientSession,
    slot: Slot,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let after_id = after.as_ref().map_or("", DeviceId::as_str);
    let starts = starts(store, session, slot).await?;
    let start = starts[page_of(&starts, slot, after_id)].clone();
    let collection = store.database().collection::<StoredPage>(PAGES);
    let mut rows = BTreeMap::new();
    // Where the next page begins, and how far rows were read, which is further where a page is being split: what it has
    // split off may stand in pages of its own already, and have changed there. `None` is the end of the slot.
    let (mut next, mut covered) = (Some(start.clone()), Some(start));
    while let Some(from_id) = &next {
        let most = (limit.saturating_sub(rows.len()) / ROWS_A_PAGE + 1).min(PAGES_AT_ONCE);
        let find = collection.find(from(slot, from_id)).sort(doc! { "_id": 1 }).limit(most as i64);
        let mut cursor = find.session(&mut *session).await.map_err(unavailable)?;
        let mut read = 0;
        while cursor.advance(session).await.map_err(unavailable)? {
            let page = Page::read(cursor.deserialize_current().map_err(corrupt)?)?;
            if covered.as_ref().is_some_and(|covered| page.id > *covered) {
                return Err(gone(slot));
            }
            read += 1;
            next = page_after(slot, &page.id, &page.end)?;
            covered = match (covered, page_after(slot, &page.id, page.last_end())?) {
                (Some(before), Some(now)) => Some(before.max(now)),
                _ => None,
            };
            page.into_rows().into_iter().for_each(|row| put(&mut rows, row));
        }
        rows.retain(|device, _| after.is_none_or(|after| *device > after));
        if read < most {
            break;
        }
        let is_certain =
            |device: &DeviceId| next.as_ref().is_none_or(|next| id(slot, device.as_str()) < *next);
        if rows.keys().filter(|device| is_certain(device)).count() >= limit {
            rows.retain(|device, _| is_certain(device));
            return Ok(rows.into_values().collect());
        }
    }
    // There may be no page at all.
    if covered.is_some_and(|covered| !covered.ends_with('/')) {
        return Err(gone(slot));
    }
    Ok(rows.into_values().collect())
}

/// The rows of these devices of these slots, without their closed boots.
pub(super) async fn some(
    store: &MongoStore,
    session: &mut ClientSession,
    devices: &[(Slot, DeviceId)],
) -> Result<BTreeMap<DeviceId, Row>, StoreError> {
    for tries in 0..TRIES {
        let mut page_ids = BTreeMap::new();
        for (slot, device) in devices {
            let starts = starts(store, session, *slot).await?;
            page_ids.insert(*device, starts[page_of(&starts, *slot, device.as_str())].clone());
        }
        let ids: BTreeSet<_> = page_ids.values().collect();
        let filter = doc! { "_id": { "$in": ids.into_iter().collect::<Vec<_>>() } };
        // Side by side; each sees at least what was seen before, and whatever is read later at least what both see.
        let mut beside = store.session().await?;
        view::follow(&mut beside, session);
        let (pages, alone) =
            tokio::try_join!(pages(store, session, filter), alone::some(store, &mut beside, devices))?;
        view::follow(session, &beside);
        // What a page has split off may stand in a page of its own already. When it was just looked which pages there are,
        // and there was none, that is where it is.
        let has_moved =
            |device: &DeviceId| pages.get(&page_ids[device]).is_some_and(|page| !page.has(device, tries > 0));
        let moved: Vec<_> = devices.iter().filter(|(_, device)| has_moved(device)).collect();
        if moved.is_empty() {
            let rows = pages.into_values().flat_map(Page::into_rows);
            let mut found = BTreeMap::new();
            let of_these = rows.filter(|row| page_ids.contains_key(&row.device));
            of_these.chain(alone).for_each(|row| put(&mut found, row));
            return Ok(found);
        }
        moved.into_iter().for_each(|(slot, _)| store.directory.forget(*slot));
    }
    Err(StoreError::Corrupt("a page of rows is gone".to_owned()))
}
