//! The windows of single devices: counts by minute, within rows of an hour or a day, and what of them is still in the
//! device's row.
//!
//! While messages of a device come, its row holds their counts by minute, so that both are one function of the log. When
//! they are many they are *sealed*, at the end of an entry of the log: the row holds them apart, with the number of the
//! next entry, and whether they belong to rows of an hour, or are so few that those of a day take less room. Only after such
//! a row is stored they are added to their windows, each unless the window says that it holds the entries below that number;
//! and the next row that is written has them no more. So it does not matter where this is cut off, how often it is done, or
//! who does it: whoever reads the log seals the same.
//!
//! Whoever reads takes the row first, and adds what is sealed to windows that do not have it yet.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use rollcall_wire::mutant;
use serde::{Deserialize, Serialize};

pub use self::read::{as_of, at, read};
use super::StoreError;
use super::minutes::Minutes;
use super::row::{DeviceState, Row};
use super::run::Common;
use crate::model::{Counts, UnixMs};

const HOUR_MINUTES: u32 = 60;
const DAY_HOURS: u32 = 24;
const DAY_MINUTES: u32 = DAY_HOURS * HOUR_MINUTES;

/// So many bytes of counts a row has before they are sealed: about as many as the rest of it. More come from one entry
/// only.
pub const SEAL_BYTES: usize = 64;

/// With fewer bytes than these for each hour that they touch, counts belong to rows of a day: a row has about as many beside
/// its counts.
const HOUR_BYTES: usize = 32;

/// With fewer hours than these in each day that they touch, they do not: windows of a day would hardly be fewer, and are
/// longer. Each is written as a whole, for a sample of any time that somebody makes up.
const DAY_HOURS_MIN: usize = 3;

/// What a window is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// An hour, in hours since 1970.
    Hour(u32),
    /// A day, in days since 1970.
    Day(u32),
}

/// Counts of a device that are complete, on their way from its row to its windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredSealed", into = "StoredSealed")]
pub struct Sealed {
    /// The entries of the device's slot below this number are in it, or were sealed before.
    pub below: u64,
    /// Do they belong to rows of a day?
    by_day: bool,
    /// How many samples there are in them.
    pub minutes: Minutes,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct StoredSealed {
    /// With [`BY_DAY`], if they belong to rows of a day. Those of older versions never do.
    below: u64,
    minutes: Minutes,
}

/// No log has so many entries.
const BY_DAY: u64 = 1 << 63;

/// The counts of an hour or a day of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceWindow {
    /// Which one.
    pub span: Span,
    /// What was sealed below this number is in it.
    pub below: u64,
    /// By minute of the hour, 0 to 59, or of the day, 0 to 1439.
    pub minutes: Minutes,
}

/// What a store holds of a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceView {
    /// Its row, whose closed boots may be left out; `None` when nothing of it is in the log below the checkpoint.
    pub row: Option<Row>,
    /// Its windows that the hours lie in that were asked for, in order, each read after the row.
    pub windows: Vec<DeviceWindow>,
}

/// An answer, and the instant before which all that was acknowledged is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsOf<T> {
    /// The answer.
    pub value: T,
    /// The instant.
    pub as_of: UnixMs,
}

/// The windows to be stored for a device that has sealed these counts; `stored` tells the one that is there. A window that
/// has them is none of them.
pub fn moved<E>(
    sealed: &[Sealed],
    mut stored: impl FnMut(Span) -> Result<Option<DeviceWindow>, E>,
) -> Result<Vec<DeviceWindow>, E> {
    let mut spans = BTreeMap::<Span, Vec<(u64, u32, Counts)>>::new();
    for sealed in sealed {
        for (minute, counts) in sealed.minutes.iter() {
            let span = sealed.span(minute);
            spans.entry(span).or_default().push((sealed.below, minute % span.minutes(), counts));
        }
    }
    let mut windows = Vec::new();
    for (span, parts) in spans {
        let old = stored(span)?;
        let held = mutant!(SealedAddedTwice, 0, old.as_ref().map_or(0, |old| old.below));
        let new = parts.iter().filter(|(below, ..)| *below > held);
        let Some(below) = new.clone().map(|(below, ..)| *below).max() else { continue };
        let mut sum = BTreeMap::<u32, Counts>::new();
        let old = old.iter().flat_map(|old| old.minutes.iter());
        for (minute, counts) in old.chain(new.map(|(_, minute, counts)| (*minute, *counts))) {
            *sum.entry(minute).or_default() += counts;
        }
        let mut minutes = Minutes::default();
        sum.iter().for_each(|(minute, counts)| minutes.add(*minute, counts));
        windows.push(DeviceWindow { span, below, minutes });
    }
    Ok(windows)
}

