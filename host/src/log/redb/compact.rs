//! A store's file made smaller: redb uses room again that was given back, and gives none back to the system by itself.
//!
//! redb moves pages and commits, so that a process that is killed leaves a whole file. Nobody else uses it meanwhile.

use std::fs;
use std::path::Path;

use redb::CompactionError;

use super::open::{builder, file_with_bytes, unusable};
use super::{RedbOpenError, RedbStore, WorkError, close, guarded};

/// How long a file was, and is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

impl RedbStore {
    /// Makes the file of the store in `directory` as small as it can be.
    ///
    /// # Errors
    /// As [`RedbStore::open`], and when there is none.
    pub fn compact(directory: &Path) -> Result<Compacted, RedbOpenError> {
        if !Self::is_in(directory) {
            return Err(RedbOpenError::NoStore(directory.into()));
        }
        // One that is damaged is left alone.
        drop(Self::open(directory)?);
        let file = file_with_bytes(directory)?;
        let length = || {
            let metadata = fs::metadata(&file).map_err(|error| unusable(directory, &error))?;
            Ok(metadata.len())
        };
        let before = length()?;
        let compacted = guarded(|| {
            let mut database = builder().open(&file)?;
            let compacted = database.compact();
            close(Some(database.into()));
            match compacted {
                Ok(_) => Ok(()),
                Err(CompactionError::Storage(error)) => Err(error.into()),
                // Nobody else has this database.
                Err(error) => Err(WorkError::Panic(error.to_string())),
            }
        });
        compacted.map_err(|error| RedbOpenError::of(directory, error))?;
        Ok(Compacted { before, after: length()? })
    }
}
