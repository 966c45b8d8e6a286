//! The counts of one slot's devices by minute, those that a store holds against those of its log: of each device as one
//! number, or of a few devices minute by minute.

use std::collections::{BTreeMap, HashMap};

use rollcall_wire::{DeviceId, Slot};

use super::rows::READ_ROWS;
use super::sums::{Cell, Weights};
use super::{Stop, read, words};
use crate::log::devices::{DeviceView, DeviceWindow};
use crate::log::minutes::minute_of;
use crate::log::rollup::Resolution;
use crate::log::row::Row;
use crate::log::start::Start;
use crate::log::{Snapshot, StoreError};
use crate::model::{Counts, Entry, Record, RecordKind};
use crate::ops::check::Reporter;

/// How often a device is read that is written meanwhile.
const READS_MAX: usize = 16;

/// A number a device, which is 0 where both agree. Of days of which messages were removed nothing is said.
#[derive(Default)]
pub(super) struct DeviceSums {
    start: Start,
    weights: Weights,
    sums: HashMap<DeviceId, u128>,
    /// Those with windows that are further than their rows, however often they are read.
    torn: Vec<DeviceId>,
}

impl DeviceSums {
    /// Of a log that starts there.
    pub(super) fn new(start: Start) -> Self {
        Self { start, ..Self::default() }
    }

    /// Takes what is stored of the devices that have these rows, or others. Rows that were written since are given back.
    pub(super) fn read(
        &mut self,
        snapshot: &mut dyn Snapshot,
        reporter: &mut Reporter,
        slot: Slot,
        rows: &BTreeMap<DeviceId, Row>,
    ) -> Result<Vec<Row>, Stop> {
        let mut newer = Vec::new();
        let (mut from, mut listed) = (None, 0_u64);
        // The windows of one device.
        let mut held: Option<(DeviceId, Vec<DeviceWindow>)> = None;
        loop {
            let windows = snapshot.device_windows(slot, from, READ_ROWS)?;
            let read = windows.len();
            listed += read as u64;
            for (device, window) in windows {
                from = Some((device, window.span.next()));
                match &mut held {
                    Some((of, windows)) if *of == device => windows.push(window),
                    _ => {
                        if let Some((of, windows)) = held.replace((device, vec![window])) {
                            newer.extend(self.store(snapshot, rows, of, windows)?);
                        }
                    }
                }
            }
            reporter.progress(|| format!("reading the windows of slot {slot}'s devices: {listed}"))?;
            if read < READ_ROWS {
                break;
            }
        }
        if let Some((of, windows)) = held {
            newer.extend(self.store(snapshot, rows, of, windows)?);
        }
        for device in rows.keys() {
            if !self.sums.contains_key(device) {
                newer.extend(self.store(snapshot, rows, *device, Vec::new())?);
            }
        }
        Ok(newer)
    }

    fn store(
        &mut self,
        snapshot: &mut dyn Snapshot,
        rows: &BTreeMap<DeviceId, Row>,
        device: DeviceId,
        windows: Vec<DeviceWindow>,
    ) -> Result<Option<Row>, Stop> {
        let mut view = DeviceView { row: rows.get(&device).cloned(), windows };
        let is_torn = view.is_torn();
        if is_torn {
            view = whole(snapshot, device)?;
        }
        if view.is_torn() {
            self.torn.push(device);
        }
        let mut sum = 0_u128;
        for (minute, counts) in left(&view, &self.start) {
            sum = sum.wrapping_add(self.weights.of(minute, &counts));
        }
        self.sums.insert(device, sum);
        Ok(view.row.filter(|_| is_torn))
    }

    /// Takes the next entry of the log, of those devices that are wanted.
    pub(super) fn take(&mut self, entry: &Entry, wanted: impl Fn(&DeviceId) -> bool) {
        let is_left = |record: &&Record| !self.start.lacks(record.sampled_at.second());
        let own = entry.records.iter().filter(|record| is_own(record) && wanted(&record.device));
        for record in own.filter(is_left) {
            if let Some(sum) = self.sums.get_mut(&record.device) {
                *sum = sum.wrapping_sub(self.weights.of(minute_of(record.sampled_at), &counts(record)));
            }
        }
    }

    /// Nothing is to be said of this device.
    pub(super) fn forget(&mut self, device: &DeviceId) {
        self.sums.remove(device);
        self.torn.retain(|torn| torn != device);
    }

    /// The devices whose counts are not as the log says, in order.
    pub(super) fn differing(&self) -> Vec<DeviceId> {
        let differing = self.sums.iter().filter(|(_, sum)| **sum != 0).map(|(device, _)| *device);
        let mut differing: Vec<_> = differing.chain(self.torn.iter().copied()).collect();
        differing.sort_unstable();
        differing.dedup();
        differing
    }
}

/// What a device has of days that have all their messages, by minute.
fn left<'a>(view: &DeviceView, start: &'a Start) -> impl Iterator<Item = (u32, Counts)> + use<'a> {
    // A row that is none is named by whoever compares rows.
    let minutes = view.minutes().unwrap_or_default().into_iter();
    minutes.filter(|(minute, _)| !start.lacks(u64::from(*minute) * 60))
}

/// Is it one of its device's own?
fn is_own(record: &Record) -> bool {
    record.kind != RecordKind::Imported
}

fn counts(record: &Record) -> Counts {
    let mut counts = Counts::default();
    counts.count(record);
    counts
}

/// A device as it was not written meanwhile; as it is, if it never is so.
fn whole(snapshot: &mut dyn Snapshot, device: DeviceId) -> Result<DeviceView, StoreError> {
    let mut view = snapshot.device(device)?;
    for _ in 1..READS_MAX {
        if !view.is_torn() {
            break;
        }
        view = snapshot.device(device)?;
    }
    Ok(view)
}

/// Looks at a device minute by minute: in plain words what differs. Its row holds at least what is below `checkpoint`.
pub(super) fn look_again(
    snapshot: &mut dyn Snapshot,
    reporter: &mut Reporter,
    (slot, start): (Slot, &Start),
    device: DeviceId,
    checkpoint: u64,
) -> Result<Vec<String>, Stop> {
    let view = whole(snapshot, device)?;
    let upto = view.row.as_ref().map_or(0, |row| row.upto).max(checkpoint);
    let mut minutes = BTreeMap::<u32, (Counts, Counts)>::new();
    for (minute, counts) in left(&view, start) {
        minutes.entry(minute).or_default().0 += counts;
    }
    read(snapshot, reporter, slot, start.first, upto, |logged| {
        let is_left = |record: &Record| !start.lacks(record.sampled_at.second());
        let of_device = |record: &&Record| record.device == device && is_own(record) && is_left(record);
        if logged.entry.number < upto {
            for record in logged.entry.records.iter().filter(of_device) {
                minutes.entry(minute_of(record.sampled_at)).or_default().1 += counts(record);
            }
        }
        Ok(())
    })?;
    let differing = minutes.iter().filter(|(_, (stored, logged))| stored != logged);
    let named = differing.map(|(minute, (stored, logged))| {
        let cell = Cell::whole(Resolution::Minute, u64::from(*minute) * 60);
        format!("device {device}: {}", words::window_difference(cell, stored, logged))
    });
    let torn = view.is_torn().then(|| format!("device {device}: windows are further than its row"));
    Ok(torn.into_iter().chain(named).collect())
}
