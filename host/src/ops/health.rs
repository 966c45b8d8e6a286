//! Which parts of the process are unhealthy and why, for `GET /readyz`. Parts report; nobody here acts on it.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A part that can be unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Messages cannot be stored.
    Store,
    /// Messages cannot be received.
    Source,
    /// Nothing takes received messages to the store.
    Ingest,
    /// Nothing answers over HTTP.
    Http,
    /// Old messages stay.
    Retention,
}

impl Part {
    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Source => "source",
            Self::Ingest => "ingest",
            Self::Http => "http",
            Self::Retention => "retention",
        }
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "store",
            Self::Source => "source of messages",
            Self::Ingest => "ingest loop",
            Self::Http => "HTTP API",
            Self::Retention => "retention",
        })
    }
}

/// The parts that are unhealthy now, each with its reason.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<BTreeMap<Part, String>>);

impl Health {
    /// The part works.
    pub(super) fn healthy(&self, part: Part) {
        self.reasons().remove(&part);
    }

    /// The part does not work, and why.
    pub(super) fn unhealthy(&self, part: Part, reason: &dyn Display) {
        self.reasons().insert(part, reason.to_string());
    }

    /// Why the process is not ready, if it is not: the reason of one unhealthy part.
    pub(super) fn reason(&self) -> Option<String> {
        self.reasons().values().next().cloned()
    }

    fn reasons(&self) -> MutexGuard<'_, BTreeMap<Part, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
