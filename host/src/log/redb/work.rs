//! What goes wrong in the embedded store, by who can act.

use std::io;
use std::path::Path;

use crate::log::StoreError;

/// What goes wrong in a piece of work: in redb, in what is stored, or in what is asked for.
#[derive(Debug)]
pub(super) enum WorkError {
    Redb(redb::Error),
    Damage(String),
    Store(StoreError),
    /// redb, or what reads the rows, met what cannot be.
    Panic(String),
}

impl WorkError {
    /// Which damage of the file it reports, or the error that it is otherwise.
    pub(super) fn damage(self) -> Result<String, StoreError> {
        match self {
            Self::Panic(reason) | Self::Damage(reason) | Self::Redb(redb::Error::Corrupted(reason)) => {
                Ok(reason)
            }
            Self::Redb(redb::Error::TableDoesNotExist(name)) => Ok(format!("the table {name} is gone")),
            Self::Redb(redb::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Ok(error.to_string())
            }
            Self::Redb(error) => Err(unavailable(error)),
            Self::Store(error) => Err(error),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for WorkError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

pub(super) fn damaged(directory: &Path, reason: &str) -> String {
    let directory = directory.display();
    format!(
        "the store in {directory} is damaged ({reason}): stop rollcall and restore the folder from a backup; if windows \
         and rows alone are damaged, rollcall doctor --repair --store redb:{directory} makes them anew"
    )
}

pub(super) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

pub(super) fn damage(what: String) -> WorkError {
    WorkError::Damage(what)
}
