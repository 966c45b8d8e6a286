//! Whether a sample is counted at the time at which it was taken.

use rollcall_host::model::{Record, TimeError};

use super::{Copied, Sample};
use crate::scene::Failure;

/// What rounding takes, and the drift of a device's clock, at most.
const ROUNDING_MS: i64 = 5;
const DRIFT_PPM: i64 = 1_000;

/// A broker states waiting times in whole seconds.
const BROKER_MS: i64 = 1_000;

impl Sample {
    /// A record says how far off its time may be: beside that, no more than the time of flight, and what the host's
    /// clock was set by since the sample was taken.
    pub(super) fn check_time(&self, record: &Record) -> Result<(), Failure> {
        let error = record.sampled_at.0 as i64 - self.taken_wall.0 as i64;
        let mut of_this_arrival =
            self.copies.iter().filter(|copy| copy.received_at == record.received_at).peekable();
        let found = if of_this_arrival.peek().is_none() {
            "nothing came then".to_owned()
        } else if record.time_error == TimeError::Unknown
            || of_this_arrival.clone().any(|copy| self.allows(copy, record.time_error, error))
        {
            return Ok(());
        } else {
            let copies: Vec<_> = of_this_arrival.map(|copy| copy.at_ms).collect();
            format!("{error} ms off, taken at {}, received at {copies:?}", self.taken_ms)
        };
        Err(Failure { check: "time", found: format!("{record:?}: {found}") })
    }

    fn allows(&self, copy: &Copied, stated: TimeError, error: i64) -> bool {
        // Of a sample that was restored nobody knows for how long the power was off.
        let Some(up_ms) = copy.up_ms else { return true };
        let passed = copy.at_ms as i64 - self.taken_ms as i64;
        let set_by = copy.received_at.0 as i64 - self.taken_wall.0 as i64 - passed;
        let age = up_ms as i64 - self.device_ms as i64;
        let flight = passed - age - copy.waited_ms as i64;
        let broker = if copy.waited_ms > 0 || stated == TimeError::OneSecond { BROKER_MS } else { 0 };
        let slack = ROUNDING_MS + passed * DRIFT_PPM / 1_000_000 + broker;
        (set_by.min(0) - slack..=set_by.max(0) + flight + slack).contains(&error)
    }
}
