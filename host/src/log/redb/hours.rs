//! The hour rows of devices.

use std::ops::Range;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, Value, WriteTransaction};
use rollcall_wire::{DeviceId, Slot};

use super::{WorkError, checkpoints, damage, rows, sealed};
use crate::log::devices::{self, DeviceView, HourRow};
use crate::log::row::Row;
use crate::model::UnixMs;

/// slot, device, hour since 1970.
pub(super) type Key = (u8, &'static str, u32);

/// By device and hour → up to where the counts are, and the counts.
pub(super) const HOURS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("device_hours");

/// Makes the table, so that readers find it.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(HOURS)?;
    Ok(())
}

/// Adds what a row has sealed to its hours; how many of them are new.
pub(super) fn add(transaction: &WriteTransaction, slot: u8, row: &Row) -> Result<u64, WorkError> {
    if row.sealed.is_empty() {
        return Ok(0);
    }
    let mut table = transaction.open_table(HOURS)?;
    let device = row.device.as_str();
    let moved = devices::moved(&row.sealed, |hour| {
        let key = (slot, device, hour);
        let stored = table.get(key)?;
        Ok::<_, WorkError>(stored.map(|stored| {
            open(key, stored.value()).unwrap_or_else(|_| {
                tracing::warn!("{} is damaged, and not added to: rollcall doctor", place_of(device, hour));
                HourRow::unreadable(hour)
            })
        }))
    })?;
    let mut new = 0;
    for hour in moved {
        let key = (slot, device, hour.hour);
        let bytes = sealed::seal(NAME, &key_bytes(key), hour.to_bytes());
        new += u64::from(table.insert(key, bytes.as_slice())?.is_none());
    }
    Ok(new)
}

/// What there is of a device.
pub(super) fn device(
    transaction: &ReadTransaction,
    device: DeviceId,
    hours: Range<u32>,
) -> Result<DeviceView, WorkError> {
    let (slot, name) = (Slot::of(&device).index() as u8, device.as_str());
    let mut view = DeviceView { row: rows::one(transaction, device)?, hours: Vec::new() };
    for row in transaction.open_table(HOURS)?.range((slot, name, hours.start)..(slot, name, hours.end))? {
        let (key, stored) = row?;
        view.hours.push(open(key.value(), stored.value())?);
    }
    Ok(view)
}

/// The hour rows of a slot's devices, from this one on, `limit` at most.
pub(super) fn list(
    transaction: &ReadTransaction,
    slot: Slot,
    from: Option<(DeviceId, u32)>,
    limit: usize,
) -> Result<Vec<(DeviceId, HourRow)>, WorkError> {
    let index = slot.index() as u8;
    let (device, hour) = from.as_ref().map_or(("", 0), |(device, hour)| (device.as_str(), *hour));
    let table = transaction.open_table(HOURS)?;
    let mut hours = Vec::new();
    for row in table.range((index, device, hour)..(index + 1, "", 0))?.take(limit) {
        let (key, stored) = row?;
        let device = DeviceId::new(key.value().1).map_err(|_| damage(format!("a device of slot {slot}")))?;
        hours.push((device, open(key.value(), stored.value())?));
    }
    Ok(hours)
}

/// Are there as many hour rows as were written? redb counts the rows of a table.
pub(super) fn check(transaction: &ReadTransaction) -> Result<(), WorkError> {
    let mut expected = 0;
    for slot in Slot::all() {
        expected += checkpoints::read(transaction, slot)?.hours;
    }
    if transaction.open_table(HOURS)?.len()? == expected {
        Ok(())
    } else {
        Err(damage("the hours of devices".into()))
    }
}

/// Whose hour a key is, in plain words.
pub(super) fn place(key: &[u8]) -> String {
    let (_, device, hour) = <Key as Value>::from_bytes(key);
    place_of(device, hour)
}

fn place_of(device: &str, hour: u32) -> String {
    let at = UnixMs(u64::from(hour) * 3_600_000).to_rfc3339();
    format!("the hour of device {device} at {at}")
}

const NAME: &str = "device_hours";

fn open((slot, device, hour): (u8, &str, u32), stored: &[u8]) -> Result<HourRow, WorkError> {
    let bytes = sealed::open(NAME, &key_bytes((slot, device, hour)), stored);
    let row = bytes.and_then(|bytes| HourRow::from_bytes(hour, bytes));
    row.ok_or_else(|| damage(place_of(device, hour)))
}

fn key_bytes(key: (u8, &str, u32)) -> Vec<u8> {
    <Key as Value>::as_bytes(&key)
}
