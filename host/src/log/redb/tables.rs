//! The list of a store's tables, for what is done with all of them.

use std::collections::BTreeMap;

use redb::{Key, ReadTransaction, ReadableTableMetadata, TableDefinition, TableHandle, Value};

use super::{WorkError, checkpoints, device_windows, migrate, open, packed, rows, starts, tail, windows};
use crate::log::rollup::Resolution;

/// What is done with each table.
pub(super) trait EachTable {
    type Error;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), Self::Error>;
}

/// The tables of the log, and of what was removed from it: all others are made from it.
pub(super) fn each_table_of_the_log<W: EachTable>(work: &mut W) -> Result<(), W::Error> {
    work.table(tail::TAIL)?;
    work.table(packed::CHUNKS)?;
    work.table(packed::OLDER_CHUNKS)?;
    work.table(starts::STARTS)?;
    work.table(starts::IMPORTED)
}

/// All tables that a store can have. A copy refuses a store that has others: a new one has its line here.
pub(super) fn each_table<W: EachTable>(work: &mut W) -> Result<(), W::Error> {
    work.table(open::META)?;
    each_table_of_the_log(work)?;
    work.table(checkpoints::CHECKPOINTS)?;
    work.table(rows::DEVICES)?;
    work.table(rows::CLOSED)?;
    work.table(device_windows::TABLE)?;
    for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
        work.table(windows::table(resolution))?;
    }
    // Of older formats, and of stores whose migration was cut off.
    work.table(migrate::ENTRIES)?;
    work.table(migrate::CHECKPOINTS)?;
    work.table(migrate::DEDUPE)?;
    work.table(migrate::MINUTES)?;
    work.table(migrate::HOURS)?;
    work.table(migrate::DAYS)?;
    work.table(migrate::COPIED)
}

/// The rows of each table by its name.
pub(super) type Rows = BTreeMap<String, u64>;

/// How many rows each table has.
pub(super) fn rows(from: &ReadTransaction) -> Result<Rows, WorkError> {
    let mut rows = Rows::new();
    for table in from.list_tables()? {
        let name = table.name().to_owned();
        rows.insert(name, from.open_untyped_table(table)?.len()?);
    }
    Ok(rows)
}
