//! The windows of single devices: counts by minute, within hour rows, and what of them is still in the device's row.
//!
//! While messages of a device come, its row holds their counts by minute, so that both are one function of the log. When
//! they are many they are *sealed*, at the end of an entry of the log: the row holds them apart, with the number of the
//! next entry. Only after such a row is stored they are added to the hour rows, each unless the hour row says that it holds
//! the entries below that number; and the next row that is written has them no more. So it does not matter where this is
//! cut off, how often it is done, or who does it: whoever reads the log seals the same.
//!
//! Whoever reads takes the row first, and adds what is sealed to hour rows that do not have it yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rollcall_wire::{DeviceId, Slot, mutant};
use serde::{Deserialize, Serialize};

use super::minutes::Minutes;
use super::row::{DeviceState, Row};
use super::{LogStore, StoreError};
use crate::model::{Counts, UnixMs};

/// How many minutes an hour row has at most.
pub const HOUR_MINUTES: u32 = 60;

/// So many bytes of counts a row has before they are sealed: about as many as the rest of it. More come from one entry
/// only.
pub const SEAL_BYTES: usize = 64;

/// How often a device is read again that is written meanwhile.
const READS_MAX: usize = 16;

/// Counts of a device that are complete, on their way from its row to its hour rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The entries of the device's slot below this number are in it, or were sealed before.
    pub below: u64,
    /// How many samples there are in them.
    pub minutes: Minutes,
}

/// The counts of an hour of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourRow {
    /// In hours since 1970.
    pub hour: u32,
    /// What was sealed below this number is in it.
    pub below: u64,
    /// By minute of the hour, 0 to 59.
    pub minutes: Minutes,
}

/// What a store holds of a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceView {
    /// Its row, whose closed boots may be left out; `None` when nothing of it is in the log below the checkpoint.
    pub row: Option<Row>,
    /// Its hours that were asked for, in order, each read after the row.
    pub hours: Vec<HourRow>,
}

/// An answer, and the instant before which all that was acknowledged is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsOf<T> {
    /// The answer.
    pub value: T,
    /// The instant.
    pub as_of: UnixMs,
}

/// The hour rows to be stored for a device that has sealed these counts; `stored` tells the one that is there. An hour
/// row that has them is none of them.
pub fn moved<E>(
    sealed: &[Sealed],
    mut stored: impl FnMut(u32) -> Result<Option<HourRow>, E>,
) -> Result<Vec<HourRow>, E> {
    let mut hours = BTreeMap::<u32, Vec<(u64, u32, Counts)>>::new();
    for Sealed { below, minutes } in sealed {
        for (minute, counts) in minutes.iter() {
            let parts = hours.entry(minute / HOUR_MINUTES).or_default();
            parts.push((*below, minute % HOUR_MINUTES, counts));
        }
    }
    let mut rows = Vec::new();
    for (hour, parts) in hours {
        let old = stored(hour)?;
        let held = mutant!(SealedAddedTwice, 0, old.as_ref().map_or(0, |old| old.below));
        let new = parts.iter().filter(|(below, ..)| *below > held);
        let Some(below) = new.clone().map(|(below, ..)| *below).max() else { continue };
        let mut sum = BTreeMap::<u32, Counts>::new();
        let old = old.iter().flat_map(|old| old.minutes.iter());
        for (minute, counts) in old.chain(new.map(|(_, minute, counts)| (*minute, *counts))) {
            *sum.entry(minute).or_default() += counts;
        }
        let mut minutes = Minutes::default();
        sum.iter().for_each(|(minute, counts)| minutes.add(*minute, counts));
        rows.push(HourRow { hour, below, minutes });
    }
    Ok(rows)
}

impl HourRow {
    /// Its stored form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = postcard::to_allocvec(&self.below).expect("a number always serialises into memory");
        bytes.extend_from_slice(self.minutes.as_bytes());
        bytes
    }

    /// Reads what [`HourRow::to_bytes`] wrote of this hour; `None` when it is something else.
    pub(super) fn from_bytes(hour: u32, bytes: &[u8]) -> Option<Self> {
        let (below, minutes) = postcard::take_from_bytes(bytes).ok()?;
        Self::new(hour, below, minutes)
    }

    /// One that cannot be read, for [`moved`]: it stays as it is, and whoever asks for it hears of it. Nothing is added to it,
    /// so that one damaged row does not keep what all others have from being stored.
    pub(super) fn unreadable(hour: u32) -> Self {
        Self { hour, below: u64::MAX, minutes: Minutes::default() }
    }

    /// An hour row out of what is stored of its minutes; `None` when they are none.
    pub(super) fn new(hour: u32, below: u64, minutes: &[u8]) -> Option<Self> {
        let minutes = Minutes::from_bytes(minutes)?;
        let sound = minutes.iter().all(|(minute, _)| minute < HOUR_MINUTES);
        (sound && hour <= u32::MAX / HOUR_MINUTES).then_some(Self { hour, below, minutes })
    }
}

