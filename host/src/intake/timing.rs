//! When a sample was taken, by the device's own clock.
//!
//! A device says what its clock read when it sent (`up_ms`), so each message gives a bound: that clock started no
//! later than the message's arrival less `up_ms` and less what it is known to have waited. The least of these bounds
//! over a sliding window is where the clock started, by the message that was held up least; it dates all others,
//! whatever held them up. A window slides by the device's uptime, not by the host's time, because what was held up
//! comes all at once.
//!
//! All of it is reckoned on the host's monotonic clock: setting the host's clock moves nothing here. It is known in
//! memory only, and of a bounded number of devices. It knows neither stores nor what was counted.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use rollcall_wire::codec::AGE_MAX_MS;
use rollcall_wire::{RunId, Taken, mutant};
use tokio::time::Instant;

use crate::model::{Record, TimeError, UnixMs};

/// A window is two buckets, each of so much uptime and of so many messages at least: in 60 s a clock that is off by
/// 1 % gains 0.6 s, one that is off by 100 ppm 6 ms.
const BUCKET_MS: u64 = 60_000;
const BUCKET_MESSAGES: u8 = 4;

/// What comes again late says that the clock reads less than the window does. When so many messages in a row do, it
/// began again.
const BEHIND_MAX: u8 = 16;

/// Two bounds within this agree: hardly anything holds up two messages equally, unless both came at once.
const AGREE_MS: i64 = 250;

/// Two messages that were sent so far apart did not come at once if their bounds agree.
const APART_MS: u64 = 2 * AGREE_MS as u64;

/// A message that waited in a broker and whose bound is so far below all others: the broker's clock was set.
const WAIT_FALSE_MS: i64 = 2_000;

/// A wait is stated in whole seconds: RabbitMQ rounds it up, and mosquitto takes the difference of two clocks of whole
/// seconds. So a bound that takes a wait into account may be late by twice this.
const WAIT_ROUNDS_MS: i64 = 1_000;

/// After so much uptime without a message as quick, a clock that is off by 100 ppm has gained 0.36 s.
const LEAST_LASTS_MS: u64 = 3_600_000;

/// How many clocks are known at most, twice: those heard lately, and those before them. Some 120 bytes each.
const CLOCKS_MAX: usize = 1 << 20;

/// What a message says of its device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// What it read when the message was sent, in milliseconds; at most [`rollcall_wire::codec::UP_MAX_MS`].
    pub up_ms: u64,
    /// Whose clock it is, where a boot outlasts a reset.
    pub run: Option<RunId>,
    /// In which run the sample was taken.
    pub taken: Taken,
    /// How old the sample was when the message was sent, in milliseconds.
    pub age_ms: u32,
    /// How long the message waited in brokers, in seconds; `None` when nothing is known of it.
    pub waited_s: Option<u32>,
}

impl ClockReading {
    /// Did a broker hold the message back? Brokers round up, so that 1 s may be none.
    fn waited(&self) -> bool {
        self.waited_s.is_none_or(|seconds| seconds > 1)
    }

    /// How long the message waited at least.
    fn waited_ms(&self) -> i64 {
        1000 * i64::from(self.waited_s.unwrap_or(0).saturating_sub(1))
    }
}

/// The clocks of the devices that are heard.
pub(super) struct Timing {
    /// Instants are reckoned from here.
    started: Instant,
    hasher: RandomState,
    /// Half of the places of a map may be free: they are small.
    recent: HashMap<u64, Box<Clock>>,
    older: HashMap<u64, Box<Clock>>,
    clocks_max: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self::bounded(CLOCKS_MAX)
    }
}

impl Timing {
    fn bounded(clocks_max: usize) -> Self {
        let (hasher, started) = (RandomState::new(), Instant::now());
        Self { started, hasher, recent: HashMap::new(), older: HashMap::new(), clocks_max }
    }

    /// Takes note of a message, be its sample new or counted already.
    pub(super) fn hear(&mut self, record: &Record, reading: &ClockReading, received: Instant) {
        let (key, received_ms) = (self.key(record, reading), self.ms(received));
        if let Some(clock) = self.recent.get_mut(&key) {
            clock.hear(reading, received_ms);
            return;
        }
        if self.recent.len() >= self.clocks_max {
            self.older = std::mem::take(&mut self.recent);
        }
        let mut clock = self.older.remove(&key).unwrap_or_default();
        clock.hear(reading, received_ms);
        self.recent.insert(key, clock);
    }

    /// Dates a sample whose message was heard, and says how exactly it is known. Where its clock says nothing, the
    /// date stays as it is.
    pub(super) fn date(&self, record: &mut Record, reading: &ClockReading, received: Instant) {
        let key = self.key(record, reading);
        let clock = self.recent.get(&key).or_else(|| self.older.get(&key));
        record.time_error = TimeError::Unknown;
        let Some(dated) = clock.and_then(|clock| clock.date(reading, self.ms(received))) else { return };
        let held_up_ms = mutant!(DatedByArrival, 0, dated.held_up_ms);
        let before_ms = held_up_ms.saturating_add(i64::from(reading.age_ms));
        // Beyond the horizon lies no sample: what says so is no clock.
        if (0..=i64::from(AGE_MAX_MS)).contains(&before_ms) {
            record.sampled_at = UnixMs(record.received_at.0.saturating_sub(before_ms.cast_unsigned()));
            record.time_error = dated.time_error;
        }
    }

    /// Two clocks of the same key would date each other; of a million, the chance that any two are is 3 · 10⁻⁸.
    fn key(&self, record: &Record, reading: &ClockReading) -> u64 {
        self.hasher.hash_one((record.device, record.id.map(|id| id.boot), reading.run))
    }

