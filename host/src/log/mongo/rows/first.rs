//! The rows of all slots in one order: the pages of all slots in one question, and in another the rows that stand alone.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::doc;
use rollcall_wire::{DeviceId, Slot};

use super::{alone, id, page_of, pages, put, starts};
use crate::log::mongo::MongoStore;
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
    let mut rows = BTreeMap::new();
    // The devices with which the pages of each slot begin that are not read.
    let mut ends = BTreeMap::new();
    let last = loop {
        let ids: Vec<_> = next.values().collect();
        let mut read = pages(store, &mut session, doc! { "_id": { "$in": ids } }).await?;
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
        let last = limit.checked_sub(1).and_then(|last| rows.keys().nth(last).copied());
        let is_before = |end: &String| last.is_none_or(|last| end.as_str() <= last.as_str());
        next = ends
            .iter()
            .filter(|(_, end)| is_before(end))
            .map(|(slot, end)| (*slot, id(*slot, end)))
            .collect();
        if next.is_empty() {
            break last;
        }
    };
    let Some(alone) = alone::between(store, &mut session, after, last, ALONE_MAX).await? else {
        return Ok(None);
    };
    alone.into_iter().for_each(|row| put(&mut rows, row));
    Ok(Some(rows.into_values().take(limit).collect()))
}
