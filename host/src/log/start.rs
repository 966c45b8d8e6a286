//! Where a log starts, once its first messages were removed, and which days are not all in it any more.
//!
//! What was made from messages stays when they go: windows and rows. It cannot be made again from what is left, so it is
//! known, to the day, of which samples messages were removed. Most were sampled before one instant, the horizon; a clock
//! that was wrong, or an import, makes single days after it, which are listed.

use std::ops::Range;

use rollcall_wire::{DeviceId, SampleId, Slot};
use serde::{Deserialize, Serialize};

use super::key;
use super::rollup::{CHUNK_ENTRIES, Resolution};
use crate::model::{Entry, RecordKind, UnixMs};

/// How many days after the horizon are listed. Past it, the horizon moves beyond the first of them.
pub const LATER_DAYS_MAX: usize = 128;

const DAY_S: u64 = Resolution::Day.seconds();

/// The start of a slot's log; that of a log of which nothing was removed is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The number of the first entry that is left.
    pub first: u64,
    /// Of days before this Unix second, the first one of a day, messages may have been removed.
    horizon: u64,
    /// The days from the horizon on of which some were, by their first seconds, in order.
    later: Vec<u64>,
}

/// Where every log starts.
pub type Starts = [Start; Slot::COUNT];

/// What identifies a document that was imported.
pub type Identity = (DeviceId, SampleId);

/// A log is to start later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Whose log.
    pub slot: Slot,
    /// Where it starts until then: somebody else may cut it too.
    pub from: u64,
    /// Where it will start, at an entry below both checkpoints.
    pub start: Start,
    /// The identities of imported documents that go, which only the log had.
    pub imported: Vec<Identity>,
}

impl Start {
    /// May messages that were sampled in this Unix second have been removed?
    pub fn lacks(&self, second: u64) -> bool {
        second < self.horizon || self.later.binary_search(&Resolution::Day.window_start(second)).is_ok()
    }

    /// The same of one of these seconds.
    pub fn lacks_any(&self, seconds: &Range<u64>) -> bool {
        let lies_in = |day: &u64| *day < seconds.end && seconds.start < day.saturating_add(DAY_S);
        !seconds.is_empty() && (seconds.start < self.horizon || self.later.iter().any(lies_in))
    }

    /// The first second of those before `end` from which on, up to it, no message was removed.
    pub fn complete_from(&self, end: u64) -> u64 {
        let later = self.later.iter().rev().find(|day| **day < end);
        later.map_or(self.horizon, |day| day.saturating_add(DAY_S))
    }

    /// The start that a store has kept; `None` when it is none.
    pub fn restored(first: u64, horizon: u64, later: Vec<u64>) -> Option<Self> {
        let sound = first.is_multiple_of(CHUNK_ENTRIES)
            && first < key::NUMBERS
            && horizon.is_multiple_of(DAY_S)
            && later.len() <= LATER_DAYS_MAX
            && later.iter().all(|day| day.is_multiple_of(DAY_S) && *day >= horizon)
            && later.is_sorted_by(|one, next| one < next);
        sound.then_some(Self { first, horizon, later })
    }

    /// The horizon, and the days after it, as [`Start::restored`] takes them.
    pub fn days(&self) -> (u64, &[u64]) {
        (self.horizon, &self.later)
    }

    /// The entry goes, which is the first that is left, and was received before `before` as all that go do: days up to it
    /// are what is ordinary.
    pub fn remove(&mut self, entry: &Entry, before: UnixMs) {
        self.first = entry.number + 1;
        for record in &entry.records {
            let day = Resolution::Day.window_start(record.sampled_at.second());
            if day < self.horizon {
                continue;
            }
            if day <= before.second() {
                self.move_horizon(day.saturating_add(DAY_S));
            } else if let Err(at) = self.later.binary_search(&day) {
                self.later.insert(at, day);
                if self.later.len() > LATER_DAYS_MAX {
                    self.move_horizon(self.later[0].saturating_add(DAY_S));
                }
            }
        }
    }

