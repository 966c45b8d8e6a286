//! What is made from a log, made anew: windows, rows and their checkpoints. For stores of an older format, and for those
//! where some of it is damaged or gone. The log stays as it is, and has to be whole.
//!
//! Of the steps between [`Rebuild::begin`] and [`Rebuild::end`] it knows nothing: rows are made by `intake`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_wire::Slot;

use super::{AnyStore, LogStore, StoreError};

/// How many entries are read at a time.
const READ_ENTRIES: usize = 256;

/// How often it is said how far the log is read.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// What there is to do for a store to become one of today's format.
#[derive(Debug)]
pub enum Migration<T> {
    /// It is one, or there is none.
    Nothing,
    /// It was done.
    Done,
    /// Windows and rows have to be made anew.
    Rebuild(T),
}

impl<T> Migration<T> {
    pub(super) fn map<U>(self, rebuild: impl FnOnce(T) -> U) -> Migration<U> {
        match self {
            Self::Nothing => Migration::Nothing,
            Self::Done => Migration::Done,
            Self::Rebuild(store) => Migration::Rebuild(rebuild(store)),
        }
    }
}

/// A store that nobody else uses, whose windows and rows are to be made anew.
pub struct Rebuild {
    store: Arc<AnyStore>,
    /// Was it begun by an earlier process?
    begun: bool,
}

/// Why windows and rows are not made anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// What is made from it would be wrong.
    #[error("the log itself cannot be read, so nothing was changed: {0}")]
    Log(StoreError),
    /// What was made may be gone by now.
    #[error("windows and rows cannot be made anew: {0}; run it again")]
    Store(#[from] StoreError),
}

impl Rebuild {
    pub(super) fn new(store: AnyStore, begun: bool) -> Self {
        Self { store: Arc::new(store), begun }
    }

    /// Lets go of all that is made from the log, if the log is whole. The store that it gives is there to be filled from
    /// the log: it tells no counts, and cannot be opened by others, until [`Rebuild::end`].
    ///
    /// # Errors
    /// [`RebuildError`]
    pub async fn begin(&self) -> Result<Arc<AnyStore>, RebuildError> {
        if !self.begun {
            tracing::info!("looking whether the log is whole");
            read_all(&*self.store).await.map_err(RebuildError::Log)?;
            self.store.begin_rebuild().await?;
        }
        tracing::info!("making windows and rows anew from the log");
        Ok(self.store.clone())
    }

    /// All is made.
    ///
    /// # Errors
    /// [`RebuildError`]
    pub async fn end(self) -> Result<(), RebuildError> {
        Ok(self.store.end_rebuild().await?)
    }
}

/// Reads every entry of the log.
async fn read_all<S: LogStore>(store: &S) -> Result<(), StoreError> {
    let mut reported = Instant::now();
    for slot in Slot::all() {
        let mut next = store.start(slot).await?.first;
        loop {
            let entries = store.read(slot, next, READ_ENTRIES).await?;
            for entry in &entries {
                if entry.number != next {
                    return Err(StoreError::Corrupt(format!("entry {next} of slot {slot} is gone")));
                }
                next += 1;
            }
            if entries.len() < READ_ENTRIES {
                break;
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                tracing::info!(%slot, entry = next, "reading the log");
            }
        }
    }
    Ok(())
}
