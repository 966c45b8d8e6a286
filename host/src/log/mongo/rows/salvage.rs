//! What can be read of rows where some cannot, in a database that nobody else uses.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::{Document, doc, from_document};
use rollcall_wire::{DeviceId, Slot};

use super::alone::{self, StoredRow};
use super::page::{Page, StoredPage};
use super::{ALONE, ALONE_AT_ONCE, PAGES, from, id, put, read};
use crate::log::mongo::{MongoStore, unavailable, view};
use crate::log::row::{ClosedBoots, DeviceState, Row};
use crate::log::{StoreError, mongo};

/// How many rows are read at a time.
const READ_ROWS: usize = 4096;

/// Leaves rows that can be read, and takes away what cannot. It may be cut off and begun again.
pub(in crate::log::mongo) async fn salvage(store: &MongoStore) -> Result<(), StoreError> {
    for slot in Slot::all() {
        match are_readable(store, slot).await {
            Ok(true) => {}
            Ok(false) | Err(StoreError::Corrupt(_)) => salvage_slot(store, slot).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn are_readable(store: &MongoStore, slot: Slot) -> Result<bool, StoreError> {
    let mut after = None;
    loop {
        let mut session = store.session().await?;
        let rows = mongo::in_time(read(store, &mut session, slot, after, READ_ROWS)).await?;
        if !rows.iter().all(is_readable) {
            return Ok(false);
        }
        after = rows.last().map(|row| row.device);
        if rows.len() < READ_ROWS {
            return Ok(true);
        }
    }
}

fn is_readable(row: &Row) -> bool {
    let closed = row.closed.as_deref().map(ClosedBoots::from_bytes);
    DeviceState::from_bytes(&row.state).is_some() && !matches!(closed, Some(None))
}

/// Stores what can be read as rows of their own, and then takes the pages away.
async fn salvage_slot(store: &MongoStore, slot: Slot) -> Result<(), StoreError> {
    let mut session = store.session().await?;
    let of_slot = from(slot, &id(slot, ""));
    let mut rows = BTreeMap::new();
    let mut unreadable = BTreeSet::new();
    for document in view::find::<Document>(store, &mut session, ALONE, of_slot.clone(), doc! {}).await? {
        let name = document.get_str("_id").unwrap_or_default().to_owned();
        match from_document::<StoredRow>(document).map_err(mongo::corrupt).and_then(StoredRow::row) {
            Ok(row) if is_readable(&row) => put(&mut rows, row),
            _ => drop(unreadable.insert(name)),
        }
    }
    for document in view::find::<Document>(store, &mut session, PAGES, of_slot.clone(), doc! {}).await? {
        let page = from_document::<StoredPage>(document).map_err(mongo::corrupt).and_then(Page::read);
        page.map(Page::into_rows).unwrap_or_default().into_iter().for_each(|row| put(&mut rows, row));
    }
    // Without its closed boots a row knows too little.
    let is_whole = |device: &DeviceId, row: &mut Row| {
        is_readable(row) && !unreadable.contains(&id(slot, device.as_str()))
    };
    rows.retain(is_whole);
    let rows: Vec<_> = rows.into_values().collect();
    for rows in rows.chunks(ALONE_AT_ONCE) {
        store.update(ALONE, rows.iter().map(|row| alone::update(slot, row)).collect()).await?;
    }
    let alone = store.database().collection::<Document>(ALONE);
    let ids: Vec<_> = unreadable.into_iter().collect();
    alone.delete_many(doc! { "_id": { "$in": ids } }).await.map_err(unavailable)?;
    let pages = store.database().collection::<Document>(PAGES);
    pages.delete_many(of_slot).await.map_err(unavailable)?;
    store.directory.forget(slot);
    Ok(())
}
