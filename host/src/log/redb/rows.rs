//! The rows of devices, and of their closed boots.

use redb::{
    Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, Value, WriteTransaction,
};
use rollcall_wire::{DeviceId, Slot};

use super::{WorkError, checkpoints, damage, device_windows, packed, sealed};
use crate::log::row::{ClosedBoots, DeviceState, Row};
use crate::log::{RowWrite, codec};
use crate::model::UnixMs;

/// slot, device → how far the row is (eight bytes), what it has sealed, and the device's state.
pub(super) const DEVICES: TableDefinition<'_, (u8, &str), &[u8]> = TableDefinition::new("devices");
/// What a row has sealed is in its windows by the same transaction; rows of earlier versions have it too.
const NOTHING_SEALED: [u8; 1] = [0];

/// slot, device → its closed boots, if it has some.
pub(super) const CLOSED: TableDefinition<'_, (u8, &str), &[u8]> = TableDefinition::new("closed_boots");

/// Makes the tables, so that readers find them.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(DEVICES)?;
    transaction.open_table(CLOSED)?;
    Ok(())
}

/// Stores rows and moves their checkpoint.
pub(super) fn write(transaction: &WriteTransaction, write: &RowWrite) -> Result<(), WorkError> {
    let mut devices = transaction.open_table(DEVICES)?;
    let mut closed = transaction.open_table(CLOSED)?;
    let slot = write.slot.index() as u8;
    let (mut new, mut new_closed, mut new_windows) = (0, 0, 0);
    for row in &write.rows {
        let key = (slot, row.device.as_str());
        new_windows += device_windows::add(transaction, slot, row)?;
        match devices.get(key)? {
            Some(stored) => {
                let stored = seal_open("devices", row.device, stored.value())?;
                if upto(stored).ok_or_else(|| unreadable(row.device))?.0 >= row.upto {
                    continue;
                }
            }
            None => new += 1,
        }
        let value = [&row.upto.to_le_bytes()[..], &NOTHING_SEALED, &row.state].concat();
        devices.insert(key, seal("devices", row.device, value).as_slice())?;
        if let Some(boots) = &row.closed {
            let sealed = seal("closed_boots", row.device, boots.clone());
            new_closed += u64::from(closed.insert(key, sealed.as_slice())?.is_none());
        }
    }
    checkpoints::update(transaction, write.slot, |progress| {
        progress.devices += new;
        progress.closed += new_closed;
        progress.device_windows += new_windows;
        progress.rows = progress.rows.max(write.checkpoint.unwrap_or_default());
        Ok(())
    })
}

/// The rows of `slot` after those of `after`, `limit` at most.
pub(super) fn read(
    transaction: &ReadTransaction,
    slot: Slot,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<Row>, WorkError> {
    let devices = transaction.open_table(DEVICES)?;
    let closed = transaction.open_table(CLOSED)?;
    let index = slot.index() as u8;
    let after_key = (index, after.as_ref().map_or("", DeviceId::as_str));
    let mut rows = Vec::new();
    for row in devices.range(after_key..(index + 1, ""))? {
        let (key, stored) = row?;
        let (_, device) = key.value();
        let device = DeviceId::new(device).map_err(|_| damage(format!("a device of slot {slot}")))?;
        if Some(device) == after {
            continue;
        }
        let row = open(device, stored.value())?;
        rows.push(Row { closed: closed_of(&closed, (index, device))?, ..row });
        if rows.len() == limit {
            break;
        }
    }
    Ok(rows)
}

/// How many values a table has.
pub(super) fn count<K: Key + 'static, V: Value + 'static>(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<u64, WorkError> {
    Ok(transaction.open_table(table)?.len()?)
}

/// Can a row be read, and its closed boots, if it has some?
pub(super) fn is_readable(device: &str, stored: &[u8], closed: Option<&[u8]>) -> bool {
    let read = || {
        let device = DeviceId::new(device).ok()?;
        DeviceState::from_bytes(&open(device, stored).ok()?.state)?;
        if let Some(closed) = closed {
            ClosedBoots::from_bytes(seal_open("closed_boots", device, closed).ok()?)?;
        }
        Some(())
    };
    read().is_some()
}

/// Are all rows there that were written?
pub(super) fn check(transaction: &ReadTransaction, slot: Slot) -> Result<(), WorkError> {
    let index = slot.index() as u8;
    let stored = |table: TableDefinition<'_, (u8, &str), &[u8]>| -> Result<u64, WorkError> {
        Ok(transaction.open_table(table)?.range((index, "")..(index + 1, ""))?.count() as u64)
    };
    let made = checkpoints::read(transaction, slot)?;
    if (stored(DEVICES)?, stored(CLOSED)?) == (made.devices, made.closed) {
        return Ok(());
    }
    Err(damage(format!("the devices of slot {slot}")))
}

/// When the first entry of these slots was received that is beyond the rows' checkpoints.
pub(super) fn beyond(transaction: &ReadTransaction, slots: &[Slot]) -> Result<Option<UnixMs>, WorkError> {
    let mut first: Option<UnixMs> = None;
    for slot in slots {
        let next = checkpoints::read(transaction, *slot)?.rows;
        let received = packed::read(transaction, *slot, next, 1, codec::entry_received_at)?;
        first = first.into_iter().chain(received).min();
    }
    Ok(first)
}

/// A device's row without its closed boots.
pub(super) fn one(transaction: &ReadTransaction, device: DeviceId) -> Result<Option<Row>, WorkError> {
    let devices = transaction.open_table(DEVICES)?;
    let stored = devices.get((Slot::of(&device).index() as u8, device.as_str()))?;
    stored.map(|stored| open(device, stored.value())).transpose()
}

/// A device's closed boots.
pub(super) fn closed(transaction: &ReadTransaction, device: DeviceId) -> Result<Option<Vec<u8>>, WorkError> {
    closed_of(&transaction.open_table(CLOSED)?, (Slot::of(&device).index() as u8, device))
}

fn closed_of(
    table: &impl ReadableTable<(u8, &'static str), &'static [u8]>,
    (slot, device): (u8, DeviceId),
) -> Result<Option<Vec<u8>>, WorkError> {
    let stored = table.get((slot, device.as_str()))?;
    stored.map(|stored| Ok(seal_open("closed_boots", device, stored.value())?.to_vec())).transpose()
}

fn open(device: DeviceId, stored: &[u8]) -> Result<Row, WorkError> {
    let value = seal_open("devices", device, stored)?;
    let row = || {
        let (upto, rest) = upto(value)?;
        let (sealed, state) = postcard::take_from_bytes(rest).ok()?;
        Some(Row { device, upto, sealed, state: state.to_vec(), closed: None })
    };
    row().ok_or_else(|| unreadable(device))
}

fn upto(value: &[u8]) -> Option<(u64, &[u8])> {
    let (upto, rest) = value.split_first_chunk()?;
    Some((u64::from_le_bytes(*upto), rest))
}

/// The slot is a function of the device, and so is no part of what is sealed.
fn seal(table: &str, device: DeviceId, value: Vec<u8>) -> Vec<u8> {
    sealed::seal(table, device.as_str().as_bytes(), value)
}

fn seal_open<'a>(table: &str, device: DeviceId, stored: &'a [u8]) -> Result<&'a [u8], WorkError> {
    sealed::open(table, device.as_str().as_bytes(), stored).ok_or_else(|| unreadable(device))
}

fn unreadable(device: DeviceId) -> WorkError {
    damage(format!("the row of device {device}"))
}
