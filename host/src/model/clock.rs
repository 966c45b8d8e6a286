//! The wall clock as the edges hand it on: the system's, or one that a test turns.

use std::fmt;
use std::sync::Arc;

use super::UnixMs;

/// Tells what the host takes for the time of day. It may step.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixMs + Send + Sync>);

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        Self::new(UnixMs::now)
    }

    /// One that asks `now` each time.
    pub fn new(now: impl Fn() -> UnixMs + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What it says.
    pub fn now(&self) -> UnixMs {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
