//! The embedded store: one redb file, one transaction with an fsync a flush. Nothing to install.
//!
//! A commit is durable when it returns. Rollups are committed without an fsync of their own: after a crash
//! they are made again from the log. A reader sees one instant of the whole store.
//!
//! The log's tail is one row an entry, and its counts are kept in memory. When a chunk is rolled up, its
//! entries are packed: compressed together, in rows that fill a page each.

mod checks;
mod packed;
mod tail;
mod windows;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    TableError, WriteTransaction,
};
use rollcall_wire::Slot;

use self::tail::Tail;
use super::plan::{Plan, TailEntry, Upto, View};
use super::rollup::Chunk;
use super::{Checkpoint, LogStore, StoreError, codec};
use crate::model::Entry;

pub use self::checks::checks;

/// `format` → [`codec::FORMAT_VERSION`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// slot · 2⁴⁰ + number → the entry.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// slot → [`Checkpoint::next`].
const CHECKPOINTS: TableDefinition<'_, u8, u64> = TableDefinition::new("checkpoints");
/// slot → [`Checkpoint::dedupe`].
const DEDUPE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("dedupe");
/// The file within the data directory.
const FILE: &str = "rollcall.redb";
/// The same while it is made: a file named [`FILE`] was a whole store once.
const NEW_FILE: &str = "rollcall.redb.new";

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
    /// Another version of Rollcall wrote it. Nothing was changed.
    #[error(
        "the data directory {0} has format {1}, but this version of rollcall reads and writes format {2} only"
    )]
    OtherFormat(PathBuf, u64, u64),
}

type Open = dyn Fn() -> Result<Database, WorkError> + Send + Sync;

/// See the module. After an I/O error or a panic in redb, which is how it meets a damaged file, the file is
/// closed, and opened anew by the next call.
#[derive(Clone)]
pub struct RedbStore {
    directory: Arc<Path>,
    open: Arc<Open>,
    database: Arc<Opened>,
    tail: Arc<Tail>,
}

/// The database while it is open.
struct Opened(Mutex<Option<Arc<Database>>>);

impl Opened {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let database = self.lock().take();
        close(database);
    }
}

/// Lets go of a database. The last one to do so closes it, which writes, and a damaged one may not like it.
fn close(database: Option<Arc<Database>>) {
    let _ = guarded(|| {
        drop(database);
        Ok(())
    });
}

