//! The rows of all slots in one order: the pages of all slots in one question, then those that are wanted beyond them, and
//! beside these the rows that stand alone.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::doc;
use rollcall_wire::{DeviceId, Slot};

use super::{alone, id, page_of, pages, put, starts};
use crate::log::mongo::{MongoStore, view};
use crate::log::row::Row;
use crate::log::{StoreError, merge};

/// Where more stand alone, slot is read by slot.
const ALONE_MAX: usize = 1024;

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
    // The page of each slot that is to be read next.
    let (mut next, mut of_one_page) = (BTreeMap::new(), BTreeSet::new());
    for slot in Slot::all() {
        let starts = starts(store, &mut session, slot).await?;
        if starts.len() == 1 {
            of_one_page.insert(starts[0].clone());
        }
        next.insert(slot, starts[page_of(&starts, slot, after_id)].clone());
    }
    let mut beside = store.session().await?;
    let (mut rows, mut alone) = (BTreeMap::new(), None);
    // The devices with which the pages of each slot begin that are not read.
    let mut ends = BTreeMap::new();
    // The last device that is wanted, as far as pages were read: further pages can only bring others before it.
    let mut last = None;
    while !next.is_empty() {
        let ids: Vec<_> = next.values().collect();
        let filter = doc! { "_id": { "$in": ids } };
        let mut read = if last.is_some() && alone.is_none() {
            view::follow(&mut beside, &session);
            let alone_too = alone::between(store, &mut beside, after, last, ALONE_MAX);
            let read;
            (read, alone) = tokio::try_join!(pages(store, &mut session, filter), alone_too)?;
            view::follow(&mut session, &beside);
            read
        } else {
            pages(store, &mut session, filter).await?
        };
        for (slot, page) in &next {
            ends.remove(slot);
            match read.remove(page) {
                Some(page) if page.split().is_empty() => {
                    if !page.end.is_empty() {
                        ends.insert(*slot, page.end.clone());
                    }
                    rows.extend(page.into_rows().into_iter().map(|row| (row.device, row)));
                }
                // The first page is not there before a slot has rows.
                None if of_one_page.contains(page) => {}
                _ => return Ok(None),
            }
        }
        rows.retain(|device, _| after.is_none_or(|after| *device > after));
        last = limit.checked_sub(1).and_then(|last| rows.keys().nth(last).copied());
        let is_before = |end: &String| last.is_none_or(|last| end.as_str() <= last.as_str());
        next = ends
            .iter()
            .filter(|(_, end)| is_before(end))
            .map(|(slot, end)| (*slot, id(*slot, end)))
            .collect();
    }
    if alone.is_none() {
        alone = alone::between(store, &mut session, after, last, ALONE_MAX).await?;
    }
    let Some(alone) = alone else { return Ok(None) };
    alone.into_iter().for_each(|row| put(&mut rows, row));
    Ok(Some(rows.into_values().take(limit).collect()))
}
