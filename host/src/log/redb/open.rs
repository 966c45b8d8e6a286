//! How the embedded store's directory and file are made and opened, and who may not.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::{
    RedbStore, WorkError, checkpoints, damage, damaged, device_windows, load, packed, rows, tail, windows,
};

/// The version of the tables and of what is in them, in a store whose first messages were removed.
pub(super) const FORMAT: u64 = 11;

/// The version of a store that has all its messages. Older ones are converted by `rollcall migrate`.
pub(super) const FORMAT_WHOLE: u64 = 10;

/// Those before that also have a number for stores with all their messages and the one after it for others. What is in them is
/// read as it is, beside what is written now, which older versions cannot read.
pub(super) const ONLY_RENUMBERED: RangeInclusive<u64> = 6..=9;

/// What becomes of one of [`ONLY_RENUMBERED`].
pub(super) fn renumbered(format: u64) -> u64 {
    FORMAT_WHOLE + (format - ONLY_RENUMBERED.start()) % 2
}

/// The oldest version that can be converted.
pub(super) const OLDEST_FORMAT: u64 = 1;

/// `format` → [`FORMAT`] or [`FORMAT_WHOLE`]; `rebuild` → 1 while what is made from the log is made anew.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The file within the data directory.
pub(super) const FILE: &str = "rollcall.redb";
/// The same while it is made: a file named [`FILE`] was a whole store once.
pub(super) const NEW_FILE: &str = "rollcall.redb.new";

/// Pages kept in memory. redb's own default of 1 GiB is more than a small host has.
const CACHE_BYTES: usize = 64 << 20;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RedbOpenError {
    /// One process writes a data directory at a time.
    #[error(
        "another process uses the data directory {0}: stop it, or name another one with --store redb:DIRECTORY"
    )]
    InUse(PathBuf),
    /// The directory cannot be made, read or written.
    #[error("the data directory {0} cannot be used: {1}")]
    Unusable(PathBuf, String),
    /// The file has no byte. It is never made so: what was in it is gone.
    #[error("{0} is empty, so its data is gone: restore it from a backup, or delete it to begin anew")]
    Empty(PathBuf),
    /// The file is not as it was written.
    #[error("{}", damaged(.0, .1))]
    Damaged(PathBuf, String),
    /// There is nothing to look into.
    #[error("there is no store in {0}")]
    NoStore(PathBuf),
    /// Some of what is made from its log is not there yet.
    #[error(
        "the store in {0} was being converted, which was cut off: go on with rollcall migrate --store redb:{dir}",
        dir = .0.display()
    )]
    Unfinished(PathBuf),
    /// An older version of Rollcall wrote it. Nothing was changed.
    #[error(
        "the data directory {0} has the older format {1}: convert it with: rollcall migrate --store redb:{dir}",
        dir = .0.display()
    )]
    OlderFormat(PathBuf, u64),
    /// Another version of Rollcall wrote it. Nothing was changed.
    #[error(
        "the data directory {0} has format {1}, but this version of rollcall reads and writes format {2}"
    )]
    OtherFormat(PathBuf, u64, u64),
}

impl RedbOpenError {
    pub(super) fn of(directory: &Path, error: WorkError) -> Self {
        let directory = directory.to_owned();
        match error {
            WorkError::Redb(redb::Error::DatabaseAlreadyOpen) => Self::InUse(directory),
            error => match error.damage() {
                Ok(reason) => Self::Damaged(directory, reason),
                Err(error) => Self::Unusable(directory, error.to_string()),
            },
        }
    }
}

impl RedbStore {
    /// Is there a store in `directory`, whatever its state?
    pub fn is_in(directory: &Path) -> bool {
        // A link that leads nowhere is one: no reason for a new store.
        directory.join(FILE).symlink_metadata().is_ok()
    }

    /// Opens or makes the store in `directory`.
    ///
    /// # Errors
    /// [`RedbOpenError`] says who can act.
    pub fn open(directory: &Path) -> Result<Self, RedbOpenError> {
        let failed = |error| RedbOpenError::of(directory, error);
        make_directory(directory).map_err(|error| unusable(directory, &error))?;
        if !Self::is_in(directory) {
            make_file(directory).map_err(failed)?;
        }
        let (store, stamp) = Self::open_file(directory)?;
        stamp.must_be_whole(directory)?;
        store.attempt(|database| load(database, &store.tail)).map_err(failed)?;
        Ok(store)
    }

    /// Opens a file of whichever format, and looks at nothing but its stamp.
    pub(super) fn open_file(directory: &Path) -> Result<(Self, Stamp), RedbOpenError> {
        let file = file_with_bytes(directory)?;
        let opened = Self::open_with(directory, FILE, move || Ok(builder().open(&file)?));
        opened.map_err(|error| RedbOpenError::of(directory, error))
    }
}

