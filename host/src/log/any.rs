//! The one place that knows which stores there are: how each is written on the command line, opened and
//! looked at. A new store adds a line to each of the three.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rollcall_wire::{DeviceId, Slot};
use tokio::sync::{mpsc, watch};

use super::devices::DeviceView;
#[cfg(feature = "mongodb")]
use super::mongo::{self, MongoAddress, MongoStore};
use super::plan::{Plan, Upto, View};
use super::rebuild::{Migration, Rebuild};
use super::redb::{self, BackupError, Compacted, LocalRequests, Progress, RedbStore};
use super::rollup::Chunk;
use super::row::Row;
use super::start::{Cut, Identity, Start};
use super::{Beyond, Checkpoint, LogStore, Recount, RowWrite, StoreError};
use crate::model::Entry;
use crate::ops::check::Report;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// `redb:DIRECTORY`: the embedded store in that directory.
    Redb(PathBuf),
    /// `mongodb://…`: MongoDB.
    #[cfg(feature = "mongodb")]
    Mongo(MongoAddress),
}

/// An address that is none. It does not quote the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreAddressError {
    /// No store is written like this.
    #[error(
        "--store is written redb:DIRECTORY, as redb:./rollcall-data, or mongodb://HOST:PORT/DATABASE, as mongodb://127.0.0.1:27017/rollcall"
    )]
    Unknown,
    /// The store was left out of this build.
    #[error("this rollcall was built without MongoDB: use redb:DIRECTORY")]
    NotBuiltIn,
    /// There is nobody to show it to.
    #[error(
        "the store redb:DIRECTORY needs no password: leave out --store-password-file and ROLLCALL_STORE_PASSWORD"
    )]
    NoPassword,
    /// A password that cannot be put into the address.
    #[cfg(feature = "mongodb")]
    #[error(transparent)]
    Password(#[from] mongo::PasswordError),
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded store.
    #[error(transparent)]
    Redb(#[from] redb::RedbOpenError),
    /// MongoDB.
    #[cfg(feature = "mongodb")]
    #[error(transparent)]
    Mongo(#[from] mongo::MongoOpenError),
}

/// Why a store is not made smaller.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] redb::RedbOpenError),
    /// Another tool's work.
    #[error("a MongoDB uses room again by itself; its command compact gives it back to the system")]
    NotOurs,
    /// It did not come to its end.
    #[error("cannot compact the store: {0}")]
    Failed(String),
}

impl OpenError {
    /// May the same attempt succeed later, without anybody's doing?
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Redb(_) => false,
            #[cfg(feature = "mongodb")]
            Self::Mongo(error) => error.may_pass(),
        }
    }
}

impl StoreAddress {
    /// Reads an address as it is written after `--store`.
    ///
    /// # Errors
    /// [`StoreAddressError`] says how a store is written.
    pub fn parse(text: &str) -> Result<Self, StoreAddressError> {
        match text.split_once(':') {
            Some(("redb", directory)) if !directory.is_empty() => Ok(Self::Redb(directory.into())),
            #[cfg(feature = "mongodb")]
            Some(("mongodb" | "mongodb+srv", rest)) if rest.starts_with("//") => {
                Ok(Self::Mongo(MongoAddress::new(text)))
            }
            #[cfg(not(feature = "mongodb"))]
            Some(("mongodb", _)) => Err(StoreAddressError::NotBuiltIn),
            _ => Err(StoreAddressError::Unknown),
        }
    }

    /// The same store, with the password of the user that it names.
    ///
    /// # Errors
    /// There is no such user, or it has one.
    #[cfg_attr(not(feature = "mongodb"), allow(unused_variables, reason = "redb takes none"))]
    pub fn with_password(self, password: &str) -> Result<Self, StoreAddressError> {
        match self {
            Self::Redb(_) => Err(StoreAddressError::NoPassword),
            #[cfg(feature = "mongodb")]
            Self::Mongo(address) => Ok(Self::Mongo(address.with_password(password)?)),
        }
    }

    /// Opens the store, or makes it when there is none.
    ///
    /// # Errors
    /// [`OpenError`] says who can act.
    pub async fn open(&self) -> Result<AnyStore, OpenError> {
        Ok(match self {
            Self::Redb(directory) => AnyStore::Redb(RedbStore::open(directory)?),
            #[cfg(feature = "mongodb")]
            Self::Mongo(address) => AnyStore::Mongo(MongoStore::open(address).await?),
        })
    }

    /// Opens a store that an older version wrote, or whose rebuild was cut off, and converts what needs no rebuild.
    ///
    /// # Errors
    /// As [`StoreAddress::open`].
    pub async fn open_to_migrate(&self) -> Result<Migration<Rebuild>, OpenError> {
        Ok(match self {
            Self::Redb(directory) => RedbStore::open_to_migrate(directory)?
                .map(|(store, begun)| Rebuild::new(AnyStore::Redb(store), begun)),
            #[cfg(feature = "mongodb")]
            Self::Mongo(address) => MongoStore::open_to_migrate(address)
                .await?
                .map(|(store, begun)| Rebuild::new(AnyStore::Mongo(store), begun)),
        })
    }

