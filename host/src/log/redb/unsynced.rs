//! Commits that take no fsync of their own: of what is made from the log.

use std::sync::atomic::{AtomicUsize, Ordering};

use redb::{Database, Durability, WriteTransaction};

use super::{WorkError, unavailable};

/// So many commits at most follow each other without an fsync.
const UNSYNCED_MAX: usize = 64;

/// How many commits followed each other without an fsync.
#[derive(Default)]
pub(super) struct Unsynced(AtomicUsize);

impl Unsynced {
    /// Begins to write what can be made again: it takes no fsync of its own, except now and then while nothing is
    /// appended. redb keeps in memory what was replaced since the last one, and where all is made anew, a process that
    /// is cut off goes on from there.
    pub(super) fn begin_write(&self, database: &Database) -> Result<WriteTransaction, WorkError> {
        let mut transaction = database.begin_write()?;
        if self.0.fetch_add(1, Ordering::Relaxed) < UNSYNCED_MAX {
            transaction.set_durability(Durability::None).map_err(unavailable).map_err(WorkError::Store)?;
        } else {
            self.none();
        }
        Ok(transaction)
    }

    pub(super) fn none(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