/// The file in `directory`, which is never without a byte.
pub(super) fn file_with_bytes(directory: &Path) -> Result<PathBuf, RedbOpenError> {
    let file = directory.join(FILE);
    match fs::metadata(&file) {
        Ok(metadata) if metadata.len() == 0 => Err(RedbOpenError::Empty(file)),
        Ok(_) => Ok(file),
        Err(error) => Err(unusable(directory, &error)),
    }
}

pub(super) fn unusable(directory: &Path, error: &io::Error) -> RedbOpenError {
    RedbOpenError::Unusable(directory.into(), error.to_string())
}

/// A new directory is its owner's alone; one that is there already is left as it is.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        let mode = fs::metadata(directory)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let directory = directory.display();
            tracing::warn!(
                "the data directory is open to others than its owner (mode {mode:03o}): chmod go= {directory}"
            );
        }
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Makes a store for its owner alone, under another name until it is durable and can be opened.
fn make_file(directory: &Path) -> Result<(), WorkError> {
    let Some(backing) = new_file(directory)? else { return Ok(()) };
    let database = builder().create_with_backend(FileBackend::new(backing)?)?;
    prepare(&database)?;
    // The lock is held until the file has its name, so that no other process takes it for its own.
    name_file(directory)
}

/// An empty file in which a store can be made, locked; `None` when another process has just made the store.
pub(super) fn new_file(directory: &Path) -> Result<Option<File>, WorkError> {
    let new = directory.join(NEW_FILE);
    let backing = lock_new_file(directory)?;
    if RedbStore::is_in(directory) {
        // It may be this very file, if it was renamed meanwhile.
        remove_if_there(&new)?;
        return Ok(None);
    }
    // What is left of a start or a copy that was cut off; nothing was ever acknowledged out of it.
    backing.set_len(0)?;
    Ok(Some(backing))
}

/// The file in which a store is made, locked, with whatever an earlier attempt has left in it.
pub(super) fn lock_new_file(directory: &Path) -> Result<File, WorkError> {
    let new = directory.join(NEW_FILE);
    let backing =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(new)?;
    match backing.try_lock() {
        Ok(()) => Ok(backing),
        Err(TryLockError::WouldBlock) => Err(redb::Error::DatabaseAlreadyOpen.into()),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// A whole store is in the new file, durably.
pub(super) fn name_file(directory: &Path) -> Result<(), WorkError> {
    fs::rename(directory.join(NEW_FILE), directory.join(FILE))?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

pub(super) fn remove_if_there(file: &Path) -> Result<(), WorkError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes the tables of a new store, so that readers find them.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    prepare_log(&transaction)?;
    prepare_made(&transaction)?;
    transaction.open_table(META)?.insert("format", FORMAT_WHOLE)?;
    transaction.commit()?;
    Ok(())
}

/// Makes the tables of the log that are not there.
pub(super) fn prepare_log(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    tail::prepare(transaction)?;
    packed::prepare(transaction)
}

/// Makes the tables of what is made from the log that are not there.
pub(super) fn prepare_made(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    checkpoints::prepare(transaction)?;
    windows::prepare(transaction)?;
    rows::prepare(transaction)?;
    device_windows::prepare(transaction)
}

/// What a store says of itself.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub(super) format: u64,
    /// Is what is made from the log being made anew?
    pub(super) rebuilding: bool,
}

impl Stamp {
    /// Were messages removed?
    pub(super) fn is_cut(self) -> bool {
        self.format == FORMAT
    }

    /// A store of another format is left alone.
    pub(super) fn must_be_todays(self, directory: &Path) -> Result<(), RedbOpenError> {
        match self.format {
            FORMAT_WHOLE..=FORMAT => Ok(()),
            older @ OLDEST_FORMAT..FORMAT_WHOLE => Err(RedbOpenError::OlderFormat(directory.into(), older)),
            other => Err(RedbOpenError::OtherFormat(directory.into(), other, FORMAT)),
        }
    }

    /// The same, and one whose windows and rows are being made is not used.
    pub(super) fn must_be_whole(self, directory: &Path) -> Result<(), RedbOpenError> {
        self.must_be_todays(directory)?;
        if self.rebuilding { Err(RedbOpenError::Unfinished(directory.into())) } else { Ok(()) }
    }
}

/// Reads a store's stamp. One that has none has lost its tables: a store is made with them.
pub(super) fn stamp(transaction: &ReadTransaction) -> Result<Stamp, WorkError> {
    let missing = || damage("it has no format number".to_owned());
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Err(missing()),
        Err(error) => return Err(error.into()),
    };
    let format = meta.get("format")?.ok_or_else(missing)?.value();
    Ok(Stamp { format, rebuilding: meta.get("rebuild")?.is_some() })
}