impl Sealed {
    /// Seals counts at the end of the entry before `below`.
    pub fn new(below: u64, minutes: Minutes) -> Self {
        let touched = |length: u32| minutes.iter().map(|(at, _)| at / length).collect::<BTreeSet<_>>().len();
        let (hours, days) = (touched(HOUR_MINUTES), touched(DAY_MINUTES));
        let by_day = minutes.len() < HOUR_BYTES * hours && hours >= DAY_HOURS_MIN * days;
        Self { below, by_day, minutes }
    }

    /// To which window what it has of a minute belongs.
    fn span(&self, minute: u32) -> Span {
        if self.by_day { Span::Day(minute / DAY_MINUTES) } else { Span::Hour(minute / HOUR_MINUTES) }
    }
}

impl From<StoredSealed> for Sealed {
    fn from(StoredSealed { below, minutes }: StoredSealed) -> Self {
        Self { below: below & !BY_DAY, by_day: below & BY_DAY > 0, minutes }
    }
}

impl From<Sealed> for StoredSealed {
    fn from(Sealed { below, by_day, minutes }: Sealed) -> Self {
        Self { below: if by_day { below | BY_DAY } else { below }, minutes }
    }
}

/// Where the numbers of days begin.
const DAYS: u32 = 1 << 31;

impl Span {
    /// As stores have it in keys: the days of a device follow its hours.
    pub fn number(self) -> u32 {
        match self {
            Self::Hour(hour) => hour,
            Self::Day(day) => DAYS | day,
        }
    }

    /// What [`Span::number`] stands for.
    pub fn of_number(number: u32) -> Self {
        if number < DAYS { Self::Hour(number) } else { Self::Day(number ^ DAYS) }
    }

    /// The one that follows in keys.
    pub fn next(self) -> Self {
        Self::of_number(self.number().saturating_add(1))
    }

    /// The numbers of the windows in which these hours lie.
    pub(super) fn numbers(hours: &Range<u32>) -> [Range<u32>; 2] {
        let days = hours.start / DAY_HOURS..hours.end.div_ceil(DAY_HOURS);
        [hours.start..hours.end.min(DAYS), DAYS | days.start..DAYS | days.end]
    }

    /// Its first minute, in minutes since 1970.
    pub fn start(self) -> u32 {
        match self {
            Self::Hour(hour) => hour.saturating_mul(HOUR_MINUTES),
            Self::Day(day) => day.saturating_mul(DAY_MINUTES),
        }
    }

    fn minutes(self) -> u32 {
        match self {
            Self::Hour(_) => HOUR_MINUTES,
            Self::Day(_) => DAY_MINUTES,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = UnixMs(u64::from(self.start()) * 60_000).to_rfc3339();
        match self {
            Self::Hour(_) => write!(formatter, "the hour at {at}"),
            Self::Day(_) => write!(formatter, "the day at {at}"),
        }
    }
}

impl DeviceWindow {
    /// Its stored form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = postcard::to_allocvec(&self.below).expect("a number always serialises into memory");
        bytes.extend(self.minutes_to_bytes());
        bytes
    }

    /// The stored form of its minutes. Those of a day begin with what all samples have in common.
    pub(super) fn minutes_to_bytes(&self) -> Vec<u8> {
        if matches!(self.span, Span::Hour(_)) {
            return self.minutes.as_bytes().to_vec();
        }
        let common = Common::of(self.minutes.iter().map(|(_, counts)| counts));
        let mut minutes = Minutes::default();
        self.minutes.iter().for_each(|(minute, counts)| minutes.add(minute, &common.left_out(counts)));
        [&[common.bits()], minutes.as_bytes()].concat()
    }