    /// Milliseconds since [`Timing::started`], which may lie after `instant`.
    fn ms(&self, instant: Instant) -> i64 {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(self.started) {
            Some(after) => ms(after),
            None => -ms(self.started - instant),
        }
    }
}

/// When a sample was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dated {
    /// How long its message was on its way, whatever held it up.
    held_up_ms: i64,
    time_error: TimeError,
}

/// What is known of a device's clock.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// What it read in the first message of the bucket that is being filled.
    bucket_up_ms: u64,
    /// So many messages in a row were of a time before the window.
    behind: u8,
    filling: Bucket,
    full: Bucket,
}

/// The bounds of some messages.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    all: Bounds,
    /// Of those that no broker held back. What comes at once from a broker agrees, because it waited some whole seconds
    /// more or less, and may have waited a part of one besides; but of these no two came at once that agree.
    direct: Bounds,
    /// Did a wait contradict all others?
    disputed: bool,
}

/// Packed, for there are four of them for each of a million devices.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(2))]
struct Bounds {
    /// The least of them: the clock started then at the latest.
    least_ms: i64,
    /// What the clock read in that message.
    least_up_ms: u64,
    /// How many there were, as far as it matters; the rest means nothing when it is 0.
    messages: u8,
    /// Did another message agree with it, that did not come at once with it?
    agreed: bool,
}

impl Bucket {
    /// Of both together.
    fn with(self, other: Self) -> Self {
        let (all, direct) = (self.all.with(other.all), self.direct.with(other.direct));
        Self { all, direct, disputed: self.disputed || other.disputed }
    }

    /// Is the least of a message that no broker held back, or does it agree with the bound of one?
    fn is_direct(&self) -> bool {
        self.direct.messages > 0 && self.direct.least_ms - self.all.least_ms <= AGREE_MS
    }
}

impl Bounds {
    fn with(self, other: Self) -> Self {
        if self.messages == 0 || other.messages == 0 {
            return if self.messages == 0 { other } else { self };
        }
        let (least, next) = if other.least_ms < self.least_ms { (other, self) } else { (self, other) };
        let agree = next.least_ms - least.least_ms <= AGREE_MS;
        let apart = next.least_up_ms.abs_diff(least.least_up_ms) >= APART_MS;
        Self {
            messages: least.messages.saturating_add(next.messages),
            agreed: least.agreed || agree && (apart || next.agreed),
            ..least
        }
    }
}

impl Clock {
    fn hear(&mut self, reading: &ClockReading, received_ms: i64) {
        let up_ms = reading.up_ms;
        let bound = self.bound(reading, received_ms);
        let is_behind = up_ms.saturating_add(BUCKET_MS) <= self.bucket_up_ms;
        self.behind = if is_behind { self.behind + 1 } else { 0 };
        let is_beyond = up_ms >= self.bucket_up_ms + BUCKET_MS || self.behind >= BEHIND_MAX;
        if self.filling.all.messages >= BUCKET_MESSAGES && is_beyond {
            (self.full, self.behind) = (std::mem::take(&mut self.filling), 0);
        }
        if self.filling.all.messages == 0 {
            self.bucket_up_ms = up_ms;
        }
        self.filling = self.filling.with(bound);
    }

    fn known(&self) -> Bucket {
        self.full.with(self.filling)
    }

    /// The bound that a message gives; a wait that all others contradict is not believed.
    fn bound(&self, reading: &ClockReading, received_ms: i64) -> Bucket {
        let disputed = self.contradicts(reading, received_ms);
        let wait_ms = if disputed { 0 } else { reading.waited_ms() };
        let all = Bounds {
            least_ms: received_ms - reading.up_ms.cast_signed() - wait_ms,
            least_up_ms: reading.up_ms,
            messages: 1,
            agreed: false,
        };
        Bucket { all, direct: if reading.waited() { Bounds::default() } else { all }, disputed }
    }

    fn contradicts(&self, reading: &ClockReading, received_ms: i64) -> bool {
        let (known, at_latest_ms) = (self.known(), received_ms - reading.up_ms.cast_signed());
        known.all.agreed
            && reading.waited()
            && at_latest_ms - reading.waited_ms() < known.all.least_ms - WAIT_FALSE_MS
    }

    /// `None` when the message alone has to say it.
    fn date(&self, reading: &ClockReading, received_ms: i64) -> Option<Dated> {
        // Its own bound may have left the window, when much came at once.
        let known = self.known().with(self.bound(reading, received_ms));
        let held_up_ms = received_ms - reading.up_ms.cast_signed() - known.all.least_ms;
        let certain = known.all.agreed
            && (held_up_ms <= AGREE_MS || reading.up_ms.abs_diff(known.all.least_up_ms) <= LEAST_LASTS_MS);
        if self.contradicts(reading, received_ms) && !(certain && known.is_direct()) {
            return None;
        }
        // Was the broker's clock set, or were the others held up equally by chance? One more that agrees was not.
        let disputed = known.disputed && held_up_ms > AGREE_MS;
        let exact = certain && known.is_direct() && known.direct.agreed;
        let time_error = match reading.taken {
            Taken::ThisRun if disputed => TimeError::Unknown,
            Taken::ThisRun if exact => TimeError::Exact,
            Taken::ThisRun if certain => TimeError::OneSecond,
            Taken::ThisRun | Taken::EarlierRun => TimeError::Unknown,
        };
        let rounded_ms = if certain && !exact && !disputed { WAIT_ROUNDS_MS } else { 0 };
        Some(Dated { held_up_ms: held_up_ms + rounded_ms, time_error })
    }
}

#[cfg(test)]
mod tests;
