//! Windows and rows made anew from the log, for a store that nobody else uses.
//!
//! Where messages were removed, rows that can be read are kept. One that cannot is made from what is left, and then it is
//! known of each of its boots only from the first sequence on that is left, and nothing of what is missing from before.
//! That is enough to count nothing twice: what can still come was sampled within 30 days, and the log has 31.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_wire::{DeviceId, Slot};

use super::ingest::Ingest;
use super::seen::Seen;
use crate::log::minutes::Minutes;
use crate::log::row::{DeviceState, Row};
use crate::log::start::Start;
use crate::log::{LogStore, Rebuild, RebuildError, RowWrite, StoreError};
use crate::model::{Entry, RecordKind, UnixMs};

/// How many entries, rows, and devices with all their windows are read at a time.
const READ_ENTRIES: usize = 256;
const READ_ROWS: usize = 4096;
const READ_DEVICES: usize = 16;

/// How many rows are written at a time.
const WRITE_ROWS: usize = 2048;

/// Makes them, and says in the log how far it is. It may be cut off and begun again.
///
/// # Errors
/// [`RebuildError`]
pub async fn rebuild(rebuild: Rebuild) -> Result<(), RebuildError> {
    let store = rebuild.begin().await?;
    make_lost_rows(&*store).await?;
    Ingest::open(store).await?.write_all_rows().await?;
    rebuild.end().await
}

/// Makes the rows that are lost of a store that has removed messages, as far as their windows are; from there on they are
/// made as all others are.
async fn make_lost_rows<S: LogStore>(store: &S) -> Result<(), StoreError> {
    let mut starts = Vec::with_capacity(Slot::COUNT);
    for slot in Slot::all() {
        starts.push((slot, store.start(slot).await?));
    }
    if starts.iter().all(|(_, start)| start.first == 0) {
        return Ok(());
    }
    for (slot, start) in starts {
        let lost = lost(store, slot, &start).await?;
        if lost.is_empty() {
            continue;
        }
        tracing::warn!(%slot, devices = lost.len(), "rows of devices are made from what is left of their messages");
        let rows = rows(store, slot, &start, &lost).await?;
        for rows in rows.chunks(WRITE_ROWS) {
            store.write_rows(&[RowWrite { slot, rows: rows.to_vec(), checkpoint: None }]).await?;
        }
    }
    Ok(())
}

/// A device that has messages and no row.
struct Lost {
    first_seen: UnixMs,
    /// Its windows hold what it has counted below this entry.
    below: u64,
}

async fn lost<S: LogStore>(
    store: &S,
    slot: Slot,
    start: &Start,
) -> Result<BTreeMap<DeviceId, Lost>, StoreError> {
    let mut known = BTreeSet::new();
    loop {
        let rows = store.rows(slot, known.last().copied(), READ_ROWS).await?;
        known.extend(rows.iter().map(|row| row.device));
        if rows.len() < READ_ROWS {
            break;
        }
    }
    let mut lost = BTreeMap::new();
    let mut end = start.first;
    each(store, slot, start.first, u64::MAX, |entry| {
        end = entry.number + 1;
        for record in entry.records.iter().filter(|record| record.kind != RecordKind::Imported) {
            if !known.contains(&record.device) {
                lost.entry(record.device).or_insert(Lost { first_seen: record.received_at, below: 0 });
            }
        }
    })
    .await?;
    let devices: Vec<_> = lost.keys().copied().collect();
    for devices in devices.chunks(READ_DEVICES) {
        let views = store.devices(devices, 0..u32::MAX).await?;
        for (device, view) in devices.iter().zip(views) {
            let below = view.windows.iter().map(|window| window.below).max().unwrap_or_default();
            if below > end {
                return Err(StoreError::Corrupt(format!("a window of device {device} is beyond its log")));
            }
            lost.entry(*device).and_modify(|lost| lost.below = below);
        }
    }
    Ok(lost)
}

/// Their rows, each up to where its windows are.
async fn rows<S: LogStore>(
    store: &S,
    slot: Slot,
    start: &Start,
    lost: &BTreeMap<DeviceId, Lost>,
) -> Result<Vec<Row>, StoreError> {
    let mut seen = Seen::default();
    let end = lost.values().map(|lost| lost.below).max().unwrap_or_default();
    each(store, slot, start.first, end, |entry| {
        seen.take(entry, |device| lost.get(device).is_some_and(|lost| entry.number < lost.below));
        // All that is counted here is in windows.
        seen.all_moved();
    })
    .await?;
    let made: BTreeSet<_> = seen.take_changed().into_iter().collect();
    let known_from = (start.first > 0).then(|| UnixMs(start.days().0.saturating_mul(1000)));
    let row = |(device, lost): (&DeviceId, &Lost)| {
        let upto = lost.below.max(start.first);
        let (state, closed) = if made.contains(device) {
            let row = seen.row(*device, upto);
            (DeviceState::from_bytes(&row.state), row.closed)
        } else {
            (Some(empty(lost.first_seen)), None)
        };
        let corrupt = || StoreError::Corrupt(format!("the row of device {device}"));
        let mut state = state.ok_or_else(corrupt)?;
        state.counts = Minutes::default();
        state.known_from = state.known_from.max(known_from);
        if start.first > 0 {
            // What lies before may have been removed.
            for boot in &mut state.boots {
                boot.open_from = boot.open_from.max(boot.ranges.first().map_or(0, |range| range.first));
            }
        }
        Ok(Row { device: *device, upto, state: state.to_bytes(), sealed: Vec::new(), closed })
    };
    lost.iter().map(row).collect()
}

fn empty(first_seen: UnixMs) -> DeviceState {
    DeviceState {
        first_seen,
        last_seen: first_seen,
        last_sample: None,
        undecided: 0,
        known_from: None,
        boots: Vec::new(),
        counts: Minutes::default(),
    }
}

/// Does something with the entries of a log from number `from` to before `end`.
async fn each<S: LogStore>(
    store: &S,
    slot: Slot,
    mut from: u64,
    end: u64,
    mut with: impl FnMut(&Entry),
) -> Result<(), StoreError> {
    while from < end {
        let entries = store.read(slot, from, READ_ENTRIES).await?;
        entries.iter().filter(|entry| entry.number < end).for_each(&mut with);
        from += entries.len() as u64;
        if entries.len() < READ_ENTRIES {
            break;
        }
    }
    Ok(())
}
