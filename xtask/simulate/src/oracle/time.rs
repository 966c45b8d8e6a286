//! Whether a sample is counted at the time at which it was taken.

use rollcall_host::model::{Record, TimeError};

use super::{Copied, Device, Heard, Oracle, Sample};
use crate::scene::Failure;

/// What rounding takes, and the drift of a device's clock, at most.
const ROUNDING_MS: i64 = 5;
const DRIFT_PPM: i64 = 150;

/// The message that dates another may have come so long before it.
const WINDOW_MS: i64 = 180_000;

/// Of so much of a clock's time, a host knows every message.
const KNOWN_MS: u64 = 60_000;

/// What a host takes for agreement.
const AGREE_MS: i64 = 250;

/// How far a time may be off that is said to be known to a second.
const SECOND_MS: i64 = 1_000;

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

    pub(super) fn known_sample(&self, record: &Record) -> Option<&Sample> {
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
    let passed = copy.at_ms as i64 - sample.taken_ms as i64;
    let error = record.sampled_at.0 as i64 - (record.received_at.0 as i64 - passed);
    let began_ms = sample.taken_ms as i64 - sample.device_ms as i64;
    let slack = ROUNDING_MS + (passed + WINDOW_MS) * DRIFT_PPM / 1_000_000;
    let heard = record.id.and_then(|id| device.heard.get(&(id.boot, copy.run)));
    let of_this_life: Vec<_> = heard.into_iter().flatten().filter(|heard| heard.life == copy.life).collect();
    let lately = of_this_life
        .iter()
        .filter(|heard| heard.order <= copy.order && heard.up_ms + KNOWN_MS >= up_ms)
        .map(|heard| heard.late_ms(began_ms));
    let Some((stated, flight)) = lately.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))) else { return false };
    match record.time_error {
        TimeError::Unknown => true,
        TimeError::OneSecond => {
            (-SECOND_MS - slack..=stated.min(SECOND_MS + flight) + slack).contains(&error)
        }
        TimeError::Exact => {
            let known = of_this_life
                .iter()
                .filter(|heard| copy.settled_after.is_none_or(|settled_after| heard.order <= settled_after));
            (-slack..=stated + slack).contains(&error) && is_agreed(known.copied(), began_ms, error - slack)
        }
    }
}

impl Heard {
    /// How much later than it did the clock seems to have begun, by what the message states, and by how long it took
    /// beside what it waited.
    fn late_ms(&self, began_ms: i64) -> (i64, i64) {
        let raw = self.raw_ms(began_ms);
        // A wait is stated in whole seconds, and may be rounded up.
        let stated = raw - SECOND_MS * i64::from(self.waited_s.saturating_sub(1));
        (stated, raw - self.waited_ms as i64)
    }

    fn raw_ms(&self, began_ms: i64) -> i64 {
        self.at_ms as i64 - self.up_ms as i64 - began_ms
    }
}

/// Did two messages agree, which did not come at once and no broker held, that it is so late at least?
fn is_agreed<'a>(heard: impl Iterator<Item = &'a Heard>, began_ms: i64, error: i64) -> bool {
    let direct: Vec<_> = heard.filter(|heard| heard.waited_s <= 1).collect();
    direct.iter().enumerate().any(|(place, a)| {
        direct[place + 1..].iter().any(|b| {
            let (one, other) = (a.raw_ms(began_ms), b.raw_ms(began_ms));
            let apart = a.at_ms.abs_diff(b.at_ms) as i64 >= AGREE_MS;
            apart && (one - other).abs() <= AGREE_MS + 1 && one.min(other) >= error - AGREE_MS
        })
    })
}
