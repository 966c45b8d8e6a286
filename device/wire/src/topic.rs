//! Topics and the slot in them: `rollcall/<slot>/<device>/status` and `…/presence`.
//!
//! The slot is the partition: all messages of one device meet in one log, so that deduplication has one
//! owner and several workers share a fleet by subscribing to disjoint slots.

use core::fmt;

use heapless::String;

use crate::reading::{DEVICE_ID_MAX, DeviceId};

/// The first level of every topic.
pub const PREFIX: &str = "rollcall";

/// The longest topic, in bytes: `rollcall/f/` + the id + `/presence`.
pub const TOPIC_MAX: usize = PREFIX.len() + 3 + DEVICE_ID_MAX + "/presence".len();

/// The partition of a device: 0 to 15, one hexadecimal digit in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// How many slots there are.
    pub const COUNT: usize = 16;

    /// The slot of `device`: 32-bit FNV-1a of its id, modulo 16.
    ///
    /// Offset basis and prime are those of draft-eastlake-fnv, section 5 (32 bits).
    pub fn of(device: &DeviceId) -> Self {
        let hash = device
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self((hash % Self::COUNT as u32) as u8)
    }

    /// `None` above 15.
    pub const fn new(index: u8) -> Option<Self> {
        if (index as usize) < Self::COUNT { Some(Self(index)) } else { None }
    }

    /// 0 to 15, to index an array of [`Slot::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All slots, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    fn digit(self) -> &'static str {
        let at = self.index();
        &"0123456789abcdef"[at..=at]
    }

    fn parse(level: &str) -> Option<Self> {
        match level.as_bytes() {
            [digit @ b'0'..=b'9'] => Some(Self(digit - b'0')),
            [digit @ b'a'..=b'f'] => Some(Self(digit - b'a' + 10)),
            _ => None,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digit())
    }
}

/// What a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Readings.
    Status,
    /// An [`Announcement`](crate::Announcement), retained; that it is offline is also the last will.
    Presence,
}

impl Kind {
    const fn level(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Presence => "presence",
        }
    }
}

/// A topic of one device, whose slot is that of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Who publishes to it.
    pub device: DeviceId,
    /// What it carries.
    pub kind: Kind,
}

impl Topic {
    /// Reads a topic name as it arrived.
    ///
    /// # Errors
    /// [`TopicError`] says which part is not Rollcall's.
    pub fn parse(name: &str) -> Result<Self, TopicError> {
        let mut levels = name.split('/');
        let mut level = || levels.next().unwrap_or_default();
        if level() != PREFIX {
            return Err(TopicError::Foreign);
        }
        let (slot, device, kind) = (level(), level(), level());
        if levels.next().is_some() {
            return Err(TopicError::Foreign);
        }
        let kind = match kind {
            "status" => Kind::Status,
            "presence" => Kind::Presence,
            _ => return Err(TopicError::Foreign),
        };
        let device = DeviceId::new(device).map_err(|_| TopicError::BadDevice)?;
        if Slot::parse(slot) != Some(Slot::of(&device)) {
            return Err(TopicError::WrongSlot);
        }
        Ok(Self { device, kind })
    }

    fn parts(&self) -> [&str; 7] {
        [PREFIX, "/", Slot::of(&self.device).digit(), "/", self.device.as_str(), "/", self.kind.level()]
    }

    /// The topic's name on the wire.
    pub fn name(&self) -> String<TOPIC_MAX> {
        let mut name = String::new();
        for part in self.parts() {
            // TOPIC_MAX is the longest name, so there is room.
            let _ = name.push_str(part);
        }
        name
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().into_iter().try_for_each(|part| f.write_str(part))
    }
}

/// Why a topic is not one of Rollcall's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// Not `rollcall/<slot>/<device>/status` or `…/presence` at all.
    Foreign,
    /// The device level is not a [`DeviceId`].
    BadDevice,
    /// The slot level is not that of the device.
    WrongSlot,
}
