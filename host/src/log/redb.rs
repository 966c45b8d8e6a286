//! The embedded store: one redb file, one transaction with an fsync a flush. Nothing to install.
//!
//! A commit is durable when it returns. Rollups are committed without an fsync of their own: after a crash
//! they are made again from the log. A reader sees one instant of the whole store.

#[cfg(test)]
mod faults;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use rollcall_wire::{Slot, Status};

use super::{Checkpoint, Entry, LogStore, StoreError, codec};
use crate::counts::{Plan, TailEntry, Upto, View, Window};
use crate::rollup::{self, Chunk, Counts, Resolution};

/// `format` → [`codec::FORMAT_VERSION`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// slot · 2⁴⁰ + number → the entry.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// slot → [`Checkpoint::next`].
const CHECKPOINTS: TableDefinition<'_, u8, u64> = TableDefinition::new("checkpoints");
/// slot → [`Checkpoint::dedupe`].
const DEDUPE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("dedupe");
/// start in Unix seconds → the minute by second.
const MINUTES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("minutes");
/// start in Unix seconds → the hour's counts.
const HOURS: TableDefinition<'_, u64, [u64; Status::COUNT]> = TableDefinition::new("hours");
/// start in Unix seconds → the day's counts.
const DAYS: TableDefinition<'_, u64, [u64; Status::COUNT]> = TableDefinition::new("days");

/// The file within the data directory.
const FILE: &str = "rollcall.redb";

/// Pages kept in memory. redb's own default of 1 GiB is more than a small host has.
const CACHE_BYTES: usize = 64 << 20;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// One process writes a data directory at a time.
    #[error(
        "another process uses the data directory {0}: stop it, or name another one with --store redb:DIRECTORY"
    )]
    InUse(PathBuf),
    /// The directory cannot be made, read or written.
    #[error("the data directory {0} cannot be used: {1}")]
    Unusable(PathBuf, String),
    /// Another version of Rollcall wrote it. Nothing was changed.
    #[error(
        "the data directory {0} has format {1}, but this version of rollcall reads and writes format {2} only"
    )]
    OtherFormat(PathBuf, u64, u64),
}

type Open = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

/// See the module. After an I/O error the file is closed, and opened anew by the next call.
#[derive(Clone)]
pub struct RedbStore {
    open: Arc<Open>,
    database: Arc<Mutex<Option<Arc<Database>>>>,
}

impl RedbStore {
    /// Opens or makes the store in `directory`.
    ///
    /// # Errors
    /// [`OpenError`] tells whom to ask.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let unusable =
            |error: &dyn std::fmt::Display| OpenError::Unusable(directory.into(), error.to_string());
        fs::create_dir_all(directory).map_err(|error| unusable(&error))?;
        let file = directory.join(FILE);
        let open = move || Database::builder().set_cache_size(CACHE_BYTES).create(&file);
        let (store, format) = Self::open_with(open).map_err(|error| match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse(directory.into()),
            error => unusable(&error),
        })?;
        match format {
            codec::FORMAT_VERSION => Ok(store),
            other => Err(OpenError::OtherFormat(directory.into(), other, codec::FORMAT_VERSION)),
        }
    }

    /// Opens a store by `open`, which is called again after an I/O error, and tells its format.
    fn open_with(
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<(Self, u64), redb::Error> {
        let database = open()?;
        let format = prepare(&database)?;
        let database = Arc::new(Mutex::new(Some(Arc::new(database))));
        Ok((Self { open: Arc::new(open), database }, format))
    }

    /// Does blocking work on the database, away from the async threads; dropping the future does not stop it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, WorkError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let database = store.database()?;
            work(&database).map_err(|error| match error {
                WorkError::Store(error) => error,
                WorkError::Redb(error) => {
                    // redb refuses all work after an I/O error until the file is opened again.
                    store.close(&database);
                    unavailable(error)
                }
            })
        });
        done.await.map_err(unavailable)?
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        match &*database {
            Some(open) => Ok(open.clone()),
            None => {
                let opened = Arc::new((self.open)().map_err(unavailable)?);
                *database = Some(opened.clone());
                Ok(opened)
            }
        }
    }

    fn close(&self, failed: &Arc<Database>) {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        database.take_if(|open| Arc::ptr_eq(open, failed));
    }
}

/// What goes wrong in a piece of work: in redb, or in what is stored.
enum WorkError {
    Redb(redb::Error),
    Store(StoreError),
}

