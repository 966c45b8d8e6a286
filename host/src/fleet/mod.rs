//! How each device is, as of its row: whether it answers, and what of it is missing. It reads rows; how they come about
//! is not known here.
//!
//! Rows lag behind the log. An answer is exact at its `as_of`: all that was acknowledged before it is in the rows that
//! were read, and devices are judged as of then.

mod device;
mod gaps;
mod list;

use rollcall_wire::{DeviceId, Slot};

pub use self::device::{FleetDevice, State};
pub use self::gaps::{Gap, gaps, period_ms};
pub use self::list::{List, Listed, Order, Position, Trouble, Wanted};

use crate::log::{LogStore, StoreError};

/// How many rows are read at a time. Other requests are answered in between.
const READ_ROWS: usize = 512;

/// Every device, slot by slot.
///
/// # Errors
/// [`StoreError`].
pub async fn scan<S: LogStore>(store: &S, mut each: impl FnMut(FleetDevice)) -> Result<(), StoreError> {
    for slot in Slot::all() {
        let mut after = None;
        loop {
            let rows = store.rows(slot, after, READ_ROWS).await?;
            after = rows.last().map(|row| row.device);
            for row in &rows {
                each(FleetDevice::new(row)?);
            }
            if rows.len() < READ_ROWS {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// The devices whose ids come after this one, in the order of their ids and `limit` at most.
///
/// # Errors
/// [`StoreError`].
pub async fn page<S: LogStore>(
    store: &S,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<FleetDevice>, StoreError> {
    let mut rows = Vec::new();
    for slot in Slot::all() {
        rows.extend(store.rows(slot, after, limit).await?);
    }
    rows.sort_unstable_by_key(|row| row.device);
    rows.truncate(limit);
    rows.iter().map(FleetDevice::new).collect()
}

/// One device; `None` when nothing of it is in a row.
///
/// # Errors
/// [`StoreError`].
pub async fn one<S: LogStore>(store: &S, device: DeviceId) -> Result<Option<FleetDevice>, StoreError> {
    let view = store.devices(&[device], 0..0).await?;
    view.first().and_then(|view| view.row.as_ref()).map(FleetDevice::new).transpose()
}
