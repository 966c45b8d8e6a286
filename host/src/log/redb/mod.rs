//! The embedded store: one redb file, one transaction with an fsync a flush. Nothing to install.
//!
//! A commit is durable when it returns. Windows and rows are committed without an fsync of their own: after a
//! crash they are made again from the log. A reader sees one instant of the whole store.
//!
//! The log's tail is one row an entry, and its counts are kept in memory. When a chunk is rolled up, its
//! entries are packed: compressed together, in rows that fill a page each.
//!
//! No value is believed: each has a checksum, and what is gone is missed, because lengths and sums are kept.

mod as_is;
mod backup;
mod checkpoints;
mod checks;
mod compact;
mod device_windows;
mod kept;
mod migrate;
mod open;
mod packed;
mod rebuild;
mod repair;
mod requests;
mod roll;
mod rows;
mod sealed;
mod snapshot;
mod starts;
mod sweep;
mod tables;
mod tail;
mod unsynced;
mod untouched;
mod windows;
mod work;

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadTransaction, ReadableDatabase};
use rollcall_wire::{DeviceId, Slot, mutant};

pub use self::backup::{BackupError, Progress, backup};
pub use self::checks::checks;
pub use self::compact::Compacted;
pub use self::open::RedbOpenError;
use self::open::Stamp;
pub use self::requests::LocalRequests;
use self::tail::Tail;
use self::unsynced::Unsynced;
use self::work::{WorkError, damage, damaged, unavailable};
use super::devices::DeviceView;
use super::plan::{Plan, Upto, View};
use super::rollup::Chunk;
use super::row::Row;
use super::start::{Cut, Identity, Start};
use super::{Beyond, Checkpoint, LogStore, RowWrite, StoreError, codec, merge};
use crate::model::Entry;

type Open = dyn Fn() -> Result<Database, WorkError> + Send + Sync;

/// See the module. After an I/O error or a panic in redb, which is how it meets a damaged file, the file is
/// closed, and opened anew by the next call.
#[derive(Clone)]
pub struct RedbStore {
    directory: Arc<Path>,
    /// The name of its file there.
    file: &'static str,
    open: Arc<Open>,
    database: Arc<Opened>,
    tail: Arc<Tail>,
    unsynced: Arc<Unsynced>,
    /// Is the work done where it is asked for, so that one thread does everything in one order?
    #[cfg(feature = "testing")]
    inline: bool,
    /// A damaged file whose place this one is to take, locked.
    _replaces: Option<Arc<File>>,
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
    /// A store on what a test has in place of a disk: it works in the caller's thread, and each call is done when it
    /// is first polled. `backend` makes what is not there yet, and is called again after an I/O error.
    ///
    /// # Errors
    /// When it cannot be opened.
    #[cfg(feature = "testing")]
    pub fn over<B: redb::StorageBackend>(
        backend: impl Fn() -> B + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let open = move || {
            let database = open::builder().create_with_backend(backend())?;
            if database.begin_read()?.list_tables()?.next().is_none() {
                open::prepare(&database)?;
            }
            Ok(database)
        };
        let opened =
            Self::open_with(Path::new("the test's disk"), open::FILE, open).and_then(|(store, _)| {
                store.attempt(|database| load(database, &store.tail))?;
                Ok(Self { inline: true, ..store })
            });
        opened.map_err(|error| error.damage().map_or_else(|error| error, StoreError::Corrupt))
    }

    /// Opens a store by `open`, which is called again after an I/O error, and reads its stamp. It is not looked at
    /// any further.
    fn open_with(
        directory: &Path,
        file: &'static str,
        open: impl Fn() -> Result<Database, WorkError> + Send + Sync + 'static,
    ) -> Result<(Self, Stamp), WorkError> {
        guarded(|| {
            let database = open()?;
            let stamp = open::stamp(&database.begin_read()?)?;
            let store = Self {
                directory: directory.into(),
                file,
                open: Arc::new(open),
                database: Arc::new(Opened(Mutex::new(Some(Arc::new(database))))),
                tail: Arc::default(),
                unsynced: Arc::default(),
                #[cfg(feature = "testing")]
                inline: false,
                _replaces: None,
            };
            Ok((store, stamp))
        })
    }

    /// Does blocking work on the database, away from the async threads; dropping the future does not stop it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, WorkError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let work = move || {
            let done = store.attempt(work);
            done.map_err(|error| match error.damage() {
                Ok(reason) => StoreError::Corrupt(damaged(&store.directory, &reason)),
                Err(error) => error,
            })
        };
        #[cfg(feature = "testing")]
        if self.inline {
            return work();
        }
        tokio::task::spawn_blocking(work).await.map_err(unavailable)?
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
            load(&opened, &self.tail)?;
            Ok(opened)
        })?;
        *database = Some(opened.clone());
        Ok(opened)
    }

    fn close(&self, failed: &Arc<Database>) {
        let mut database = self.database.lock();
        let ours = database.take_if(|open| Arc::ptr_eq(open, failed));
        if ours.is_some() {
            self.unsynced.lost();
        }
        drop(database);
        close(ours);
    }
}

