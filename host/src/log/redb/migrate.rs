//! Stores of formats 1 and 2 become one of today's. The log stays as it is but for its last entries, which are
//! not packed yet; windows are copied; rows of devices are made from the log by whoever opens the store.
//!
//! Every step may be cut off and begun again. The old tables stay as they are until the format has changed, which
//! comes last. If the version that wrote the store goes on with it until then, the copy is made anew.

use std::path::Path;

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use rollcall_wire::{Slot, Status};

use super::open::{FILE, FORMAT, OLDEST_FORMAT, builder, prepare_tables, set_format};
use super::{
    RedbOpenError, RedbStore, WorkError, checkpoints, damage, guarded, load, packed, rows, tail, windows,
};
use crate::log::rollup::Resolution;
use crate::log::{codec, key};
use crate::model::Counts;

pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
pub(super) const CHECKPOINTS: TableDefinition<'_, u8, u64> = TableDefinition::new("checkpoints");
pub(super) const DEDUPE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("dedupe");
pub(super) const MINUTES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("minutes");
pub(super) const HOURS: TableDefinition<'_, u64, [u64; Status::COUNT]> = TableDefinition::new("hours");
pub(super) const DAYS: TableDefinition<'_, u64, [u64; Status::COUNT]> = TableDefinition::new("days");

/// slot → where the old tables were when they were copied; there from then until the format is changed.
pub(super) const COPIED: TableDefinition<'_, u8, Position> = TableDefinition::new("migration_copied");

/// The checkpoint of a slot, and the length of its log.
type Position = (u64, u64);

/// How many windows are copied in one transaction.
const COPY_ROWS: usize = 20_000;

impl RedbStore {
    /// Makes today's tables out of an older store, and opens it; `None` when it is one of today's already, or
    /// there is none. It becomes one of today's by [`RedbStore::end_migration`].
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn begin_migration(
        directory: &Path,
        mut report: impl FnMut(&str),
    ) -> Result<Option<Self>, RedbOpenError> {
        if !Self::is_in(directory) {
            return Ok(None);
        }
        let file = directory.join(FILE);
        let failed = |error| RedbOpenError::of(directory, error);
        let (store, format) =
            Self::open_with(directory, move || Ok(builder().open(&file)?)).map_err(failed)?;
        match format {
            FORMAT => return Ok(None),
            OLDEST_FORMAT..FORMAT => {}
            other => return Err(RedbOpenError::OtherFormat(directory.into(), other, FORMAT)),
        }
        guarded(|| {
            let database = store.database.lock().clone().expect("it was opened a moment ago");
            copy(&database, &mut report)?;
            load(&database, &store.tail)
        })
        .map_err(failed)?;
        Ok(Some(store))
    }

