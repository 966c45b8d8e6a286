//! Commits that take no fsync of their own: of what is made from the log.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use redb::{Database, Durability, WriteTransaction};

use super::{WorkError, unavailable};
use crate::log::StoreError;

/// So many commits at most follow each other without an fsync.
const UNSYNCED_MAX: usize = 64;

/// How many commits followed each other without an fsync, and whether such commits were lost.
#[derive(Default)]
pub(super) struct Unsynced {
    commits: AtomicUsize,
    lost: AtomicBool,
}

impl Unsynced {
    /// Begins to write what can be made again: it takes no fsync of its own, except now and then while nothing is
    /// appended. redb keeps in memory what was replaced since the last one, and where all is made anew, a process that
    /// is cut off goes on from there.
    ///
    /// # Errors
    /// Once after [`Unsynced::lost`], so that whoever made it looks what is left before anything is added to it.
    pub(super) fn begin_write(&self, database: &Database) -> Result<WriteTransaction, WorkError> {
        if self.lost.swap(false, Ordering::SeqCst) {
            let reason = "the file was opened anew after an error; what was not durable is looked at again";
            return Err(WorkError::Store(StoreError::Unavailable(reason.to_owned())));
        }
        let mut transaction = database.begin_write()?;
        if self.commits.fetch_add(1, Ordering::Relaxed) < UNSYNCED_MAX {
            transaction.set_durability(Durability::None).map_err(unavailable).map_err(WorkError::Store)?;
        } else {
            self.none();
        }
        Ok(transaction)
    }

    pub(super) fn none(&self) {
        self.commits.store(0, Ordering::Relaxed);
    }

    /// The database is closed after an error, of whoever's call: such commits may be gone. To be said before it is opened
    /// again.
    pub(super) fn lost(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }
}
