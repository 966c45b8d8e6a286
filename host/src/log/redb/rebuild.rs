//! What is made from the log, made anew in a store that an older version wrote: what is written before and after.
//!
//! Until a rebuild begins nothing is changed that an older version reads. From then on the store has today's format, and
//! a mark that keeps everybody else from opening it. It goes on where it was cut off.

use std::path::Path;

use redb::{Database, ReadableDatabase};

use super::open::{
    FORMAT, FORMAT_WHOLE, META, NEW_FILE, OLDEST_FORMAT, ONLY_RENUMBERED, Stamp, name_file, prepare_made,
    renumbered,
};
use super::{
    RedbOpenError, RedbStore, WorkError, check, checkpoints, device_windows, kept, migrate, rows, windows,
};
use crate::log::rollup::Resolution;
use crate::log::{Migration, StoreError};

impl RedbStore {
    /// Opens a store that an older version wrote, and converts what needs no rebuild; of one that does, has it begun already?
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn open_to_migrate(directory: &Path) -> Result<Migration<(Self, bool)>, RedbOpenError> {
        if !Self::is_in(directory) {
            return Ok(Migration::Nothing);
        }
        let (store, Stamp { format, rebuilding }) = Self::open_file(directory)?;
        let failed = |error| RedbOpenError::of(directory, error);
        match format {
            FORMAT_WHOLE..=FORMAT if rebuilding => Ok(Migration::Rebuild((store, true))),
            FORMAT_WHOLE..=FORMAT => Ok(Migration::Nothing),
            OLDEST_FORMAT..FORMAT_WHOLE if ONLY_RENUMBERED.contains(&format) => {
                store.attempt(|database| set_format(database, renumbered(format))).map_err(failed)?;
                Ok(if rebuilding { Migration::Rebuild((store, true)) } else { Migration::Done })
            }
            OLDEST_FORMAT..FORMAT_WHOLE => {
                if format < migrate::FIRST_WITH_TAIL {
                    store.attempt(migrate::copy_tail).map_err(failed)?;
                }
                Ok(Migration::Rebuild((store, false)))
            }
            other => Err(RedbOpenError::OtherFormat(directory.into(), other, FORMAT)),
        }
    }

    /// Lets go of all that is made from the log, and of what older formats had.
    ///
    /// # Errors
    /// When it cannot be written; nothing is changed then.
    pub async fn begin_rebuild(&self) -> Result<(), StoreError> {
        if self.file == NEW_FILE {
            // Of a repair, which has made it so.
            return Ok(());
        }
        self.run(|database| {
            let transaction = database.begin_write()?;
            migrate::delete_older_tables(&transaction)?;
            transaction.delete_table(checkpoints::CHECKPOINTS)?;
            transaction.delete_table(rows::DEVICES)?;
            transaction.delete_table(rows::CLOSED)?;
            transaction.delete_table(device_windows::TABLE)?;
            for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
                transaction.delete_table(windows::table(resolution))?;
            }
            prepare_made(&transaction)?;
            transaction.open_table(META)?.insert("format", FORMAT_WHOLE)?;
            transaction.open_table(META)?.insert("rebuild", 1)?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// All is made: the store may be opened from now on.
    ///
    /// # Errors
    /// When it is not all there, or cannot be written.
    pub async fn end_rebuild(&self) -> Result<(), StoreError> {
        let (directory, file) = (self.directory.clone(), self.file);
        self.run(move |database| {
            check(&database.begin_read()?)?;
            let transaction = database.begin_write()?;
            kept::end(&transaction)?;
            transaction.open_table(META)?.remove("rebuild")?;
            transaction.commit()?;
            // Of a repair, which made it beside the damaged one.
            if file == NEW_FILE { name_file(&directory) } else { Ok(()) }
        })
        .await
    }
}

fn set_format(database: &Database, format: u64) -> Result<(), WorkError> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", format)?;
    transaction.commit()?;
    Ok(())
}
