//! How many samples had each status: what devices say and what the host says, in one form.

use std::fmt;
use std::ops::AddAssign;

use anyhow::{Context, Result};
use serde_json::Value;

/// How many statuses there are: 0 to 6.
pub const STATUSES: usize = 7;

/// Samples per status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts(pub [u64; STATUSES]);

impl StatusCounts {
    /// All statuses together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Reads the host's object, `{"0":…,…,"6":…}`.
    ///
    /// # Errors
    /// When a status is missing or is not a whole number.
    pub fn from_object(object: &Value) -> Result<Self> {
        Self::read(|status| object.get(status.to_string()))
    }

    /// Reads the devices' array of seven numbers.
    ///
    /// # Errors
    /// When a number is missing or is not a whole number.
    pub fn from_array(array: &Value) -> Result<Self> {
        Self::read(|status| array.get(status))
    }

    fn read<'a>(at: impl Fn(usize) -> Option<&'a Value>) -> Result<Self> {
        let mut counts = Self::default();
        for (status, count) in counts.0.iter_mut().enumerate() {
            *count = at(status)
                .and_then(Value::as_u64)
                .with_context(|| format!("there is no whole number for status {status}"))?;
        }
        Ok(counts)
    }
}

impl AddAssign for StatusCounts {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

impl fmt::Display for StatusCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (status, count) in self.0.iter().enumerate() {
            let space = if status == 0 { "" } else { "  " };
            write!(f, "{space}{status}: {count}")?;
        }
        Ok(())
    }
}