impl DeviceView {
    /// Was it written between the reading of the row and that of an hour row? It has to be read again.
    pub fn is_torn(&self) -> bool {
        let upto = self.row.as_ref().map_or(0, |row| row.upto);
        self.hours.iter().any(|hour| hour.below > upto)
    }

    /// All counts of the hours that were asked for, by minute; a minute may come several times. What lies in other hours
    /// comes in part.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row is none.
    pub fn minutes(&self) -> Result<Vec<(u32, Counts)>, StoreError> {
        let mut all = Vec::new();
        for hour in &self.hours {
            all.extend(
                hour.minutes.iter().map(|(minute, counts)| (hour.hour * HOUR_MINUTES + minute, counts)),
            );
        }
        let Some(row) = &self.row else { return Ok(all) };
        let held = |minute: u32| {
            let at = self.hours.binary_search_by_key(&(minute / HOUR_MINUTES), |hour| hour.hour);
            at.map_or(0, |at| self.hours[at].below)
        };
        for Sealed { below, minutes } in &row.sealed {
            all.extend(minutes.iter().filter(|(minute, _)| held(*minute) < *below));
        }
        let state = DeviceState::from_bytes(&row.state);
        let state = state.ok_or_else(|| StoreError::Corrupt(format!("the row of device {}", row.device)))?;
        all.extend(state.counts.iter());
        Ok(all)
    }

    /// The sum over `minutes`, whose hours were asked for.
    ///
    /// # Errors
    /// As [`DeviceView::minutes`].
    pub fn counts(&self, minutes: &Range<u32>) -> Result<Counts, StoreError> {
        let mut sum = Counts::default();
        self.minutes()?.iter().filter(|(at, _)| minutes.contains(at)).for_each(|(_, counts)| sum += *counts);
        Ok(sum)
    }

    /// The same in steps of so many minutes, which begin on multiples of it: the first holds what is taken from the start
    /// of `minutes` on, and the last what is taken before their end.
    ///
    /// # Errors
    /// As [`DeviceView::minutes`].
    pub fn series(&self, minutes: &Range<u32>, step: u32) -> Result<Vec<Counts>, StoreError> {
        let step = step.max(1);
        let first = minutes.start / step;
        let steps = if minutes.is_empty() { 0 } else { minutes.end.div_ceil(step) - first };
        let mut sums = vec![Counts::default(); steps as usize];
        for (minute, counts) in self.minutes()?.into_iter().filter(|(minute, _)| minutes.contains(minute)) {
            sums[(minute / step - first) as usize] += counts;
        }
        Ok(sums)
    }
}

/// The hours in which these minutes lie.
pub fn hours_of(minutes: &Range<u32>) -> Range<u32> {
    minutes.start / HOUR_MINUTES..minutes.end.div_ceil(HOUR_MINUTES)
}

/// The instant before which all that was acknowledged is in rows of these slots that are read from now on: `now`, or when
/// the first entry was received that may not be in them.
///
/// # Errors
/// [`StoreError`].
pub async fn as_of<S: LogStore>(store: &S, slots: &[Slot], now: UnixMs) -> Result<UnixMs, StoreError> {
    Ok(store.beyond_rows(slots).await?.map_or(now, |beyond| beyond.min(now)))
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
    let as_of = as_of(store, &slots.into_iter().collect::<Vec<_>>(), now).await?;
    Ok(AsOf { value: views(store, devices, hours_of(minutes)).await?, as_of })
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
            return Err(StoreError::Corrupt(format!("hours of device {device} are further than its row")));
        }
        reads += 1;
        let again: Vec<_> = torn.iter().map(|at| devices[*at]).collect();
        let read = store.devices(&again, hours.clone()).await?;
        torn.into_iter().zip(read).for_each(|(at, device)| views[at] = device);
    }
}
