//! How each device is, as of its row: whether it answers, and what of it is missing. It reads rows; how they come about
//! is not known here.
//!
//! Rows lag behind the log. An answer is exact at its `as_of`: all that was acknowledged before it is in the rows that
//! were read, and devices are judged as of then.

mod completeness;
mod device;
mod gaps;
mod list;

use std::collections::VecDeque;

use rollcall_wire::{DeviceId, Slot};

pub use self::completeness::{Absent, Steps};
pub use self::device::{FleetDevice, State};
pub use self::gaps::{Gap, gaps, period_ms};
pub use self::list::{List, Listed, Order, Position, Trouble, Wanted};

use crate::log::devices::{self, AsOf, DeviceView};
use crate::log::row::Row;
use crate::log::{LogStore, StoreError};
use crate::model::UnixMs;

/// How many rows are read at a time. Other requests are answered in between.
const READ_ROWS: usize = 512;

/// Every device, slot by slot.
///
/// # Errors
/// [`StoreError`].
pub async fn scan<S: LogStore>(store: &S, mut each: impl FnMut(FleetDevice)) -> Result<(), StoreError> {
    let mut pages = Pages::of(Slot::all());
    while let Some(rows) = pages.next(store).await? {
        for row in &rows {
            each(FleetDevice::new(row)?);
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// All rows of some slots, slot by slot and some at a time.
struct Pages {
    /// Those that are not read to their ends.
    slots: VecDeque<Slot>,
    after: Option<DeviceId>,
}

impl Pages {
    fn of(slots: impl Iterator<Item = Slot>) -> Self {
        Self { slots: slots.collect(), after: None }
    }

    /// The next rows, if there are some.
    async fn next<S: LogStore>(&mut self, store: &S) -> Result<Option<Vec<Row>>, StoreError> {
        while let Some(slot) = self.slots.front() {
            let rows = store.rows(*slot, self.after, READ_ROWS).await?;
            self.after = rows.last().map(|row| row.device);
            if rows.len() < READ_ROWS {
                self.slots.pop_front();
                self.after = None;
            }
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }
}

/// What is not in the log of all devices' samples, as of when all of it is in their rows; `now` is when the question came.
///
/// # Errors
/// [`StoreError`].
pub async fn absent<S: LogStore>(store: &S, steps: &Steps, now: UnixMs) -> Result<AsOf<Absent>, StoreError> {
    let slots: Vec<_> = Slot::all().collect();
    let as_of = devices::as_of(store, &slots, now).await?;
    // Two halves side by side, for there are many rows.
    let (one, other) = slots.split_at(slots.len() / 2);
    let half = |slots: &[Slot]| absent_of_slots(store, steps, as_of, slots.to_vec());
    let (mut absent, other) = tokio::try_join!(half(one), half(other))?;
    absent.merge(other);
    Ok(AsOf { value: absent, as_of })
}

async fn absent_of_slots<S: LogStore>(
    store: &S,
    steps: &Steps,
    as_of: UnixMs,
    slots: Vec<Slot>,
) -> Result<Absent, StoreError> {
    let mut absent = Absent::new(steps);
    let mut pages = Pages::of(slots.into_iter());
    while let Some(rows) = pages.next(store).await? {
        let steps = steps.clone();
        // A device can have thousands of gaps, each over thousands of steps; other requests do not wait for it.
        let added = tokio::task::spawn_blocking(move || {
            for row in &rows {
                absent.add(&steps, &FleetDevice::new(row)?, as_of);
            }
            Ok::<_, StoreError>(absent)
        });
        absent = added.await.map_err(|error| StoreError::Unavailable(error.to_string()))??;
    }
    Ok(absent)
}

/// What is not in the log of one device's samples, if its row is exact at `as_of`.
///
/// # Errors
/// [`StoreError`].
pub fn absent_of(view: &DeviceView, steps: &Steps, as_of: UnixMs) -> Result<Absent, StoreError> {
    let mut absent = Absent::new(steps);
    if let Some(row) = &view.row {
        absent.add(steps, &FleetDevice::new(row)?, as_of);
    }
    Ok(absent)
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
    store.first_rows(after, limit).await?.iter().map(FleetDevice::new).collect()
}

/// One device; `None` when nothing of it is in a row.
///
/// # Errors
/// [`StoreError`].
pub async fn one<S: LogStore>(store: &S, device: DeviceId) -> Result<Option<FleetDevice>, StoreError> {
    let view = store.devices(&[device], 0..0).await?;
    view.first().and_then(|view| view.row.as_ref()).map(FleetDevice::new).transpose()
}
