//! The rows of devices, and of their closed boots.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use rollcall_wire::{DeviceId, Slot};

use super::{WorkError, checkpoints, damage, sealed};
use crate::log::RowWrite;
use crate::log::row::Row;

/// slot, device → how far the row is (eight bytes), and the device's state.
pub(super) const DEVICES: TableDefinition<'_, (u8, &str), &[u8]> = TableDefinition::new("devices");
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
    let (mut new, mut new_closed) = (0, 0);
    for row in &write.rows {
        let key = (slot, row.device.as_str());
        match devices.get(key)? {
            Some(stored) => {
                if split(row.device, seal_open("devices", row.device, stored.value())?)?.0 >= row.upto {
                    continue;
                }
            }
            None => new += 1,
        }
        let value = [&row.upto.to_le_bytes()[..], &row.state].concat();
        devices.insert(key, seal("devices", row.device, value).as_slice())?;
        if let Some(boots) = &row.closed {
            let sealed = seal("closed_boots", row.device, boots.clone());
            new_closed += u64::from(closed.insert(key, sealed.as_slice())?.is_none());
        }
    }
    checkpoints::update(transaction, write.slot, |progress| {
        progress.devices += new;
        progress.closed += new_closed;
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
        let (upto, state) = split(device, seal_open("devices", device, stored.value())?)?;
        let boots = match closed.get((index, device.as_str()))? {
            Some(stored) => Some(seal_open("closed_boots", device, stored.value())?.to_vec()),
            None => None,
        };
        rows.push(Row { device, upto, state: state.to_vec(), closed: boots });
        if rows.len() == limit {
            break;
        }
    }
    Ok(rows)
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

fn split(device: DeviceId, value: &[u8]) -> Result<(u64, &[u8]), WorkError> {
    let (upto, state) = value.split_first_chunk().ok_or_else(|| unreadable(device))?;
    Ok((u64::from_le_bytes(*upto), state))
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
