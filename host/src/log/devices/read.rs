//! What a store holds of devices, as of an instant that is told.

use std::collections::BTreeSet;
use std::ops::Range;

use rollcall_wire::{DeviceId, Slot};

use super::{AsOf, DeviceView, hours_of};
use crate::log::{LogStore, StoreError};
use crate::model::UnixMs;

/// How often a device is read again that is written meanwhile.
const READS_MAX: usize = 16;

/// The instant before which all that was acknowledged is in rows of these slots that are read from now on: `now`, or when
/// the first entry was received that may not be in them.
///
/// # Errors
/// [`StoreError`].
pub async fn as_of<S: LogStore>(store: &S, slots: &[Slot], now: UnixMs) -> Result<UnixMs, StoreError> {
    Ok(store.beyond_rows(slots, None).await?.as_of(now))
}

/// What `read` reads of the rows of these slots, and its [`as_of`]; `now` is when the question came.
///
/// # Errors
/// Those of `read`, and [`StoreError`] where it cannot be told.
pub async fn at<S, T, R>(
    store: &S,
    slots: &[Slot],
    now: UnixMs,
    read: impl Fn() -> R,
) -> Result<AsOf<T>, StoreError>
where
    S: LogStore,
    R: Future<Output = Result<T, StoreError>>,
{
    let Some(known) = store.known_rows() else {
        let as_of = as_of(store, slots, now).await?;
        return Ok(AsOf { value: read().await?, as_of });
    };
    let (beyond, value) = tokio::try_join!(store.beyond_rows(slots, Some(&known)), read())?;
    let value = if beyond.since_known { value } else { read().await? };
    Ok(AsOf { value, as_of: beyond.as_of(now) })
}

/// What the store holds of each of the devices for `minutes`, given in minutes since 1970.
///
/// It is exact at the answer's `as_of`; `now` is when the question came.
///
/// # Errors
/// [`StoreError`].
pub async fn read<S: LogStore>(
    store: &S,
    devices: &[DeviceId],
    minutes: &Range<u32>,
    now: UnixMs,
) -> Result<AsOf<Vec<DeviceView>>, StoreError> {
    let slots: BTreeSet<Slot> = devices.iter().map(Slot::of).collect();
    let slots: Vec<_> = slots.into_iter().collect();
    at(store, &slots, now, || views(store, devices, hours_of(minutes))).await
}

/// The devices as none of them was written meanwhile.
async fn views<S: LogStore>(
    store: &S,
    devices: &[DeviceId],
    hours: Range<u32>,
) -> Result<Vec<DeviceView>, StoreError> {
    let mut views = store.devices(devices, hours.clone()).await?;
    let mut reads = 1;
    loop {
        let torn: Vec<_> = (0..devices.len()).filter(|at| views[*at].is_torn()).collect();
        let Some(first) = torn.first() else { return Ok(views) };
        if reads == READS_MAX {
            let device = devices[*first];
            return Err(StoreError::Corrupt(format!("windows of device {device} are further than its row")));
        }
        reads += 1;
        let again: Vec<_> = torn.iter().map(|at| devices[*at]).collect();
        let read = store.devices(&again, hours.clone()).await?;
        torn.into_iter().zip(read).for_each(|(at, device)| views[at] = device);
    }
}