/// Reads what is kept in memory, and looks whether all is there that is made from the log, if it is made.
fn load(database: &Database, tail: &Tail) -> Result<(), WorkError> {
    tail.load(database)?;
    let transaction = database.begin_read()?;
    if open::stamp(&transaction)?.rebuilding { Ok(()) } else { check(&transaction) }
}

/// Is all there that is made from the log?
fn check(transaction: &ReadTransaction) -> Result<(), WorkError> {
    starts::check(transaction)?;
    windows::check(transaction)?;
    device_windows::check(transaction)?;
    for slot in Slot::all() {
        checkpoints::check(transaction, slot)?;
        rows::check(transaction, slot)?;
    }
    Ok(())
}

impl LogStore for RedbStore {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        let rows: Vec<_> = entries.iter().map(tail::Row::of).collect();
        let (tail, unsynced) = (self.tail.clone(), self.unsynced.clone());
        self.run(move |database| {
            let transaction =
                mutant!(AppendNotDurable, unsynced.begin_write(database)?, database.begin_write()?);
            let (taken, written) = tail::append(&transaction, rows)?;
            transaction.commit()?;
            unsynced.none();
            tail.extend(written);
            Ok(taken)
        })
        .await
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.run(move |database| packed::read(&database.begin_read()?, slot, from, limit, codec::entry)).await
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        self.run(move |database| Ok(checkpoints::read(&database.begin_read()?, slot)?.checkpoint())).await
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        let chunks = chunks.to_vec();
        let (tail, unsynced) = (self.tail.clone(), self.unsynced.clone());
        self.run(move |database| {
            let transaction = unsynced.begin_write(database)?;
            for chunk in &chunks {
                roll::apply(&transaction, chunk)?;
            }
            transaction.commit()?;
            tail.forget(&chunks);
            Ok(())
        })
        .await
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.run(move |database| rows::read(&database.begin_read()?, slot, after, limit)).await
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        merge::first_rows(self, after, limit).await
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        let (writes, unsynced) = (writes.to_vec(), self.unsynced.clone());
        self.run(move |database| {
            let transaction = unsynced.begin_write(database)?;
            for write in &writes {
                rows::write(&transaction, write)?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    async fn beyond_rows(&self, slots: &[Slot], _: Option<&Upto>) -> Result<Beyond, StoreError> {
        let slots = slots.to_vec();
        let first = self.run(move |database| rows::beyond(&database.begin_read()?, &slots)).await?;
        Ok(Beyond::from_now(first))
    }

    async fn devices(&self, devices: &[DeviceId], hours: Range<u32>) -> Result<Vec<DeviceView>, StoreError> {
        let devices = devices.to_vec();
        self.run(move |database| {
            let transaction = database.begin_read()?;
            devices
                .iter()
                .map(|device| device_windows::device(&transaction, *device, hours.clone()))
                .collect()
        })
        .await
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        let plan = plan.clone();
        let tail = self.tail.clone();
        self.run(move |database| {
            // The tail first: what leaves it meanwhile is in the windows that are read after it.
            let tail = tail.entries(&plan.range);
            let transaction = database.begin_read()?;
            let upto = checkpoints::windows(&transaction)?;
            Ok(View { windows: windows::read(&transaction, &plan, upto)?, tail })
        })
        .await
    }

    async fn start(&self, slot: Slot) -> Result<Start, StoreError> {
        self.run(move |database| starts::of(&database.begin_read()?, slot)).await
    }

    async fn cut(&self, cut: &Cut) -> Result<bool, StoreError> {
        let (cut, unsynced) = (cut.clone(), self.unsynced.clone());
        self.run(move |database| {
            // Durable, and with it the checkpoints that it relies on.
            let transaction = database.begin_write()?;
            let done = starts::cut(&transaction, &cut)?;
            transaction.commit()?;
            unsynced.none();
            Ok(done)
        })
        .await
    }

    async fn release(&self, _: Slot, _: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn imported(&self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
        let identities = identities.to_vec();
        self.run(move |database| starts::imported(&database.begin_read()?, &identities)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.run(|database| {
            checkpoints::windows(&database.begin_read()?)?;
            Ok(())
        })
        .await
    }
}

/// How the bytes of an entry are read.
type Decode<T> = fn(Slot, u64, &[u8]) -> Result<T, StoreError>;
