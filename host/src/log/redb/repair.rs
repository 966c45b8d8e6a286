//! What is made from the log, made anew where some of it is damaged or gone: in a new file beside the old one, which it
//! replaces when it is whole.
//!
//! Of the damaged file the log is read, and nothing is ever written to it: nobody knows which of its pages are in use.

use std::cell::Cell;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{ReadTransaction, ReadableDatabase};
use rollcall_wire::Slot;
use tokio::sync::watch;

use super::backup::{BackupError, Copying, Progress};
use super::open::{
    FILE, META, NEW_FILE, builder, file_with_bytes, lock_new_file, prepare_made, remove_if_there, stamp,
};
use super::tables::each_table_of_the_log;
use super::{RedbOpenError, RedbStore, WorkError, as_is, guarded, kept, packed, unavailable};
use crate::log::codec;
use crate::log::rollup::CHUNK_ENTRIES;

/// How often it is said how far the copy is.
const REPORT_EVERY: Duration = Duration::from_secs(5);

impl RedbStore {
    /// A store in a new file, with the log of the one in `directory` and without what is made from it. It replaces the
    /// other one by [`RedbStore::end_rebuild`]; until then nobody else can use that.
    ///
    /// # Errors
    /// As [`RedbStore::open`], and when there is none.
    pub fn open_to_repair(directory: &Path) -> Result<Self, RedbOpenError> {
        if !Self::is_in(directory) {
            return Err(RedbOpenError::NoStore(directory.into()));
        }
        let file = file_with_bytes(directory)?;
        let failed = |error| RedbOpenError::of(directory, error);
        let old = locked(&file).map_err(failed)?;
        let from = guarded(|| Ok(as_is::open(old.try_clone()?)?.begin_read()?)).map_err(failed)?;
        guarded(|| stamp(&from)).map_err(failed)?.must_be_todays(directory)?;
        if let Err(error) = guarded(|| copy_log(&from, directory)) {
            // It may be the disk that is full. What cannot be removed is overwritten by the next repair.
            let _ = remove_if_there(&directory.join(NEW_FILE));
            return Err(failed(unreadable_part(&from).map_or(error, WorkError::Damage)));
        }
        let new = directory.join(NEW_FILE);
        let opened = Self::open_with(directory, NEW_FILE, move || Ok(builder().open(&new)?));
        let (store, _) = opened.map_err(failed)?;
        Ok(Self { _replaces: Some(Arc::new(old)), ..store })
    }
}

/// The damaged file, which nobody else uses.
fn locked(file: &Path) -> Result<File, WorkError> {
    let file = File::open(file)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(redb::Error::DatabaseAlreadyOpen.into()),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn copy_log(from: &ReadTransaction, directory: &Path) -> Result<(), WorkError> {
    let file = lock_new_file(directory)?;
    // What is left of a repair or a copy that was cut off.
    file.set_len(0)?;
    // Who may use the old one may use the new one, whoever repairs it.
    let old = fs::metadata(directory.join(FILE))?;
    fchown(&file, Some(old.uid()), Some(old.gid()))?;
    file.set_permissions(old.permissions())?;
    let new = builder().create_with_backend(FileBackend::new(file)?)?;
    let (progress, seen) = watch::channel(Progress::default());
    let reported = Cell::new(Instant::now());
    let go_on = || {
        if reported.get().elapsed() >= REPORT_EVERY {
            reported.set(Instant::now());
            tracing::info!(rows = seen.borrow().rows, "copying the log");
        }
        true
    };
    let mut copying = Copying::new(from, &new, directory, &progress, go_on);
    each_table_of_the_log(&mut copying).map_err(|error| match error {
        BackupError::Destination(_, reason) => WorkError::Store(unavailable(reason)),
        error => WorkError::Damage(error.to_string()),
    })?;
    let transaction = new.begin_write()?;
    prepare_made(&transaction)?;
    let stamp = stamp(from)?;
    if stamp.is_cut() {
        kept::copy(from, &transaction)?;
    }
    transaction.open_table(META)?.insert("format", stamp.format)?;
    transaction.open_table(META)?.insert("rebuild", 1)?;
    transaction.commit()?;
    Ok(())
}

/// Which part of a log cannot be read, if there is one.
fn unreadable_part(from: &ReadTransaction) -> Option<String> {
    Slot::all().find_map(|slot| {
        let mut next = 0;
        loop {
            match guarded(|| packed::read(from, slot, next, CHUNK_ENTRIES as usize, codec::entry)) {
                Ok(entries) => next = entries.last()?.number + 1,
                Err(WorkError::Damage(named)) => return Some(named),
                Err(error) => {
                    let last = next + CHUNK_ENTRIES - 1;
                    let reason = error.damage().unwrap_or_else(|error| error.to_string());
                    return Some(format!("one of the entries {next} to {last} of slot {slot}: {reason}"));
                }
            }
        }
    })
}
