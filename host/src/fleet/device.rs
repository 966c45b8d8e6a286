//! One device as its row says: what it sent, what is missing of it, and whether it answers.

use rollcall_wire::DeviceId;

use super::gaps::{gaps, period_ms};
use crate::log::StoreError;
use crate::log::row::{DeviceState, Row};
use crate::model::UnixMs;

/// Later than so many periods, in halves, a device is silent.
const SILENT_HALF_PERIODS: u64 = 3;

/// No device is silent sooner: a message takes its time to get here, and rows are written seconds later.
const SILENT_MIN_MS: u64 = 5_000;

/// Of a device that took one sample only, the period is not known: it is taken for this one, a minute.
const PERIOD_UNKNOWN_MS: u64 = 60_000;

/// After so long without a sample a device is offline, whatever its period: an hour, and ten periods of one that samples
/// more rarely.
const OFFLINE_MS: u64 = 3_600_000;
const OFFLINE_PERIODS: u64 = 10;

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its samples come.
    Online,
    /// Its last sample is older than one and a half of its periods.
    Stale,
    /// It has left, or nothing came of it for long.
    Offline,
}

impl State {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Offline => "offline",
        }
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetDevice {
    /// Which one.
    pub id: DeviceId,
    /// What its row says.
    pub row: DeviceState,
    /// The time from one sample to the next, in milliseconds, in the boot that was heard last.
    pub period_ms: Option<u64>,
    /// When it left, if that is known and it did not say since that it came.
    pub left_at: Option<UnixMs>,
}

impl FleetDevice {
    /// A device by its row.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row is none.
    pub fn new(row: &Row) -> Result<Self, StoreError> {
        let state = DeviceState::from_bytes(&row.state);
        let state = state.ok_or_else(|| StoreError::Corrupt(format!("the row of device {}", row.device)))?;
        let period_ms = state.boots.iter().rev().find_map(period_ms);
        Ok(Self { id: row.device, row: state, period_ms, left_at: None })
    }

    /// When its last sample was taken, or, if none was counted, when it was heard last.
    pub fn last_at(&self) -> UnixMs {
        self.row.last_sample.map_or(self.row.last_seen, |(at, _)| at)
    }

    /// How it is, judged at an instant at which all that had come was in its row.
    pub fn state(&self, at: UnixMs) -> State {
        let silent_ms = at.0.saturating_sub(self.last_at().0);
        let period_ms = self.period_ms.unwrap_or(PERIOD_UNKNOWN_MS);
        // Whatever it sent later shows that it is back.
        let has_left = self.left_at.is_some_and(|left_at| left_at >= self.row.last_seen);
        if has_left || silent_ms > OFFLINE_MS.max(period_ms.saturating_mul(OFFLINE_PERIODS)) {
            State::Offline
        } else if silent_ms > SILENT_MIN_MS.max(period_ms.saturating_mul(SILENT_HALF_PERIODS) / 2) {
            State::Stale
        } else {
            State::Online
        }
    }

    /// How many of its samples are in the log, of the boots that can get more.
    pub fn seen(&self) -> u64 {
        let ranges = self.row.boots.iter().flat_map(|boot| &boot.ranges);
        ranges.map(|range| range.last - range.first + 1).sum()
    }

    /// How many are missing in all.
    pub fn missing(&self) -> u64 {
        self.row.boots.iter().flat_map(gaps).map(|gap| gap.missing()).sum()
    }
}
