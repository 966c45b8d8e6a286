//! A copy of a store, consistent while others write: what one read transaction sees, row by row as it is stored.
//!
//! A file with a store's name at the destination is a whole copy; until then it has another name. The copy is made
//! in bounded memory. Of what is committed meanwhile nothing is in it, and the store's file keeps what that
//! replaces until the copy is made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    Database, Durability, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    TableHandle, Value,
};
use tokio::sync::watch;

use super::open::{FILE, NEW_FILE, builder, make_directory, name_file, new_file, remove_if_there};
use super::tables::{EachTable, Rows, each_table, rows};
use super::{RedbStore, WorkError, close, guarded, requests};
use crate::log::StoreError;

/// What is written to the copy at a time, in bytes of keys and values.
const BATCH_BYTES: usize = 4 << 20;

/// Every so many batches the copy is flushed: redb keeps in memory which pages are not.
const BATCHES_A_FLUSH: u64 = 64;

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The rows that are in it.
    pub rows: u64,
    /// All that will be.
    pub of: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No store is overwritten.
    #[error("there is a store in {0} already: name a new directory with --to")]
    Exists(PathBuf),
    /// Nothing to copy.
    #[error("there is no store in {0}")]
    NoStore(PathBuf),
    /// The copy cannot be written, or is not what was written.
    #[error("cannot make a copy in {0}: {1}")]
    Destination(PathBuf, String),
    /// The store cannot be read.
    #[error("cannot read the store: {0}")]
    Source(String),
    /// Whoever asked for it has gone.
    #[error("nobody waits for the copy any more")]
    Abandoned,
    /// The process that uses the store made none.
    #[error("the rollcall that uses the store says: {0}")]
    Refused(String),
    /// That process does not answer.
    #[error("the rollcall that uses the store ended before the copy was made")]
    Unanswered,
    /// Another tool's work.
    #[error(
        "a MongoDB is backed up by its own tools: mongodump --oplog for a replica set; for a standalone server stop \
         rollcall first"
    )]
    NotOurs,
}

/// Copies the store in `directory` into the directory `to`, by the process that uses it if there is one. The copy is
/// given up when the other end of `progress` is gone.
///
/// # Errors
/// [`BackupError`] says who can act. There is no store in `to` then, but what was there before.
pub async fn backup(
    directory: &Path,
    to: &Path,
    progress: watch::Sender<Progress>,
) -> Result<Progress, BackupError> {
    if !RedbStore::is_in(directory) {
        return Err(BackupError::NoStore(directory.into()));
    }
    // The process that makes it may have been started elsewhere.
    let to = std::path::absolute(to).map_err(|error| failed_in(to, error.into()))?;
    if let Some(answer) = requests::request(directory, &to, &progress).await {
        return answer;
    }
    let file = directory.join(FILE);
    blocking(move || {
        // Not as a store, which would change one of an older format.
        let opened = guarded(|| Ok(builder().open(&file)?)).map_err(unreadable)?;
        let opened = Arc::new(opened);
        let made = copy(&opened, &to, &progress, || true);
        close(Some(opened));
        made
    })
    .await
}

