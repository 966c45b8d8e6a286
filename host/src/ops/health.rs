//! Which parts of the process are unhealthy and why, for `GET /readyz`. Parts report; nobody here acts on it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A part that can be unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Messages cannot be stored.
    Store,
    /// Messages cannot be received.
    Source,
}

/// The parts that are unhealthy now, each with its reason.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<Part, String>>);

impl Health {
    /// A part that has not come up yet.
    pub fn starting(part: Part) -> Self {
        Self(Mutex::new(BTreeMap::from([(part, "starting".to_owned())])))
    }

    /// The part works.
    pub fn healthy(&self, part: Part) {
        self.reasons().remove(&part);
    }

    /// The part does not work, and why.
    pub fn unhealthy(&self, part: Part, reason: &dyn Display) {
        self.reasons().insert(part, reason.to_string());
    }

    /// Why the process is not ready, if it is not: the reason of one unhealthy part.
    pub fn reason(&self) -> Option<String> {
        self.reasons().values().next().cloned()
    }

    fn reasons(&self) -> MutexGuard<'_, BTreeMap<Part, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