impl<E: Into<redb::Error>> From<E> for WorkError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Makes the tables, so that readers find them, and tells the store's format.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let known = transaction.open_table(META)?.get("format")?.map(|format| format.value());
    if let Some(format) = known {
        transaction.abort()?;
        return Ok(format);
    }
    transaction.open_table(META)?.insert("format", codec::FORMAT_VERSION)?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(CHECKPOINTS)?;
    transaction.open_table(DEDUPE)?;
    transaction.open_table(MINUTES)?;
    transaction.open_table(HOURS)?;
    transaction.open_table(DAYS)?;
    transaction.commit()?;
    Ok(codec::FORMAT_VERSION)
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
            .map(|entry| (entry.slot, key(entry.slot, entry.number), codec::entry_bytes(entry)))
            .collect();
        self.run(move |database| {
            let mut taken = Vec::new();
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(ENTRIES)?;
                for (slot, key, bytes) in &rows {
                    if table.get(key)?.is_some() {
                        taken.push(*slot);
                    } else {
                        table.insert(key, bytes.as_slice())?;
                    }
                }
            }
            transaction.commit()?;
            Ok(taken)
        })
        .await
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.run(move |database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let mut entries = Vec::new();
            for row in table.range(keys(slot, from))?.take(limit) {
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
        self.run(move |database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::None).map_err(unavailable).map_err(WorkError::Store)?;
            for chunk in &chunks {
                apply_chunk(&transaction, chunk)?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        let plan = plan.clone();
        self.run(move |database| {
            let transaction = database.begin_read()?;
            let upto = checkpoints(&transaction)?;
            Ok(View { windows: windows(&transaction, &plan, upto)?, tail: tail(&transaction, upto)? })
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

fn apply_chunk(transaction: &WriteTransaction, chunk: &Chunk) -> Result<(), WorkError> {
    let index = chunk.slot.index() as u8;
    let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
    let checkpoint = checkpoints.get(index)?.map_or(0, |next| next.value());
    if !super::is_next(chunk, checkpoint).map_err(WorkError::Store)? {
        return Ok(());
    }
    checkpoints.insert(index, chunk.entries.end)?;
    transaction.open_table(DEDUPE)?.insert(index, chunk.dedupe.as_slice())?;
    add_minutes(transaction, chunk)?;
    for (table, resolution) in [(HOURS, Resolution::Hour), (DAYS, Resolution::Day)] {
        let mut table = transaction.open_table(table)?;
        for (start, counts) in rollup::windows(&chunk.counts, resolution) {
            let mut sum = table.get(start)?.map_or_else(Counts::default, |stored| Counts(stored.value()));
            sum += counts;
            table.insert(start, sum.0)?;
        }
    }
    Ok(())
}

fn add_minutes(transaction: &WriteTransaction, chunk: &Chunk) -> Result<(), WorkError> {
    let mut table = transaction.open_table(MINUTES)?;
    for start in rollup::windows(&chunk.counts, Resolution::Minute).into_keys() {
        let mut minute = match table.get(start)? {
            Some(stored) => codec::minute(start, stored.value()).map_err(WorkError::Store)?,
            None => Default::default(),
        };
        for (second, counts) in chunk.counts.range(start..start + Resolution::Minute.seconds()) {
            *minute.entry(*second).or_default() += *counts;
        }
        table.insert(start, codec::minute_bytes(&minute).as_slice())?;
    }
    Ok(())
}

fn checkpoints(transaction: &ReadTransaction) -> Result<Upto, WorkError> {
    let table = transaction.open_table(CHECKPOINTS)?;
    let mut upto = [0; Slot::COUNT];
    for slot in Slot::all() {
        upto[slot.index()] = table.get(slot.index() as u8)?.map_or(0, |next| next.value());
    }
    Ok(upto)
}

fn windows(transaction: &ReadTransaction, plan: &Plan, upto: Upto) -> Result<Vec<Window>, WorkError> {
    let minutes = transaction.open_table(MINUTES)?;
    let mut windows = Vec::new();
    let mut add_minutes = |range: &Range<u64>| {
        let first = Resolution::Minute.window_start(range.start);
        for row in minutes.range(first..range.end)? {
            let (start, bytes) = row?;
            let start = start.value();
            let minute = codec::minute(start, bytes.value()).map_err(WorkError::Store)?;
            let range = range.start.max(start)..range.end.min(start + Resolution::Minute.seconds());
            windows.push(Window { counts: rollup::sum(&minute, range.clone()), range, upto });
        }
        Ok::<_, WorkError>(())
    };
    for (resolution, range) in &plan.whole {
        if *resolution == Resolution::Minute {
            add_minutes(range)?;
        }
    }
    for edge in &plan.edges {
        add_minutes(edge)?;
    }
    for (resolution, range) in &plan.whole {
        let table = match resolution {
            Resolution::Minute => continue,
            Resolution::Hour => HOURS,
            Resolution::Day => DAYS,
        };
        for row in transaction.open_table(table)?.range(range.clone())? {
            let (start, counts) = row?;
            let range = start.value()..start.value() + resolution.seconds();
            windows.push(Window { range, counts: Counts(counts.value()), upto });
        }
    }
    windows.sort_by_key(|window| window.range.start);
    Ok(windows)
}

fn tail(transaction: &ReadTransaction, upto: Upto) -> Result<Vec<TailEntry>, WorkError> {
    let table = transaction.open_table(ENTRIES)?;
    let mut tail = Vec::new();
    for slot in Slot::all() {
        for row in table.range(keys(slot, upto[slot.index()]))? {
            let (key, bytes) = row?;
            let number = number(key.value());
            let counts = codec::entry_counts(slot, number, bytes.value()).map_err(WorkError::Store)?;
            tail.push(TailEntry { slot, number, counts });
        }
    }
    Ok(tail)
}
