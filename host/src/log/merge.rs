//! The rows of all slots in one order.

use std::collections::VecDeque;

use rollcall_wire::{DeviceId, Slot};

use super::row::Row;
use super::{LogStore, StoreError};

/// See [`LogStore::first_rows`].
pub(super) async fn first_rows<S: LogStore>(
    store: &S,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    // Devices are spread evenly over slots: of most, so many are enough.
    let at_once = 2 * limit.div_ceil(Slot::COUNT);
    let mut slots = Vec::with_capacity(Slot::COUNT);
    for slot in Slot::all() {
        let rows = store.rows(slot, after, at_once).await?;
        slots.push((slot, rows.len() == at_once, VecDeque::from(rows)));
    }
    let mut merged = Vec::new();
    while merged.len() < limit {
        let left = slots.iter_mut().filter(|(.., rows)| !rows.is_empty());
        let Some((slot, are_more, rows)) = left.min_by_key(|(.., rows)| rows[0].device) else { break };
        merged.extend(rows.pop_front());
        if rows.is_empty() && *are_more {
            rows.extend(store.rows(*slot, merged.last().map(|row| row.device), at_once).await?);
            *are_more = rows.len() == at_once;
        }
    }
    Ok(merged)
}