    /// Opens a store of today's format, whatever what is made from its log is like.
    ///
    /// # Errors
    /// As [`StoreAddress::open`]; and there has to be one.
    pub async fn open_to_repair(&self) -> Result<Rebuild, OpenError> {
        let store = match self {
            Self::Redb(directory) => AnyStore::Redb(RedbStore::open_to_repair(directory)?),
            #[cfg(feature = "mongodb")]
            Self::Mongo(address) => AnyStore::Mongo(MongoStore::open_to_repair(address).await?),
        };
        Ok(Rebuild::new(store, false))
    }

    /// Copies the store into the directory `to`, also while another process uses it.
    ///
    /// # Errors
    /// [`BackupError`] says who can act; there is no copy then.
    pub async fn backup(
        &self,
        to: &Path,
        progress: watch::Sender<Progress>,
    ) -> Result<Progress, BackupError> {
        match self {
            Self::Redb(directory) => redb::backup(directory, to, progress).await,
            #[cfg(feature = "mongodb")]
            Self::Mongo(_) => Err(BackupError::NotOurs),
        }
    }

    /// Makes the store's file as small as it can be, while nobody uses it.
    ///
    /// # Errors
    /// [`CompactError`] says who can act.
    pub async fn compact(&self) -> Result<Compacted, CompactError> {
        match self {
            Self::Redb(directory) => {
                let directory = directory.clone();
                let compacted = tokio::task::spawn_blocking(move || RedbStore::compact(&directory)).await;
                Ok(compacted.map_err(|error| CompactError::Failed(error.to_string()))??)
            }
            #[cfg(feature = "mongodb")]
            Self::Mongo(_) => Err(CompactError::NotOurs),
        }
    }

    /// Looks at the store for `rollcall doctor`, also while others use it, and makes none. Windows and rows are
    /// compared by `recount` with the log.
    pub async fn checks(&self, recount: Recount, reports: mpsc::Sender<Report>) {
        match self {
            Self::Redb(directory) => redb::checks(directory, recount, reports).await,
            #[cfg(feature = "mongodb")]
            Self::Mongo(address) => mongo::checks(address, recount, reports).await,
        }
    }
}

/// A store of whichever kind.
pub enum AnyStore {
    /// See [`RedbStore`].
    Redb(RedbStore),
    /// See [`MongoStore`].
    #[cfg(feature = "mongodb")]
    Mongo(MongoStore),
}

impl AnyStore {
    /// Answers what other processes of this machine ask of the one that has the store open, if it is of a kind that
    /// one process opens; until the value is dropped. `recount` as in [`StoreAddress::checks`].
    pub fn listen(&self, recount: Recount) -> Option<LocalRequests> {
        match self {
            Self::Redb(store) => store.listen(recount),
            #[cfg(feature = "mongodb")]
            Self::Mongo(_) => None,
        }
    }
}

/// Does the same with a store of each kind.
macro_rules! each {
    ($any:ident, $store:ident => $work:expr) => {
        match $any {
            Self::Redb($store) => $work,
            #[cfg(feature = "mongodb")]
            Self::Mongo($store) => $work,
        }
    };
}

impl AnyStore {
    /// Lets go of all that is made from the log.
    pub(super) async fn begin_rebuild(&self) -> Result<(), StoreError> {
        each!(self, store => store.begin_rebuild().await)
    }

    pub(super) async fn end_rebuild(&self) -> Result<(), StoreError> {
        each!(self, store => store.end_rebuild().await)
    }
}

impl LogStore for AnyStore {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        each!(self, store => store.append(entries).await)
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        each!(self, store => store.read(slot, from, limit).await)
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        each!(self, store => store.checkpoint(slot).await)
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        each!(self, store => store.apply(chunks).await)
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        each!(self, store => store.rows(slot, after, limit).await)
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        each!(self, store => store.first_rows(after, limit).await)
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        each!(self, store => store.write_rows(writes).await)
    }

    async fn beyond_rows(&self, slots: &[Slot], known: Option<&Upto>) -> Result<Beyond, StoreError> {
        each!(self, store => store.beyond_rows(slots, known).await)
    }

    fn known_rows(&self) -> Option<Upto> {
        each!(self, store => store.known_rows())
    }

    async fn devices(&self, devices: &[DeviceId], hours: Range<u32>) -> Result<Vec<DeviceView>, StoreError> {
        each!(self, store => store.devices(devices, hours).await)
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        each!(self, store => store.view(plan).await)
    }

    async fn start(&self, slot: Slot) -> Result<Start, StoreError> {
        each!(self, store => store.start(slot).await)
    }

    async fn cut(&self, cut: &Cut) -> Result<bool, StoreError> {
        each!(self, store => store.cut(cut).await)
    }

    async fn release(&self, slot: Slot, below: u64) -> Result<bool, StoreError> {
        each!(self, store => store.release(slot, below).await)
    }

    async fn imported(&self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
        each!(self, store => store.imported(identities).await)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        each!(self, store => store.ping().await)
    }
}