/// Does `work`, and makes an error of a panic: redb trusts its file, and panics where it is damaged. What the
/// work had in hand is not used after it.
fn guarded<T>(work: impl FnOnce() -> Result<T, WorkError>) -> Result<T, WorkError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(WorkError::Panic(text.unwrap_or("no reason was given").to_owned()))
    })
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
        let unusable = |reason: String| RedbOpenError::Unusable(directory.into(), reason);
        let unusable_by = |error: io::Error| unusable(error.to_string());
        let failed = |error| match error {
            WorkError::Redb(redb::Error::DatabaseAlreadyOpen) => RedbOpenError::InUse(directory.into()),
            error => match error.damage() {
                Ok(reason) | Err(StoreError::Corrupt(reason)) => {
                    RedbOpenError::Damaged(directory.into(), reason)
                }
                Err(error) => unusable(error.to_string()),
            },
        };
        make_directory(directory).map_err(unusable_by)?;
        let file = directory.join(FILE);
        if !Self::is_in(directory) {
            make_file(directory).map_err(failed)?;
        }
        if fs::metadata(&file).map_err(unusable_by)?.len() == 0 {
            return Err(RedbOpenError::Empty(file));
        }
        let (store, format) =
            Self::open_with(directory, move || Ok(builder().open(&file)?)).map_err(failed)?;
        match format {
            codec::FORMAT_VERSION => Ok(store),
            other => Err(RedbOpenError::OtherFormat(directory.into(), other, codec::FORMAT_VERSION)),
        }
    }

    /// A store on what a test has in place of a disk. `open` makes what is not there yet, and is called again
    /// after an I/O error.
    ///
    /// # Errors
    /// When it cannot be opened.
    #[cfg(feature = "testing")]
    pub fn over<B: redb::StorageBackend>(
        backend: impl Fn() -> B + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let open = move || {
            let database = builder().create_with_backend(backend())?;
            if database.begin_read()?.list_tables()?.next().is_none() {
                prepare(&database)?;
            }
            Ok(database)
        };
        let opened = Self::open_with(Path::new("the test's disk"), open);
        match opened {
            Ok((store, _)) => Ok(store),
            Err(error) => Err(error.damage().map_or_else(|error| error, StoreError::Corrupt)),
        }
    }

    /// Opens a store by `open`, which is called again after an I/O error, and reads its format.
    fn open_with(
        directory: &Path,
        open: impl Fn() -> Result<Database, WorkError> + Send + Sync + 'static,
    ) -> Result<(Self, u64), WorkError> {
        guarded(|| {
            let database = open()?;
            let format = take_over(&database, format(&database)?)?;
            let tail = Arc::new(Tail::default());
            if format == codec::FORMAT_VERSION {
                tail.load(&database)?;
            }
            let database = Arc::new(Opened(Mutex::new(Some(Arc::new(database)))));
            Ok((Self { directory: directory.into(), open: Arc::new(open), database, tail }, format))
        })
    }

    /// Does blocking work on the database, away from the async threads; dropping the future does not stop it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, WorkError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = store.attempt(work);
            done.map_err(|error| match error.damage() {
                Ok(reason) => StoreError::Corrupt(damaged(&store.directory, &reason)),
                Err(error) => error,
            })
        });
        done.await.map_err(unavailable)?
    }

    fn attempt<T>(&self, work: impl FnOnce(&Database) -> Result<T, WorkError>) -> Result<T, WorkError> {
        let database = self.database()?;
        let done = guarded(|| work(&database));
        if matches!(done, Err(WorkError::Redb(_) | WorkError::Panic(_))) {
            // redb refuses all work after an I/O error until the file is opened again.
            self.close(&database);
        }
        close(Some(database));
        done
    }

    fn database(&self) -> Result<Arc<Database>, WorkError> {
        let mut database = self.database.lock();
        if let Some(open) = &*database {
            return Ok(open.clone());
        }
        let opened = guarded(|| {
            let opened = Arc::new((self.open)()?);
            self.tail.load(&opened)?;
            Ok(opened)
        })?;
        *database = Some(opened.clone());
        Ok(opened)
    }

    fn close(&self, failed: &Arc<Database>) {
        let ours = self.database.lock().take_if(|open| Arc::ptr_eq(open, failed));
        close(ours);
    }
}

