//! The windows of devices.

use std::ops::Range;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, Value, WriteTransaction};
use rollcall_wire::{DeviceId, Slot};

use super::{WorkError, checkpoints, damage, rows, sealed};
use crate::log::devices::{self, DeviceView, DeviceWindow, Span};
use crate::log::row::Row;

/// slot, device, [`Span::number`].
pub(super) type Key = (u8, &'static str, u32);

/// By device and window → up to where the counts are, and the counts.
pub(super) const TABLE: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("device_hours");

/// Makes the table, so that readers find it.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(TABLE)?;
    Ok(())
}

/// Adds what a row has sealed to its windows; how many of these are new.
pub(super) fn add(transaction: &WriteTransaction, slot: u8, row: &Row) -> Result<u64, WorkError> {
    if row.sealed.is_empty() {
        return Ok(0);
    }
    let mut table = transaction.open_table(TABLE)?;
    let device = row.device.as_str();
    let moved = devices::moved(&row.sealed, |span| {
        let key = (slot, device, span.number());
        let stored = table.get(key)?;
        Ok::<_, WorkError>(stored.map(|stored| {
            open(key, stored.value()).unwrap_or_else(|_| {
                tracing::warn!("{} is damaged, and not added to: rollcall doctor", place_of(device, span));
                DeviceWindow::unreadable(span)
            })
        }))
    })?;
    let mut new = 0;
    for window in moved {
        let key = (slot, device, window.span.number());
        let bytes = sealed::seal(NAME, &key_bytes(key), window.to_bytes());
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
    let mut view = DeviceView { row: rows::one(transaction, device)?, windows: Vec::new() };
    let table = transaction.open_table(TABLE)?;
    for numbers in Span::numbers(&hours) {
        for row in table.range((slot, name, numbers.start)..(slot, name, numbers.end))? {
            let (key, stored) = row?;
            view.windows.push(open(key.value(), stored.value())?);
        }
    }
    Ok(view)
}

/// The windows of a slot's devices, from this one on, `limit` at most.
pub(super) fn list(
    transaction: &ReadTransaction,
    slot: Slot,
    from: Option<(DeviceId, Span)>,
    limit: usize,
) -> Result<Vec<(DeviceId, DeviceWindow)>, WorkError> {
    let index = slot.index() as u8;
    let (device, number) = from.as_ref().map_or(("", 0), |(device, span)| (device.as_str(), span.number()));
    let table = transaction.open_table(TABLE)?;
    let mut windows = Vec::new();
    for row in table.range((index, device, number)..(index + 1, "", 0))?.take(limit) {
        let (key, stored) = row?;
        let device = DeviceId::new(key.value().1).map_err(|_| damage(format!("a device of slot {slot}")))?;
        windows.push((device, open(key.value(), stored.value())?));
    }
    Ok(windows)
}

/// Are there as many windows as were written? redb counts the rows of a table.
pub(super) fn check(transaction: &ReadTransaction) -> Result<(), WorkError> {
    let mut expected = 0;
    for slot in Slot::all() {
        expected += checkpoints::read(transaction, slot)?.device_windows;
    }
    if transaction.open_table(TABLE)?.len()? == expected {
        Ok(())
    } else {
        Err(damage("the windows of devices".into()))
    }
}

/// Whose window a key is, in plain words.
pub(super) fn place(key: &[u8]) -> String {
    let (_, device, number) = <Key as Value>::from_bytes(key);
    place_of(device, Span::of_number(number))
}

fn place_of(device: &str, span: Span) -> String {
    format!("device {device}: {span}")
}

const NAME: &str = "device_hours";

fn open((slot, device, number): (u8, &str, u32), stored: &[u8]) -> Result<DeviceWindow, WorkError> {
    let span = Span::of_number(number);
    let bytes = sealed::open(NAME, &key_bytes((slot, device, number)), stored);
    let window = bytes.and_then(|bytes| DeviceWindow::from_bytes(span, bytes));
    window.ok_or_else(|| damage(place_of(device, span)))
}

fn key_bytes(key: (u8, &str, u32)) -> Vec<u8> {
    <Key as Value>::as_bytes(&key)
}