    /// The rows are made: the store is one of today's from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn end_migration(&self) -> Result<(), crate::log::StoreError> {
        self.run(|database| {
            set_format(database, FORMAT)?;
            let transaction = database.begin_write()?;
            transaction.delete_table(ENTRIES)?;
            transaction.delete_table(CHECKPOINTS)?;
            transaction.delete_table(DEDUPE)?;
            transaction.delete_table(MINUTES)?;
            transaction.delete_table(HOURS)?;
            transaction.delete_table(DAYS)?;
            transaction.delete_table(COPIED)?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }
}

fn copy(database: &Database, report: &mut impl FnMut(&str)) -> Result<(), WorkError> {
    if is_copied(database)? {
        return Ok(());
    }
    discard(database)?;
    let mut from = 0;
    while let Some(next) = copy_minutes(database, from)? {
        report(&format!("copied the minutes before {next}"));
        from = next;
    }
    let transaction = database.begin_write()?;
    prepare_tables(&transaction)?;
    let total = copy_sums(&transaction)?;
    report("copied the hours and days");
    for slot in Slot::all() {
        copy_tail(&transaction, slot, total)?;
    }
    report("copied the end of the log");
    for slot in Slot::all() {
        let position = position(&transaction, slot)?;
        transaction.open_table(COPIED)?.insert(slot.index() as u8, position)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Was all copied, and nothing added to the old tables since?
fn is_copied(database: &Database) -> Result<bool, WorkError> {
    // Dropped without a commit: to open a table in it makes one that is not there.
    let transaction = database.begin_write()?;
    for slot in Slot::all() {
        let copied =
            transaction.open_table(COPIED)?.get(slot.index() as u8)?.map(|position| position.value());
        if copied != Some(position(&transaction, slot)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the old tables are.
fn position(transaction: &WriteTransaction, slot: Slot) -> Result<Position, WorkError> {
    let windows =
        transaction.open_table(CHECKPOINTS)?.get(slot.index() as u8)?.map_or(0, |next| next.value());
    let entries = transaction.open_table(ENTRIES)?;
    let last = entries.range(key::keys(slot, windows))?.next_back().transpose()?;
    let end = last.map_or(windows, |(key, _)| key.value() - key::key(slot, 0) + 1);
    Ok((windows, end))
}

/// Today's tables as they were before they were copied: not there.
fn discard(database: &Database) -> Result<(), WorkError> {
    let transaction = database.begin_write()?;
    transaction.delete_table(COPIED)?;
    transaction.delete_table(tail::TAIL)?;
    transaction.delete_table(packed::CHUNKS)?;
    transaction.delete_table(checkpoints::CHECKPOINTS)?;
    transaction.delete_table(rows::DEVICES)?;
    transaction.delete_table(rows::CLOSED)?;
    for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
        transaction.delete_table(windows::table(resolution))?;
    }
    transaction.commit()?;
    Ok(())
}

/// Copies minutes from the one at `from` on; where to go on, if there are more.
fn copy_minutes(database: &Database, from: u64) -> Result<Option<u64>, WorkError> {
    let transaction = database.begin_write()?;
    prepare_tables(&transaction)?;
    let mut next = None;
    {
        let minutes = transaction.open_table(MINUTES)?;
        for (count, row) in minutes.range(from..)?.enumerate() {
            let (start, bytes) = row?;
            if count == COPY_ROWS {
                next = Some(start.value());
                break;
            }
            let minute = codec::minute(start.value(), bytes.value()).map_err(WorkError::Store)?;
            windows::put_minute(&transaction, start.value(), &minute)?;
        }
    }
    transaction.commit()?;
    Ok(next)
}

/// Copies hours and days; the sum of the days.
fn copy_sums(transaction: &WriteTransaction) -> Result<Counts, WorkError> {
    let mut total = Counts::default();
    for (table, resolution) in [(HOURS, Resolution::Hour), (DAYS, Resolution::Day)] {
        for row in transaction.open_table(table)?.range::<u64>(..)? {
            let (start, counts) = row?;
            let counts = Counts { statuses: counts.value(), ..Counts::default() };
            windows::put_sum(transaction, resolution, start.value(), counts)?;
            if resolution == Resolution::Day {
                total += counts;
            }
        }
    }
    Ok(total)
}

/// Copies what of a slot is not packed, and its checkpoint. Windows do not tell whose samples they hold: all of
/// them stand with the first slot.
fn copy_tail(transaction: &WriteTransaction, slot: Slot, total: Counts) -> Result<(), WorkError> {
    let (windows, _) = position(transaction, slot)?;
    tail::set_length(transaction, slot, windows)?;
    for (row, number) in transaction.open_table(ENTRIES)?.range(key::keys(slot, windows))?.zip(windows..) {
        let (key, bytes) = row?;
        if key.value() != key::key(slot, number) {
            return Err(damage(format!("entry {number} of slot {slot}")));
        }
        tail::put(transaction, slot, number, bytes.value().to_vec())?;
    }
    checkpoints::update(transaction, slot, |progress| {
        progress.windows = windows;
        if slot.index() == 0 {
            progress.counts = total.statuses;
        }
        Ok(())
    })
}