/// A new directory is its owner's alone; one that is there already is left as it is.
fn make_directory(directory: &Path) -> io::Result<()> {
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
    let (new, file) = (directory.join(NEW_FILE), directory.join(FILE));
    let backing =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&new)?;
    match backing.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(redb::Error::DatabaseAlreadyOpen.into()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    if RedbStore::is_in(directory) {
        // Another process has just made the store. It may be this very file, if it was renamed meanwhile.
        return remove_if_there(&new);
    }
    // What is left of a start that was cut off; nothing was ever acknowledged out of it.
    backing.set_len(0)?;
    let database = builder().create_with_backend(FileBackend::new(backing)?)?;
    prepare(&database)?;
    // The lock is held until the file has its name, so that no other process takes it for its own.
    fs::rename(&new, &file)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

fn remove_if_there(file: &Path) -> Result<(), WorkError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// What goes wrong in a piece of work: in redb, or in what is stored.
#[derive(Debug)]
enum WorkError {
    Redb(redb::Error),
    Store(StoreError),
    /// redb, or what reads the rows, met what cannot be.
    Panic(String),
}

impl WorkError {
    /// Which damage of the file it reports, or the error that it is otherwise.
    fn damage(self) -> Result<String, StoreError> {
        match self {
            Self::Panic(reason) | Self::Redb(redb::Error::Corrupted(reason)) => Ok(reason),
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

fn damaged(directory: &Path, reason: &str) -> String {
    let directory = directory.display();
    format!(
        "the store in {directory} is damaged ({reason}): stop rollcall and restore the folder from a backup"
    )
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Makes the tables of a new store, so that readers find them.
fn prepare(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", codec::FORMAT_VERSION)?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(CHECKPOINTS)?;
    transaction.open_table(DEDUPE)?;
    windows::prepare(&transaction)?;
    packed::prepare(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// A store of the older format becomes one of today's; its format after that.
fn take_over(database: &Database, format: u64) -> Result<u64, redb::Error> {
    if format != codec::OLDER_FORMAT {
        return Ok(format);
    }
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", codec::FORMAT_VERSION)?;
    transaction.commit()?;
    Ok(codec::FORMAT_VERSION)
}

/// Reads a store's format. One that has none has lost its tables: a store is made with them.
fn format(database: &Database) -> Result<u64, WorkError> {
    let transaction = database.begin_read()?;
    let format = match transaction.open_table(META) {
        Ok(table) => table.get("format")?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    format.ok_or_else(|| WorkError::Store(StoreError::Corrupt("it has no format number".into())))
}

/// Numbers have 40 bits: a thousand flushes a second for 34 years.
fn key(slot: Slot, number: u64) -> u64 {
    ((slot.index() as u64) << 40) + number
}

fn keys(slot: Slot, from: u64) -> Range<u64> {
    key(slot, from)..((slot.index() as u64 + 1) << 40)
}

fn number(key: u64) -> u64 {
    key & ((1 << 40) - 1)
}

impl LogStore for RedbStore {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| {
                let counts = entry.counts();
                let bytes = codec::entry_bytes(entry, &counts);
                (TailEntry::new(entry.slot, entry.number, counts), bytes)
            })
            .collect();
        let tail = self.tail.clone();
        self.run(move |database| {
            let (mut taken, mut written) = (Vec::new(), Vec::new());
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(ENTRIES)?;
                for (entry, bytes) in rows {
                    let key = key(entry.slot, entry.number);
                    if table.get(key)?.is_some() {
                        taken.push(entry.slot);
                    } else {
                        table.insert(key, bytes.as_slice())?;
                        written.push(entry);
                    }
                }
            }
            transaction.commit()?;
            tail.extend(written);
            Ok(taken)
        })
        .await
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.run(move |database| {
            let transaction = database.begin_read()?;
            let mut entries = packed::read(&transaction, slot, from, limit)?;
            let table = transaction.open_table(ENTRIES)?;
            for row in table.range(keys(slot, from))?.take(limit - entries.len()) {
                let (key, bytes) = row?;
                let entry = codec::entry(slot, number(key.value()), bytes.value());
                entries.push(entry.map_err(WorkError::Store)?);
            }
            Ok(entries)
        })
        .await
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        self.run(move |database| {
            let transaction = database.begin_read()?;
            let index = slot.index() as u8;
            let next = transaction.open_table(CHECKPOINTS)?.get(index)?.map_or(0, |next| next.value());
            let dedupe = transaction.open_table(DEDUPE)?.get(index)?;
            Ok(Checkpoint { next, dedupe: dedupe.map_or_else(Vec::new, |bytes| bytes.value().to_vec()) })
        })
        .await
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        let chunks = chunks.to_vec();
        let tail = self.tail.clone();
        self.run(move |database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::None).map_err(unavailable).map_err(WorkError::Store)?;
            for chunk in &chunks {
                apply_chunk(&transaction, chunk)?;
            }
            transaction.commit()?;
            tail.forget(&chunks);
            Ok(())
        })
        .await
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        let plan = plan.clone();
        let tail = self.tail.clone();
        self.run(move |database| {
            // The tail first: what leaves it meanwhile is in the windows that are read after it.
            let tail = tail.entries();
            let transaction = database.begin_read()?;
            let upto = checkpoints(&transaction)?;
            Ok(View { windows: windows::read(&transaction, &plan, upto)?, tail })
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.run(|database| {
            database.begin_read()?.open_table(META)?;
            Ok(())
        })
        .await
    }
}

/// Every effect of a chunk in one transaction: windows, checkpoint and the packing of its entries.
fn apply_chunk(transaction: &WriteTransaction, chunk: &Chunk) -> Result<(), WorkError> {
    let index = chunk.slot.index() as u8;
    let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
    let checkpoint = checkpoints.get(index)?.map_or(0, |next| next.value());
    if !super::is_next(chunk, checkpoint).map_err(WorkError::Store)? {
        return Ok(());
    }
    checkpoints.insert(index, chunk.entries.end)?;
    transaction.open_table(DEDUPE)?.insert(index, chunk.dedupe.as_slice())?;
    windows::add(transaction, chunk)?;
    packed::pack(transaction, chunk)
}

fn checkpoints(transaction: &ReadTransaction) -> Result<Upto, WorkError> {
    let table = transaction.open_table(CHECKPOINTS)?;
    let mut upto = [0; Slot::COUNT];
    for slot in Slot::all() {
        upto[slot.index()] = table.get(slot.index() as u8)?.map_or(0, |next| next.value());
    }
    Ok(upto)
}
