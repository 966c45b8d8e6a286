//! The rows of devices against the log that they are made from.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_host::intake::seen::Seen;
use rollcall_host::log::minutes::minute_of;
use rollcall_host::log::rollup::CHUNK_ENTRIES;
use rollcall_host::log::row::{DeviceState, OPEN_BOOTS_MAX, Row};
use rollcall_host::log::{LogStore, StoreError};
use rollcall_host::model::{Counts, Entry, RecordKind};
use rollcall_wire::{BootId, DeviceId, Slot};

use super::Oracle;
use super::look::{Blind, at_once, counted};
use crate::scene::Failure;

/// Every row is what the log below its `upto` leads to, and nothing below the checkpoint is without one.
pub(super) fn look<S: LogStore>(store: &S, slot: Slot, log: &[Entry]) -> Result<(), Blind> {
    let fail = |found: String| Err(Failure { check: "rows", found: format!("slot {slot}: {found}") }.into());
    let checkpoint = at_once(store.checkpoint(slot))?;
    let rows = at_once(store.rows(slot, None, usize::MAX))?;
    if checkpoint.rows.max(checkpoint.windows) > log.len() as u64 {
        return fail(format!("{checkpoint:?}, and the log ends at {}", log.len()));
    }
    let rows: BTreeMap<DeviceId, Row> = rows.into_iter().map(|row| (row.device, row)).collect();
    let devices: BTreeSet<DeviceId> = (log.iter().take(checkpoint.rows as usize))
        .flat_map(|entry| &entry.records)
        .map(|record| record.device)
        .collect();
    if let Some(device) = devices.iter().find(|device| !rows.contains_key(device)) {
        return fail(format!("{device} has no row, and the checkpoint is {}", checkpoint.rows));
    }
    for row in rows.values() {
        if row.upto > log.len() as u64 {
            return fail(format!("the row of {} is at {}, beyond the log", row.device, row.upto));
        }
        // A row that is not written again has not changed since.
        let upto = row.upto.max(checkpoint.rows);
        let below = &log[..upto as usize];
        if let Some(found) = differs(row, below)? {
            return fail(format!(
                "the row of {} at {}, checkpoint {}: {found}",
                row.device, row.upto, checkpoint.rows
            ));
        }
        if let Some(found) = counts_differ(store, row.device, below)? {
            return fail(format!("the counts of {} at {upto}: {found}", row.device));
        }
    }
    Ok(())
}

/// How the windows of a device differ from the log below its row's `upto`.
fn counts_differ<S: LogStore>(
    store: &S,
    device: DeviceId,
    log: &[Entry],
) -> Result<Option<String>, StoreError> {
    let view = at_once(store.devices(&[device], 0..u32::MAX))?.pop().unwrap_or_default();
    if view.is_torn() {
        return Ok(Some("hours are further than the row".to_owned()));
    }
    let mut stored = BTreeMap::<u32, Counts>::new();
    for (minute, counts) in view.minutes()? {
        *stored.entry(minute).or_default() += counts;
    }
    let mut logged = BTreeMap::<u32, Counts>::new();
    for record in log.iter().flat_map(|entry| &entry.records) {
        if record.device == device && record.kind != RecordKind::Imported {
            *logged.entry(minute_of(record.sampled_at)).or_default() += counted(record);
        }
    }
    Ok((stored != logged).then(|| format!("{stored:?}, and the log says {logged:?}")))
}

/// How a row differs from what the log leads to: by the host's own way, and by a plain set.
fn differs(row: &Row, log: &[Entry]) -> Result<Option<String>, StoreError> {
    let mut seen = Seen::default();
    let mut plain = BTreeMap::<BootId, BTreeSet<u64>>::new();
    for entry in log {
        seen.take(entry, |device| *device == row.device);
        for record in entry.records.iter().filter(|record| record.device == row.device) {
            if let (Some(id), RecordKind::Sample) = (record.id, record.kind) {
                plain.entry(id.boot).or_default().insert(id.seq.get());
            }
        }
    }
    let unreadable = || StoreError::Corrupt(format!("the row of {}", row.device));
    let stored = DeviceState::from_bytes(&row.state).ok_or_else(unreadable)?;
    let made = seen.row(row.device, row.upto);
    if made.state != row.state {
        let made = DeviceState::from_bytes(&made.state);
        return Ok(Some(format!("{stored:?}, and the log leads to {made:?}")));
    }
    if made.closed != row.closed {
        return Ok(Some("other closed boots than the log leads to".to_owned()));
    }
    if plain.len() > OPEN_BOOTS_MAX || stored.boots.iter().any(|boot| boot.open_from > 0) {
        return Ok(None);
    }
    let ranges = stored.boots.iter().map(|boot| {
        let all = boot.ranges.iter().flat_map(|range| range.first..=range.last).collect();
        (boot.id, all)
    });
    let stored: BTreeMap<BootId, BTreeSet<u64>> = ranges.collect();
    Ok((stored != plain).then(|| format!("{stored:?}, and in the log are {plain:?}")))
}

impl Oracle {
    /// Once nothing comes any more, the windows hold all full chunks, and the rows all.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) fn look_settled<S: LogStore>(&self, store: &S) -> Result<(), Failure> {
        for slot in Slot::all() {
            let fail =
                |found: String| Err(Failure { check: "checkpoints", found: format!("slot {slot}: {found}") });
            let (Ok(checkpoint), Ok(log)) =
                (at_once(store.checkpoint(slot)), at_once(store.read(slot, 0, usize::MAX)))
            else {
                return fail("the store does not answer".to_owned());
            };
            let length = log.len() as u64;
            if checkpoint.windows != length - length % CHUNK_ENTRIES || checkpoint.rows != length {
                return fail(format!("{checkpoint:?}, and the log ends at {length}"));
            }
        }
        Ok(())
    }
}
