//! The values on the wire, each checked where it is made: a value of these types is valid.

use core::fmt;
use core::hash::{Hash, Hasher};

/// The longest device id, in bytes.
pub const DEVICE_ID_MAX: usize = 32;

/// Names one device of a fleet: 1 to 32 of `a-z 0-9 - _`.
///
/// Not a dot, because RabbitMQ turns `.` into `/` inside a topic and the message then misses its
/// subscriber; no `/ + #`, which have a meaning in MQTT topics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId {
    bytes: [u8; DEVICE_ID_MAX],
    len: u8,
}

impl DeviceId {
    /// Checks `id`. It is `const`, so that firmware can refuse a bad id when it is compiled.
    ///
    /// # Errors
    /// [`InvalidDeviceId`] when `id` is empty, longer than [`DEVICE_ID_MAX`] or holds another character.
    pub const fn new(id: &str) -> Result<Self, InvalidDeviceId> {
        let id = id.as_bytes();
        if id.is_empty() || id.len() > DEVICE_ID_MAX {
            return Err(InvalidDeviceId);
        }
        let mut bytes = [0; DEVICE_ID_MAX];
        let mut at = 0;
        while at < id.len() {
            if !matches!(id[at], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') {
                return Err(InvalidDeviceId);
            }
            bytes[at] = id[at];
            at += 1;
        }
        Ok(Self { bytes, len: id.len() as u8 })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII passes `new`, so the fallback is never taken.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Hash for DeviceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({self})")
    }
}

impl core::str::FromStr for DeviceId {
    type Err = InvalidDeviceId;

    fn from_str(id: &str) -> Result<Self, InvalidDeviceId> {
        Self::new(id)
    }
}

/// A device id that is empty, too long or holds a character other than `a-z 0-9 - _`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDeviceId;

impl fmt::Display for InvalidDeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a device id is 1 to 32 characters of a-z, 0-9, - and _")
    }
}

impl core::error::Error for InvalidDeviceId {}

/// 64 random bits that a device draws at each boot; sequences count within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u64);

impl BootId {
    /// Reads the wire form: exactly 16 hexadecimal digits, lower case.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// 64 random bits that a device draws at each reset when its boot id goes on over resets.
///
/// The device's clock is one clock within a run; how it stands to that of another run nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

impl RunId {
    /// Reads the wire form, that of a [`BootId`].
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        BootId(self.0).fmt(f)
    }
}

/// Exactly 16 hexadecimal digits, lower case.
fn parse_hex(text: &str) -> Option<u64> {
    let is_lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 16 || !text.bytes().all(is_lower_hex) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// The number of a sample within its boot: 0, 1, 2, … up to [`Sequence::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// 2⁵³ − 1, the largest integer that every JSON reader keeps exact (RFC 8259, section 6).
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The first sample of a boot.
    pub const ZERO: Self = Self(0);

    /// `None` above [`Sequence::MAX`].
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next sample's. Stays at [`Sequence::MAX`], which takes 285,000 years at 1,000 samples a second.
    pub const fn next(self) -> Self {
        if self.0 < Self::MAX.0 { Self(self.0 + 1) } else { self }
    }
}

/// What a device says of itself: 0 to 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u8);

impl Status {
    /// How many statuses there are.
    pub const COUNT: usize = 7;

    /// `None` above 6.
    pub const fn new(value: u8) -> Option<Self> {
        if (value as usize) < Self::COUNT { Some(Self(value)) } else { None }
    }

    /// 0 to 6.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// 0 to 6, to index an array of [`Status::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What makes a sample unique within its device: it is counted once, however often it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId {
    /// The boot that took it.
    pub boot: BootId,
    /// Its number within the boot.
    pub seq: Sequence,
}

/// In which run a sample was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Taken {
    /// In the run that sends it: its age is exact.
    #[default]
    ThisRun,
    /// In an earlier one, and restored from flash: its age lacks the time for which the power was off, which
    /// nobody knows.
    EarlierRun,
}

/// One message's payload.
///
/// `up_ms`, `run` and `taken` tell the host how the device's clock stands to its own; that takes the boot
/// of `id`, so in a bare message they are checked and mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The status that was sampled.
    pub status: Status,
    /// `None` for a bare `{"status":3}`, which is counted as often as it arrives.
    pub id: Option<SampleId>,
    /// How long before *this copy was encoded* the sample was taken, in milliseconds;
    /// at most [`crate::codec::AGE_MAX_MS`].
    pub age_ms: u32,
    /// What the device's clock said when *this copy was encoded*, in milliseconds; at most
    /// [`crate::codec::UP_MAX_MS`]. It goes on within a run and never wraps, so that less `age_ms` it is
    /// when the sample was taken: the same in each copy. `None` where a client does not say.
    pub up_ms: Option<u64>,
    /// Whose clock `up_ms` is read from; `None` where each reset begins a boot of its own.
    pub run: Option<RunId>,
    /// Whether `age_ms` is known exactly.
    pub taken: Taken,
}