    /// Reads what [`DeviceWindow::to_bytes`] wrote of this one; `None` when it is something else.
    pub(super) fn from_bytes(span: Span, bytes: &[u8]) -> Option<Self> {
        let (below, minutes) = postcard::take_from_bytes(bytes).ok()?;
        Self::new(span, below, minutes)
    }

    /// One that cannot be read, for [`moved`]: it stays as it is, and whoever asks for it hears of it. Nothing is added to it,
    /// so that one damaged row does not keep what all others have from being stored.
    pub(super) fn unreadable(span: Span) -> Self {
        Self { span, below: u64::MAX, minutes: Minutes::default() }
    }

    /// A window out of what [`DeviceWindow::minutes_to_bytes`] gave; `None` when it is something else.
    pub(super) fn new(span: Span, below: u64, bytes: &[u8]) -> Option<Self> {
        let minutes = match span {
            Span::Hour(_) => Minutes::from_bytes(bytes)?,
            Span::Day(_) => {
                let (common, bytes) = bytes.split_first()?;
                let common = Common::from_bits(*common)?;
                let mut minutes = Minutes::default();
                let stored = Minutes::from_bytes(bytes)?;
                stored.iter().for_each(|(minute, counts)| minutes.add(minute, &common.put_back(counts)));
                minutes
            }
        };
        let is_of_span = |minute| minute < span.minutes() && span.start().checked_add(minute).is_some();
        let is_sound = minutes.iter().all(|(minute, _)| is_of_span(minute));
        is_sound.then_some(Self { span, below, minutes })
    }
}

impl DeviceView {
    /// Was it written between the reading of the row and that of a window? It has to be read again.
    pub fn is_torn(&self) -> bool {
        let upto = self.row.as_ref().map_or(0, |row| row.upto);
        self.windows.iter().any(|window| window.below > upto)
    }

    /// All counts of the hours that were asked for, by minute; a minute may come several times. What lies in other hours
    /// comes in part.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row is none.
    pub fn minutes(&self) -> Result<Vec<(u32, Counts)>, StoreError> {
        let mut all = Vec::new();
        for window in &self.windows {
            let start = window.span.start();
            all.extend(window.minutes.iter().map(|(minute, counts)| (start + minute, counts)));
        }
        let Some(row) = &self.row else { return Ok(all) };
        let held = |span: Span| {
            let at = self.windows.binary_search_by_key(&span, |window| window.span);
            at.map_or(0, |at| self.windows[at].below)
        };
        for sealed in &row.sealed {
            let is_left = |minute: u32| held(sealed.span(minute)) < sealed.below;
            all.extend(sealed.minutes.iter().filter(|(minute, _)| is_left(*minute)));
        }
        let state = DeviceState::from_bytes(&row.state);
        let state = state.ok_or_else(|| StoreError::Corrupt(format!("the row of device {}", row.device)))?;
        all.extend(state.counts.iter());
        Ok(all)
    }

    /// The sum over `minutes`, whose hours were asked for.
    ///
    /// # Errors
    /// As [`DeviceView::minutes`].
    pub fn counts(&self, minutes: &Range<u32>) -> Result<Counts, StoreError> {
        let mut sum = Counts::default();
        self.minutes()?.iter().filter(|(at, _)| minutes.contains(at)).for_each(|(_, counts)| sum += *counts);
        Ok(sum)
    }

    /// The same in steps of so many minutes, which begin on multiples of it: the first holds what is taken from the start
    /// of `minutes` on, and the last what is taken before their end.
    ///
    /// # Errors
    /// As [`DeviceView::minutes`].
    pub fn series(&self, minutes: &Range<u32>, step: u32) -> Result<Vec<Counts>, StoreError> {
        let step = step.max(1);
        let first = minutes.start / step;
        let steps = if minutes.is_empty() { 0 } else { minutes.end.div_ceil(step) - first };
        let mut sums = vec![Counts::default(); steps as usize];
        for (minute, counts) in self.minutes()?.into_iter().filter(|(minute, _)| minutes.contains(minute)) {
            sums[(minute / step - first) as usize] += counts;
        }
        Ok(sums)
    }
}

/// The hours in which these minutes lie.
pub fn hours_of(minutes: &Range<u32>) -> Range<u32> {
    minutes.start / HOUR_MINUTES..minutes.end.div_ceil(HOUR_MINUTES)
}

#[cfg(test)]
mod tests;
