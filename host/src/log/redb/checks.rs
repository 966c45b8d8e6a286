//! How an embedded store stands, for `rollcall doctor`: its file, the checksum of every value, and what is made from
//! the log. It makes no store, and changes none.
//!
//! redb's file is locked by the process that uses it. That process looks at it then, at what one read transaction
//! sees; redb's own check of the file has to wait until nobody uses it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, ReadTransaction, ReadableDatabase};
use rollcall_wire::Slot;
use tokio::sync::mpsc;

use super::open::{builder, file_with_bytes};
use super::snapshot::RedbSnapshot;
use super::sweep::sweep;
use super::untouched::Untouched;
use super::{
    RedbOpenError, RedbStore, WorkError, checkpoints, close, device_windows, guarded, open, requests, rows,
    starts, windows,
};
use crate::log::Recount;
use crate::ops::Findings;
use crate::ops::check::{self, Check, Outcome, Report, Reporter, Unheard};

const FILE_NAME: &str = "redb file";

/// Only when redb has found its last commit not whole does its check report a progress between these.
const GOING_BACK: Range<f64> = 0.1..0.5;

/// Looks at the store in `directory`, by the process that uses it if there is one.
pub async fn checks(directory: &Path, recount: Recount, reports: mpsc::Sender<Report>) {
    if !RedbStore::is_in(directory) {
        let found = format!("no store in {} yet; it is made at the first start", directory.display());
        // Who does not listen any more needs no answer.
        let _ = reports.send(Report::Check(Check::pass(FILE_NAME, found))).await;
    } else if !requests::look(directory, &reports).await {
        let directory = directory.to_owned();
        check::look(reports, move |reporter| alone(&directory, recount, reporter)).await;
    }
}

impl RedbStore {
    /// As [`checks`], of a store that is open.
    pub async fn checks(&self, recount: Recount, reports: mpsc::Sender<Report>) {
        let store = self.clone();
        check::look(reports, move |reporter| {
            let database = match store.database() {
                Ok(database) => database,
                Err(error) => return reporter.check(not_opened(&RedbOpenError::of(&store.directory, error))),
            };
            let in_use = || store.database.lock().as_ref().is_some_and(|open| Arc::ptr_eq(open, &database));
            let why = "redb's own check of its file waits until no process uses the store";
            let looked = reporter
                .check(Check::skip(FILE_NAME, why))
                .and_then(|()| look(&store.directory, &database, &in_use, recount, reporter));
            close(Some(database));
            looked
        })
        .await;
    }
}

/// The error says what to do.
fn not_opened(error: &RedbOpenError) -> Check {
    Check { name: FILE_NAME.into(), outcome: Outcome::Fail, found: error.to_string(), remedy: None }
}

/// Looks at a store that nobody uses.
fn alone(directory: &Path, recount: Recount, reporter: &mut Reporter) -> Result<(), Unheard> {
    let (database, whole) = match open_untouched(directory) {
        Ok(opened) => opened,
        Err(RedbOpenError::InUse(_)) => {
            return reporter.check(Check::fail(
                FILE_NAME,
                format!("another process uses {} and cannot be asked to look at it", directory.display()),
                "wait until it is done, as a rollcall import, migrate or backup will be, or stop it; then try again",
            ));
        }
        Err(error) => return reporter.check(not_opened(&error)),
    };
    let shown = directory.display();
    reporter.check(if whole {
        Check::pass(FILE_NAME, format!("{shown} is as redb wrote it, and nobody uses it"))
    } else {
        Check::warn(
            FILE_NAME,
            format!("the last commit in {shown} is not whole: redb goes on with the one before"),
            "after a kill or a power cut this is as it should be; otherwise restore the store from a backup",
        )
    })?;
    let looked = look(directory, &database, &|| true, recount, reporter);
    close(Some(Arc::new(database)));
    looked
}

/// Opens a store, whose file stays as it is, with redb's own check; false when its last commit was not whole.
fn open_untouched(directory: &Path) -> Result<(Database, bool), RedbOpenError> {
    let file = file_with_bytes(directory)?;
    let failed = |error| RedbOpenError::of(directory, error);
    let backend = Untouched::open(&file).map_err(|error| open::unusable(directory, &error))?;
    let whole = Arc::new(AtomicBool::new(true));
    let seen = whole.clone();
    let opened = guarded(move || {
        let mut builder = builder();
        builder.set_check_integrity_on_open(true).set_repair_callback(move |repair| {
            if GOING_BACK.contains(&repair.progress()) {
                seen.store(false, Ordering::Relaxed);
            }
        });
        let database = builder.create_with_backend(backend)?;
        let stamp = open::stamp(&database.begin_read()?)?;
        Ok((database, stamp))
    });
    let (database, stamp) = opened.map_err(failed)?;
    stamp.must_be_whole(directory)?;
    Ok((database, whole.load(Ordering::Relaxed)))
}

/// Looks at what a read transaction sees.
fn look(
    directory: &Path,
    database: &Database,
    in_use: &dyn Fn() -> bool,
    recount: Recount,
    reporter: &mut Reporter,
) -> Result<(), Unheard> {
    let transaction = match guarded(|| Ok(database.begin_read()?)) {
        Ok(transaction) => transaction,
        Err(error) => return reporter.check(not_opened(&RedbOpenError::of(directory, error))),
    };
    let mut snapshot = RedbSnapshot { transaction: &transaction, in_use };
    sweep(&snapshot, reporter)?;
    totals(&snapshot, reporter)?;
    recount(&mut snapshot, reporter)
}

/// Is as much there as was written?
fn totals(snapshot: &RedbSnapshot<'_>, reporter: &mut Reporter) -> Result<(), Unheard> {
    let mut findings = Findings::default();
    let mut look = |look: &dyn Fn(&ReadTransaction) -> Result<(), WorkError>| {
        if let Err(error) = snapshot.run(look) {
            findings.add(|| error.to_string());
        }
    };
    look(&starts::check);
    look(&windows::check);
    look(&device_windows::check);
    for slot in Slot::all() {
        look(&|transaction| checkpoints::check(transaction, slot));
        look(&|transaction| rows::check(transaction, slot));
    }
    let right = "as many samples and rows as were written".to_owned();
    findings.report(reporter, "totals", right, "they can be made anew from the log: rollcall doctor --repair")
}
