//! What is kept of each device: which of its samples are in the log, boot by boot, and when it was heard last.
//!
//! A row is a pure function of its slot's log below its `upto`. How it grows is `intake/seen.rs`; here is what
//! it holds, and within which bounds; how a row's state is written is in `row/stored.rs`.

mod stored;

use std::collections::{BTreeMap, VecDeque};

use rollcall_wire::{BootId, DeviceId, Sequence, Status};
use serde::{Deserialize, Serialize};

pub use self::stored::first_boot;
use super::devices::Sealed;
use super::minutes::Minutes;
use crate::model::UnixMs;

/// How many boots of a device can get samples. A new boot is always taken: the one that was silent longest is
/// closed for it.
pub const OPEN_BOOTS_MAX: usize = 16;

/// How many closed boots of a device are known by their id. Past it, the one that was closed first is
/// forgotten.
pub const CLOSED_BOOTS_MAX: usize = 65_536;

/// How many ranges a boot may have: as many gaps, less one, can still be filled. Past it the oldest gap is
/// closed for good, and what lies below its end is not known. A broker delivers 2,000 messages at once, so
/// that in the worst order they make a thousand ranges for a moment.
pub const RANGES_MAX: usize = 1024;

/// A row as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose it is.
    pub device: DeviceId,
    /// The entries of the device's slot below this number are in it.
    pub upto: u64,
    /// [`DeviceState::to_bytes`].
    pub state: Vec<u8>,
    /// What it has counted and sealed that may not be in its windows, in the order in which it was sealed.
    pub sealed: Vec<Sealed>,
    /// [`ClosedBoots::to_bytes`]; when written, `None` leaves what is stored, and when read, there is none.
    pub closed: Option<Vec<u8>>,
}

/// What a row holds beside its closed boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// When its first message was received.
    pub first_seen: UnixMs,
    /// When its last message was received.
    pub last_seen: UnixMs,
    /// When the sample was taken that was taken last, and which status it had; `None` if none was counted.
    #[serde(with = "last_sample")]
    pub last_sample: Option<(UnixMs, Status)>,
    /// How many of its records are undecided.
    pub undecided: u64,
    /// Of what is missing from before this instant, not all is known: boots were closed or forgotten that had samples until
    /// then, or the oldest gap of a boot that had too many ended then. `None` when nothing was.
    pub known_from: Option<UnixMs>,
    /// The boots that can get samples; that of the last sample stands last.
    pub boots: Vec<Boot>,
    /// What is counted of it and not sealed yet.
    pub counts: Minutes,
}

/// The samples of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Which one.
    #[serde(with = "boot_id")]
    pub id: BootId,
    /// Of sequences below this one nothing is known, except for those in `ranges`.
    pub open_from: u64,
    /// The log time of its last sample.
    pub last_logged: UnixMs,
    /// In order, with a gap between any two; at least one.
    pub ranges: Vec<SeqRange>,
}

/// Sequences without a gap, all of which are in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeqRange {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// When the first was sampled.
    pub first_at: UnixMs,
    /// When the last was sampled.
    pub last_at: UnixMs,
}

/// The boots of a device that can get no more samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClosedBoots {
    /// The one that was closed first stands first; each with the log time of its last sample.
    order: VecDeque<(BootId, UnixMs)>,
    /// How often each stands in `order`: a boot that was forgotten may come again.
    ids: BTreeMap<u64, u32>,
}

impl DeviceState {
    /// Is it a state that the log can lead to? Bytes that were damaged are none.
    fn is_sound(&self) -> bool {
        let sound = |boot: &Boot| {
            (1..=RANGES_MAX).contains(&boot.ranges.len())
                && boot.ranges.iter().all(|range| range.first <= range.last)
                && boot.ranges.iter().all(|range| range.last <= Sequence::MAX.get())
                && boot.ranges.windows(2).all(|two| two[0].last + 1 < two[1].first)
        };
        self.boots.len() <= OPEN_BOOTS_MAX && self.boots.iter().all(sound)
    }
}

impl Boot {
    /// When its last sample was taken, as far as is known from the ends of its ranges.
    pub fn last_at(&self) -> Option<UnixMs> {
        self.ranges.iter().map(|range| range.first_at.max(range.last_at)).max()
    }
}

impl ClosedBoots {
    /// Is this boot closed?
    pub fn contains(&self, boot: BootId) -> bool {
        self.ids.contains_key(&boot.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Closes a boot whose last sample has the log time `last_logged`.
    pub fn push(&mut self, boot: BootId, last_logged: UnixMs) {
        if self.order.len() == CLOSED_BOOTS_MAX {
            self.pop_front();
        }
        self.order.push_back((boot, last_logged));
        *self.ids.entry(boot.0).or_default() += 1;
    }

    /// Forgets the boots in front whose last sample is older than `before`.
    pub fn forget(&mut self, before: UnixMs) {
        while self.order.front().is_some_and(|(_, last_logged)| *last_logged < before) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        let Some((boot, _)) = self.order.pop_front() else { return };
        let count = self.ids.get_mut(&boot.0).expect("every boot in order has its count");
        *count -= 1;
        if *count == 0 {
            self.ids.remove(&boot.0);
        }
    }

    /// Its stored form (postcard).
    pub fn to_bytes(&self) -> Vec<u8> {
        let order: Vec<_> = self.order.iter().map(|(boot, at)| (boot.0.to_le_bytes(), *at)).collect();
        postcard::to_allocvec(&order).expect("plain data always serialises into memory")
    }

    /// Reads what [`ClosedBoots::to_bytes`] wrote; `None` when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (order, rest): (Vec<([u8; 8], UnixMs)>, _) = postcard::take_from_bytes(bytes).ok()?;
        if !rest.is_empty() || order.len() > CLOSED_BOOTS_MAX {
            return None;
        }
        let order: VecDeque<_> =
            order.into_iter().map(|(boot, at)| (BootId(u64::from_le_bytes(boot)), at)).collect();
        let mut ids = BTreeMap::<u64, u32>::new();
        order.iter().for_each(|(boot, _)| *ids.entry(boot.0).or_default() += 1);
        Some(Self { order, ids })
    }
}

/// A boot's id as eight bytes: its bits are random, and a varint would take ten.
mod boot_id {
    use rollcall_wire::BootId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &BootId, serializer: S) -> Result<S::Ok, S::Error> {
        id.0.to_le_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BootId, D::Error> {
        <[u8; 8]>::deserialize(deserializer).map(|bytes| BootId(u64::from_le_bytes(bytes)))
    }
}

/// A status as its number.
mod last_sample {
    use rollcall_wire::Status;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::UnixMs;

    type Sample = Option<(UnixMs, Status)>;

    pub(super) fn serialize<S: Serializer>(sample: &Sample, serializer: S) -> Result<S::Ok, S::Error> {
        sample.map(|(at, status)| (at, status.get())).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sample, D::Error> {
        let Some((at, status)) = <Option<(UnixMs, u8)>>::deserialize(deserializer)? else { return Ok(None) };
        let status = Status::new(status).ok_or_else(|| D::Error::custom("not a status"))?;
        Ok(Some((at, status)))
    }
}
