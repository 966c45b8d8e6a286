//! Whether a sample is counted at the time at which it was taken.

use rollcall_host::model::{Record, TimeError};

use super::{Copied, Device, Oracle, Sample};
use crate::scene::Failure;

/// What rounding takes, and the drift of a device's clock, at most.
const ROUNDING_MS: i64 = 5;
const DRIFT_PPM: i64 = 1_000;

/// The message that dates another may have come so long before it.
const WINDOW_MS: i64 = 180_000;

/// Of so much of a clock's time, a host knows every message.
const KNOWN_MS: u64 = 60_000;

impl Oracle {
    /// A record whose time is said to be known is off by the time of flight of the message that was held up least,
    /// of those that its host has heard of the device's clock lately; and by what the host's clock was set by since
    /// the sample was taken.
    pub(super) fn check_time(&self, record: &Record) -> Result<(), Failure> {
        let Some((device, sample)) = self.devices.get(&record.device).zip(self.known_sample(record)) else {
            return Ok(());
        };
        let arrivals = || sample.copies.iter().filter(|copy| copy.received_at == record.received_at);
        let found = if arrivals().next().is_none() {
            "nothing came then".to_owned()
        } else if arrivals().any(|copy| allows(device, sample, copy, record)) {
            return Ok(());
        } else {
            let error = record.sampled_at.0 as i64 - sample.taken_wall.0 as i64;
            let arrived: Vec<_> = arrivals().map(|copy| copy.at_ms).collect();
            format!("{error} ms off, taken at {}, received at {arrived:?}", sample.taken_ms)
        };
        Err(Failure { check: "time", found: format!("{record:?}: {found}") })
    }

    fn known_sample(&self, record: &Record) -> Option<&Sample> {
        let id = record.id?;
        let samples = self.devices.get(&record.device)?.boots.get(&id.boot)?;
        samples.get(usize::try_from(id.seq.get()).ok()?)?.as_ref()
    }
}

fn allows(device: &Device, sample: &Sample, copy: &Copied, record: &Record) -> bool {
    let Some(up_ms) = copy.up_ms else {
        // Of a sample that was restored nobody knows for how long the power was off.
        return record.time_error == TimeError::Unknown;
    };
    if record.time_error == TimeError::Unknown {
        return true;
    }
    let passed = copy.at_ms as i64 - sample.taken_ms as i64;
    let by_the_clock_of_then = record.received_at.0 as i64 - passed;
    let error = record.sampled_at.0 as i64 - by_the_clock_of_then;
    let began_ms = sample.taken_ms as i64 - sample.device_ms as i64;
    let heard = record.id.and_then(|id| device.heard.get(&(id.boot, copy.run)));
    let lately = heard.into_iter().flatten().filter(|heard| {
        // What came in the same moment may be looked at later.
        let before = heard.at_ms < copy.at_ms || heard.up_ms == up_ms;
        heard.life == copy.life && before && heard.up_ms + KNOWN_MS >= up_ms
    });
    let Some(flight) = lately.map(|heard| heard.bound_ms - began_ms).min() else { return false };
    let slack = ROUNDING_MS + (passed + WINDOW_MS) * DRIFT_PPM / 1_000_000;
    (-slack..=flight.max(0) + slack).contains(&error)
}
