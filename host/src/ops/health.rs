//! What ails the process, for `GET /readyz`. Parts report; nobody here acts on it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A part that can be ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Messages cannot be stored.
    Store,
    /// Messages cannot be received.
    Source,
}

/// The ills of the moment.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<Part, String>>);

impl Health {
    /// A part that has not come up yet.
    pub fn starting(part: Part) -> Self {
        Self(Mutex::new(BTreeMap::from([(part, "starting".to_owned())])))
    }

    /// The part works.
    pub fn well(&self, part: Part) {
        self.ills().remove(&part);
    }

    /// The part does not work, and why.
    pub fn ill(&self, part: Part, reason: &dyn Display) {
        self.ills().insert(part, reason.to_string());
    }

    /// One ill of the moment.
    pub fn complaint(&self) -> Option<String> {
        self.ills().values().next().cloned()
    }

    fn ills(&self) -> MutexGuard<'_, BTreeMap<Part, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
