//! The rows of all slots in one order: the pages of all slots in one question, and with them those behind them that may be
//! wanted; beside these the rows that stand alone.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::ClientSession;
use mongodb::bson::doc;
use rollcall_wire::{DeviceId, Slot};

use super::packed::PackedRows;
use super::page::StoredPage;
use super::{PAGES, PAGES_AT_ONCE, alone, page_after, page_of, put, starts};
use crate::log::mongo::{MongoStore, view};
use crate::log::row::Row;
use crate::log::{StoreError, merge};

/// Where more stand alone, slot is read by slot.
const ALONE_MAX: usize = 1024;

/// So few rows are taken to be in a page that is read ahead, for one too many costs less than another question: rows of 100
/// messages in a day come 25 to a page.
const ROWS_AHEAD: usize = 12;

/// The rows of all slots in the order of their devices, without closed boots, those after `after` and `limit` at most.
pub(in crate::log::mongo) async fn first(
    store: &MongoStore,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    match at_once(store, after, limit).await? {
        Some(rows) => Ok(rows),
        None => merge::first_rows(store, after, limit).await,
    }
}

/// `None` where a page is being split, is gone, or too many rows stand alone.
async fn at_once(
    store: &MongoStore,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Option<Vec<Row>>, StoreError> {
    let mut session = store.session().await?;
    let after_id = after.as_ref().map_or("", DeviceId::as_str);
    let mut of_slots = Vec::new();
    for slot in Slot::all() {
        of_slots.push((slot, starts(store, &mut session, slot).await?));
    }
    // The page of each slot that is to be read next, and some of those behind them.
    let (mut next, mut of_one_page, mut behind) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let ahead = limit.div_ceil(ROWS_AHEAD).min(PAGES_AT_ONCE);
    for (slot, starts) in &of_slots {
        if starts.len() == 1 {
            of_one_page.insert(starts[0].clone());
        }
        let page = page_of(starts, *slot, after_id);
        next.insert(*slot, starts[page].clone());
        behind.extend(starts[page + 1..].iter().take(ahead + 1));
    }
    behind.sort_unstable_by_key(|page| device_of(page));
    // Rows beyond this one are hardly wanted.
    let enough = behind.get(ahead).map(|page| device_of(page));
    let pages = next.values().chain(behind.into_iter().take(ahead)).cloned().collect();
    let mut beside = store.session().await?;
    view::follow(&mut beside, &session);
    let (mut read, alone) = tokio::try_join!(
        by_id(store, &mut session, pages),
        alone::between(store, &mut beside, after_id, enough, ALONE_MAX),
    )?;
    view::follow(&mut session, &beside);
    let Some(mut alone) = alone else { return Ok(None) };
    let mut rows = BTreeMap::new();
    let last = loop {
        let mut pages = Vec::new();
        for (slot, mut page) in std::mem::take(&mut next) {
            // The first page is not there before a slot has rows.
            if !read.contains_key(&page) && !of_one_page.contains(&page) {
                return Ok(None);
            }
            while let Some(stored) = read.remove(&page) {
                if stored.is_being_split() {
                    return Ok(None);
                }
                next.remove(&slot);
                let after = page_after(slot, &stored.id, &stored.end)?;
                pages.push(stored);
                let Some(after) = after else { break };
                page = after;
                next.insert(slot, page.clone());
            }
        }
        let packed = pages.iter().map(StoredPage::rows).collect::<Result<Vec<_>, _>>()?;
        let wanted = packed
            .iter()
            .flat_map(PackedRows::iter)
            .filter(|row| after.is_none_or(|after| row.device > after));
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort_unstable_by_key(|row| row.device);
        for row in wanted.iter().take(limit) {
            let corrupt = || StoreError::Corrupt(format!("the row of device {}", row.device));
            put(&mut rows, row.row().ok_or_else(corrupt)?);
        }
        while rows.len() > limit {
            rows.pop_last();
        }
        // Further pages can only bring others before it.
        let last = if rows.len() < limit { None } else { rows.keys().next_back().copied() };
        next.retain(|_, page| last.is_none_or(|last| device_of(page) <= last.as_str()));
        if next.is_empty() {
            break last;
        }
        read = by_id(store, &mut session, next.values().cloned().collect()).await?;
    };
    if let Some(enough) = enough.filter(|enough| last.is_none_or(|last| last.as_str() > *enough)) {
        let last = last.as_ref().map(DeviceId::as_str);
        match alone::between(store, &mut session, enough, last, ALONE_MAX).await? {
            Some(more) => alone.extend(more),
            None => return Ok(None),
        }
    }
    alone.into_iter().for_each(|row| put(&mut rows, row));
    Ok(Some(rows.into_values().take(limit).collect()))
}

/// The device with which a page begins; empty of the first of a slot.
fn device_of(page: &str) -> &str {
    page.split_once('/').map_or("", |(_, device)| device)
}

async fn by_id(
    store: &MongoStore,
    session: &mut ClientSession,
    pages: Vec<String>,
) -> Result<BTreeMap<String, StoredPage>, StoreError> {
    let filter = doc! { "_id": { "$in": pages } };
    let stored: Vec<StoredPage> = view::find_unordered(store, session, PAGES, filter, doc! {}).await?;
    Ok(stored.into_iter().map(|stored| (stored.id.clone(), stored)).collect())
}
