//! The tables of older formats. The log stays as it is; only what of it is not packed yet moves into today's tail, with
//! checksums and the length of the log, out of formats that had neither.

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use rollcall_wire::{Slot, Status};

use super::open::prepare_log;
use super::{WorkError, damage, packed, tail};
use crate::log::key;

/// The first format whose log is as today's.
pub(super) const FIRST_WITH_TAIL: u64 = 3;

pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
pub(super) const CHECKPOINTS: TableDefinition<'_, u8, u64> = TableDefinition::new("checkpoints");
pub(super) const DEDUPE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("dedupe");
pub(super) const MINUTES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("minutes");
pub(super) const HOURS: TableDefinition<'_, u64, [u64; Status::COUNT]> = TableDefinition::new("hours");
pub(super) const DAYS: TableDefinition<'_, u64, [u64; Status::COUNT]> = TableDefinition::new("days");

/// Of a migration to format 3 that was cut off.
pub(super) const COPIED: TableDefinition<'_, u8, (u64, u64)> = TableDefinition::new("migration_copied");

/// Copies what is not packed of a log of format 1 or 2. The version that wrote it may go on with it afterwards: whoever
/// comes again copies again.
pub(super) fn copy_tail(database: &Database) -> Result<(), WorkError> {
    let transaction = database.begin_write()?;
    transaction.delete_table(tail::TAIL)?;
    transaction.delete_table(packed::CHUNKS)?;
    prepare_log(&transaction)?;
    for slot in Slot::all() {
        copy_tail_of(&transaction, slot)?;
    }
    transaction.commit()?;
    Ok(())
}

fn copy_tail_of(transaction: &WriteTransaction, slot: Slot) -> Result<(), WorkError> {
    let checkpoints = transaction.open_table(CHECKPOINTS)?;
    let start = checkpoints.get(slot.index() as u8)?.map_or(0, |next| next.value());
    tail::set_length(transaction, slot, start)?;
    for (row, number) in transaction.open_table(ENTRIES)?.range(key::keys(slot, start))?.zip(start..) {
        let (key, bytes) = row?;
        if key.value() != key::key(slot, number) {
            return Err(damage(format!("entry {number} of slot {slot}")));
        }
        tail::put(transaction, slot, number, bytes.value().to_vec())?;
    }
    Ok(())
}

/// What older formats had, and today's has not.
pub(super) fn delete_older_tables(transaction: &WriteTransaction) -> Result<(), WorkError> {
    transaction.delete_table(ENTRIES)?;
    transaction.delete_table(CHECKPOINTS)?;
    transaction.delete_table(DEDUPE)?;
    transaction.delete_table(MINUTES)?;
    transaction.delete_table(HOURS)?;
    transaction.delete_table(DAYS)?;
    transaction.delete_table(COPIED)?;
    Ok(())
}