    fn move_horizon(&mut self, to: u64) {
        self.horizon = to;
        self.later.retain(|day| *day >= to);
    }
}

/// The Unix second from which on no message of any log was removed, but those of single days.
pub fn horizon<'a>(starts: impl IntoIterator<Item = &'a Start>) -> u64 {
    starts.into_iter().map(|start| start.horizon).max().unwrap_or_default()
}

/// The identities that only this entry has of documents.
pub fn identities(entry: &Entry) -> impl Iterator<Item = Identity> {
    let imported = entry.records.iter().filter(|record| record.kind == RecordKind::Imported);
    imported.filter_map(|record| Some((record.device, record.id?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Record, TimeError, WriterId};
    use rollcall_wire::Status;

    fn entry(number: u64, days: &[u64]) -> Entry {
        let at = UnixMs(0);
        let record = |day: &u64| Record {
            device: DeviceId::new("d").unwrap(),
            id: None,
            status: Status::new(3).unwrap(),
            kind: RecordKind::Sample,
            sampled_at: UnixMs((day * DAY_S + 77) * 1000),
            time_error: TimeError::Exact,
            received_at: at,
        };
        let (writer, records) = (WriterId::NOBODY, days.iter().map(record).collect());
        Entry { slot: Slot::new(3).unwrap(), number, writer, received_at: at, log_time: at, records }
    }

    #[test]
    fn a_message_far_ahead_of_the_others_spoils_its_own_day_only() {
        let before = UnixMs(100 * DAY_S * 1000);
        let mut start = Start::default();
        start.remove(&entry(0, &[3, 90, 20_000, 7, 200]), before);
        assert_eq!((start.first, start.days()), (1, (91 * DAY_S, &[200 * DAY_S, 20_000 * DAY_S][..])));
        assert!(start.lacks(0) && start.lacks(91 * DAY_S - 1) && start.lacks(200 * DAY_S + 5));
        assert!(!start.lacks(91 * DAY_S) && !start.lacks(199 * DAY_S) && !start.lacks(201 * DAY_S));
        assert_eq!(start.complete_from(u64::MAX), 20_001 * DAY_S);
        assert_eq!(start.complete_from(300 * DAY_S), 201 * DAY_S);
        assert_eq!(start.complete_from(200 * DAY_S), 91 * DAY_S);
        let lacks_any = |range: Range<u64>| start.lacks_any(&(range.start * DAY_S..range.end * DAY_S + 1));
        assert!(lacks_any(0..1) && lacks_any(92..200) && lacks_any(200..200) && lacks_any(90..300));
        assert!(!lacks_any(91..199) && !lacks_any(201..1_000) && !start.lacks_any(&(5..5)));
        start.remove(&entry(1, &[201]), UnixMs(300 * DAY_S * 1000));
        assert_eq!(start.days(), (202 * DAY_S, &[20_000 * DAY_S][..]));
        start.first = 64;
        let (horizon, later) = start.days();
        assert_eq!(Start::restored(64, horizon, later.to_vec()), Some(start.clone()));
        assert_eq!(Start::restored(65, horizon, later.to_vec()), None);
        assert_eq!(Start::restored(1 << 40, horizon, later.to_vec()), None);
        assert_eq!(Start::restored(64, horizon + 1, later.to_vec()), None);
        assert_eq!(Start::restored(64, horizon, vec![horizon + DAY_S, horizon]), None);
    }

    #[test]
    fn the_list_of_days_is_bounded_and_no_day_is_left_out() {
        let mut start = Start::default();
        let days: Vec<_> = (0..LATER_DAYS_MAX as u64 + 40).map(|nth| 1_000 + 2 * nth).collect();
        start.remove(&entry(0, &days), UnixMs(0));
        assert!(start.days().1.len() <= LATER_DAYS_MAX);
        assert!(days.iter().all(|day| start.lacks(day * DAY_S)));
        assert!(!start.lacks((days[days.len() - 1] - 1) * DAY_S));
    }
}