impl RedbStore {
    /// As [`backup`], of a store that is open.
    ///
    /// # Errors
    /// As [`backup`].
    pub async fn backup(
        &self,
        to: &Path,
        progress: watch::Sender<Progress>,
    ) -> Result<Progress, BackupError> {
        let (store, to) = (self.clone(), to.to_owned());
        blocking(move || {
            let database = store.database().map_err(unreadable)?;
            // After an I/O error the store is opened anew, which is possible only once we have let go of it.
            let in_use = || store.database.lock().as_ref().is_some_and(|open| Arc::ptr_eq(open, &database));
            let made = copy(&database, &to, &progress, in_use);
            close(Some(database));
            made
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(BackupError::Source(error.to_string())))
}

fn unreadable(error: WorkError) -> BackupError {
    BackupError::Source(reason(error))
}

fn failed_in(to: &Path, error: WorkError) -> BackupError {
    BackupError::Destination(to.into(), reason(error))
}

fn reason(error: WorkError) -> String {
    match error.damage() {
        Ok(reason) => format!("it is damaged ({reason})"),
        Err(StoreError::Unavailable(reason) | StoreError::Corrupt(reason)) => reason,
    }
}

/// Goes on while somebody waits for it and the store is `in_use`.
fn copy(
    database: &Database,
    to: &Path,
    progress: &watch::Sender<Progress>,
    in_use: impl Fn() -> bool,
) -> Result<Progress, BackupError> {
    let failed = |error| failed_in(to, error);
    if RedbStore::is_in(to) {
        return Err(BackupError::Exists(to.into()));
    }
    make_directory(to).map_err(|error| failed(error.into()))?;
    let Some(backing) = new_file(to).map_err(failed)? else { return Err(BackupError::Exists(to.into())) };
    let copied = guarded(|| {
        let from = database.begin_read()?;
        let new = builder().create_with_backend(FileBackend::new(backing)?);
        let new = match new {
            Ok(new) => new,
            Err(error) => return Ok(Err(failed(error.into()))),
        };
        Ok(fill(&new, &from, to, progress, in_use))
    });
    let copied = copied.map_err(unreadable).flatten();
    if copied.is_err() {
        // What is left of it is overwritten by the next copy or start, if it cannot be removed now.
        let _ = remove_if_there(&to.join(NEW_FILE));
    }
    let tables = copied?;
    check(to, &tables).map_err(failed)?;
    let rows = tables.values().sum();
    Ok(Progress { rows, of: rows })
}

/// Fills the new file with what `from` sees, and gives it its name.
fn fill(
    new: &Database,
    from: &ReadTransaction,
    to: &Path,
    progress: &watch::Sender<Progress>,
    in_use: impl Fn() -> bool,
) -> Result<Rows, BackupError> {
    let tables = rows(from).map_err(unreadable)?;
    let of = tables.values().sum();
    progress.send_replace(Progress { rows: 0, of });
    let mut copying = Copying::new(from, new, to, progress, in_use);
    each_table(&mut copying)?;
    if copying.copied != tables {
        let missing: Vec<_> = tables.keys().filter(|name| !copying.copied.contains_key(*name)).collect();
        return Err(BackupError::Source(format!(
            "its tables {missing:?} are of another version of rollcall"
        )));
    }
    // Empty, but durable, and with it all that was committed before.
    let durable = || -> Result<(), WorkError> {
        new.begin_write()?.commit()?;
        name_file(to)
    };
    durable().map_err(|error| failed_in(to, error))?;
    Ok(tables)
}

/// A copy has to be as it was written, and readable by whoever is to use it.
fn check(to: &Path, tables: &Rows) -> Result<(), WorkError> {
    guarded(|| {
        let made = rows(&builder().open(to.join(FILE))?.begin_read()?)?;
        if made != *tables {
            let reason = format!("it holds {made:?}, and should hold {tables:?}: delete it");
            return Err(WorkError::Store(StoreError::Corrupt(reason)));
        }
        Ok(())
    })
}

/// Copies tables, row by row.
pub(super) struct Copying<'a, F> {
    from: &'a ReadTransaction,
    new: &'a Database,
    to: &'a Path,
    progress: &'a watch::Sender<Progress>,
    in_use: F,
    copied: Rows,
    batches: u64,
}

impl<F: Fn() -> bool> EachTable for Copying<'_, F> {
    type Error = BackupError;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), BackupError> {
        let read = match self.from.open_table(table) {
            Ok(read) => read,
            // Another format has it.
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(unreadable(error.into())),
        };
        let mut rows = read.iter().map_err(|error| unreadable(error.into()))?;
        self.copied.insert(table.name().to_owned(), 0);
        while self.batch(table, &mut rows)? {
            if self.progress.is_closed() {
                return Err(BackupError::Abandoned);
            }
            if !(self.in_use)() {
                return Err(BackupError::Source("it was closed after an I/O error; try again".to_owned()));
            }
        }
        Ok(())
    }
}

impl<'a, F> Copying<'a, F> {
    pub(super) fn new(
        from: &'a ReadTransaction,
        new: &'a Database,
        to: &'a Path,
        progress: &'a watch::Sender<Progress>,
        in_use: F,
    ) -> Self {
        Self { from, new, to, progress, in_use, copied: Rows::new(), batches: 0 }
    }

    /// Copies the next rows of a table; false when there are none after them.
    fn batch<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        rows: &mut redb::Range<'_, K, V>,
    ) -> Result<bool, BackupError> {
        let failed = |error: WorkError| failed_in(self.to, error);
        let mut transaction = self.new.begin_write().map_err(|error| failed(error.into()))?;
        self.batches += 1;
        if !self.batches.is_multiple_of(BATCHES_A_FLUSH) {
            transaction
                .set_durability(Durability::None)
                .expect("a file of one process without savepoints takes commits without an fsync");
        }
        let (mut count, mut bytes) = (0, 0);
        {
            let mut written = transaction.open_table(table).map_err(|error| failed(error.into()))?;
            while bytes < BATCH_BYTES
                && let Some(row) = rows.next()
            {
                let (key, value) = row.map_err(|error| unreadable(error.into()))?;
                let (key, value) = (key.value(), value.value());
                count += 1;
                bytes += K::as_bytes(&key).as_ref().len() + V::as_bytes(&value).as_ref().len();
                written.insert(key, value).map_err(|error| failed(error.into()))?;
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))?;
        *self.copied.entry(table.name().to_owned()).or_default() += count;
        self.progress.send_modify(|progress| progress.rows += count);
        Ok(bytes >= BATCH_BYTES)
    }
}

#[cfg(test)]
mod tests;
