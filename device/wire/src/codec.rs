//! The payload, JSON of at most 256 bytes, and the time that a message spent in a broker.
//!
//! | field | what | absent |
//! | --- | --- | --- |
//! | `status` | 0 to 6 | refused |
//! | `seq`, `boot` | the sample's identity: a whole number, and 16 hexadecimal digits | both: a bare message |
//! | `age_ms` | how old the sample was when this copy was encoded | 0 |
//! | `up_ms` | what the device's clock said at that moment | nothing is known of the clock |
//! | `run` | 16 hexadecimal digits, drawn at each reset where the boot id goes on over resets | the boot is the run |
//! | `restored` | `true` where an earlier run took the sample, so that its age is a lower bound | `false` |
//!
//! Decoding is strict RFC 8259 with a name for every refusal, which is why it does not lean on a JSON
//! library: the `no_std` one skips unknown values without checking them and tells no reason that an
//! operator could act on. Unknown fields are checked and ignored. Field names are compared byte by byte,
//! so a name spelt with escapes is an unknown field.

use core::fmt;

use heapless::String;

use crate::reading::{BootId, Reading, RunId, SampleId, Sequence, Status, Taken};
use crate::scan::{BadJson, Number, Scanner, Value};
use crate::topic::TopicError;

/// The longest payload that is read, in bytes.
pub const PAYLOAD_MAX: usize = 256;

/// The longest payload that [`encode`] writes: every number at its widest.
pub const ENCODED_MAX: usize = concat!(
    r#"{"status":6,"seq":9007199254740991,"boot":"ffffffffffffffff","age_ms":2592000000,"#,
    r#""up_ms":18446744073709551615,"run":"ffffffffffffffff","restored":true}"#
)
.len();

const _: () = assert!(ENCODED_MAX <= PAYLOAD_MAX, "what is written must be read");

/// The Message Expiry Interval of every PUBLISH, in seconds: 30 days.
///
/// MQTT 5 (section 3.3.2.3.3) makes a broker hand it on less the time that the message waited in it, so
/// the host knows that time without any clock on the device.
pub const MESSAGE_EXPIRY_S: u32 = 30 * 24 * 60 * 60;

/// The retention horizon: an older sample is refused, in milliseconds.
pub const AGE_MAX_MS: u32 = MESSAGE_EXPIRY_S * 1000;

/// The largest `up_ms`: 285,000 years, as far as every JSON reader keeps integers exact (RFC 8259, section
/// 6), and far enough below 2⁶³ that neither a sum nor a difference of two times overflows.
pub const UP_MAX_MS: u64 = (1 << 53) - 1;

/// With less left of it than this, an expiry interval is taken for another client's, in seconds: one day. Clients
/// choose a minute, an hour, a day; a message of Rollcall's comes so late only on its last day.
pub const EXPIRY_LEFT_MIN_S: u32 = 24 * 60 * 60;

/// How long a message waited in brokers, in seconds, told by what is left of its expiry interval. A broker may round
/// up what it waited: 1 ms reads as 1 s.
///
/// A message without the property, or with a longer interval than Rollcall's, has waited 0. `None` when the interval
/// is not Rollcall's, so that nothing is known of the wait.
pub const fn waited_s(expiry_left_s: Option<u32>) -> Option<u32> {
    match expiry_left_s {
        Some(left) if left < EXPIRY_LEFT_MIN_S => None,
        Some(left) => Some(MESSAGE_EXPIRY_S.saturating_sub(left)),
        None => Some(0),
    }
}

/// Writes a reading's payload.
pub fn encode(reading: &Reading) -> String<ENCODED_MAX> {
    let mut json = String::new();
    // ENCODED_MAX has room for the widest of each number, so the write cannot fail.
    let _ = fmt::write(&mut json, format_args!("{}", Json(reading)));
    json
}

struct Json<'a>(&'a Reading);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { status, id, age_ms, up_ms, run, taken } = self.0;
        write!(f, r#"{{"status":{}"#, status.get())?;
        if let Some(SampleId { boot, seq }) = id {
            write!(f, r#","seq":{},"boot":"{boot}""#, seq.get())?;
        }
        write!(f, r#","age_ms":{age_ms}"#)?;
        if let Some(up_ms) = up_ms {
            write!(f, r#","up_ms":{up_ms}"#)?;
        }
        if let Some(run) = run {
            write!(f, r#","run":"{run}""#)?;
        }
        f.write_str(match taken {
            Taken::ThisRun => "}",
            Taken::EarlierRun => r#","restored":true}"#,
        })
    }
}

/// Reads a payload.
///
/// # Errors
/// A [`Rejection`] that names what is wrong; never a panic.
pub fn decode(payload: &[u8]) -> Result<Reading, Rejection> {
    if payload.len() > PAYLOAD_MAX {
        return Err(Rejection::TooLong);
    }
    if payload.is_empty() {
        return Err(Rejection::Empty);
    }
    let text = core::str::from_utf8(payload).map_err(|_| Rejection::NotUtf8)?;
    let mut fields = Fields::default();
    Scanner::new(text).object(|name, value| fields.set(name, value))?;
    fields.reading()
}

/// The known fields as they are met; the last check is for the whole.
#[derive(Default)]
struct Fields {
    status: Option<Status>,
    seq: Option<Sequence>,
    boot: Option<BootId>,
    age_ms: Option<u32>,
    up_ms: Option<u64>,
    run: Option<RunId>,
    taken: Option<Taken>,
}

impl Fields {
    fn set(&mut self, name: &str, value: Value<'_>) -> Result<(), Rejection> {
        match name {
            "status" => set_once(&mut self.status, status(value)?),
            "seq" => set_once(&mut self.seq, sequence(value)?),
            "boot" => set_once(&mut self.boot, boot(value)?),
            "age_ms" => set_once(&mut self.age_ms, age_ms(value)?),
            "up_ms" => set_once(&mut self.up_ms, up_ms(value)?),
            "run" => set_once(&mut self.run, run(value)?),
            "restored" => set_once(&mut self.taken, taken(value)?),
            _ => Ok(()),
        }
    }

    fn reading(self) -> Result<Reading, Rejection> {
        let Self { status, seq, boot, age_ms, up_ms, run, taken } = self;
        let id = match (boot, seq) {
            (Some(boot), Some(seq)) => Some(SampleId { boot, seq }),
            (None, None) => None,
            _ => return Err(Rejection::IncompleteIdentity),
        };
        let status = status.ok_or(Rejection::MissingStatus)?;
        let (age_ms, taken) = (age_ms.unwrap_or(0), taken.unwrap_or(Taken::ThisRun));
        Ok(Reading { status, id, age_ms, up_ms, run, taken })
    }
}

pub(crate) fn set_once<T>(field: &mut Option<T>, value: T) -> Result<(), Rejection> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Rejection::DuplicateField),
    }
}

fn status(value: Value<'_>) -> Result<Status, Rejection> {
    match value {
        Value::Number(Number::Unsigned(number)) => u8::try_from(number).ok().and_then(Status::new),
        Value::Number(Number::Negative | Number::Huge) => None,
        _ => return Err(Rejection::StatusNotAnInteger),
    }
    .ok_or(Rejection::StatusOutOfRange)
}

fn sequence(value: Value<'_>) -> Result<Sequence, Rejection> {
    match value {
        Value::Number(Number::Unsigned(number)) => Sequence::new(number),
        _ => None,
    }
    .ok_or(Rejection::BadSeq)
}

pub(crate) fn boot(value: Value<'_>) -> Result<BootId, Rejection> {
    match value {
        Value::String(text) => BootId::parse(text),
        _ => None,
    }
    .ok_or(Rejection::BadBoot)
}

fn age_ms(value: Value<'_>) -> Result<u32, Rejection> {
    match value {
        Value::Number(Number::Unsigned(age)) if age <= u64::from(AGE_MAX_MS) => Ok(age as u32),
        Value::Number(Number::Unsigned(_) | Number::Huge) => Err(Rejection::AgeBeyondHorizon),
        Value::Number(Number::Negative) => Err(Rejection::NegativeAge),
        _ => Err(Rejection::BadAge),
    }
}

fn up_ms(value: Value<'_>) -> Result<u64, Rejection> {
    match value {
        Value::Number(Number::Unsigned(up_ms)) if up_ms <= UP_MAX_MS => Ok(up_ms),
        _ => Err(Rejection::BadUptime),
    }
}

pub(crate) fn run(value: Value<'_>) -> Result<RunId, Rejection> {
    match value {
        Value::String(text) => RunId::parse(text),
        _ => None,
    }
    .ok_or(Rejection::BadRun)
}

fn taken(value: Value<'_>) -> Result<Taken, Rejection> {
    match value {
        Value::Bool(false) => Ok(Taken::ThisRun),
        Value::Bool(true) => Ok(Taken::EarlierRun),
        _ => Err(Rejection::BadRestored),
    }
}

macro_rules! rejections {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a message is not counted. Each has a name, under which the host counts it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rejection {
            $($(#[$doc])* $variant,)*
        }

        impl Rejection {
            /// Every rejection, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in logs and counters.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

rejections! {
    /// Longer than [`PAYLOAD_MAX`].
    TooLong => "too_long",
    /// No payload at all.
    Empty => "empty",
    /// The payload is not UTF-8.
    NotUtf8 => "not_utf8",
    /// Not one JSON object (RFC 8259).
    BadJson => "bad_json",
    /// A known field is there twice.
    DuplicateField => "duplicate_field",
    /// There is no `status`.
    MissingStatus => "missing_status",
    /// `status` is not a whole number written as one: 3.0 and "3" are not.
    StatusNotAnInteger => "status_not_an_integer",
    /// `status` is a whole number, but not 0 to 6.
    StatusOutOfRange => "status_out_of_range",
    /// One of `boot` and `seq` without the other.
    IncompleteIdentity => "incomplete_identity",
    /// `seq` is not a whole number from 0 to 2⁵³ − 1.
    BadSeq => "bad_seq",
    /// `boot` is not 16 hexadecimal digits in lower case.
    BadBoot => "bad_boot",
    /// `age_ms` is not a whole number.
    BadAge => "bad_age",
    /// `age_ms` is negative: the sample would be of the future.
    NegativeAge => "negative_age",
    /// `age_ms`, or it and the time in a broker together, is above [`AGE_MAX_MS`].
    AgeBeyondHorizon => "age_beyond_horizon",
    /// `up_ms` is not a whole number from 0 to [`UP_MAX_MS`].
    BadUptime => "bad_uptime",
    /// `run` is not 16 hexadecimal digits in lower case.
    BadRun => "bad_run",
    /// `restored` is neither `true` nor `false`.
    BadRestored => "bad_restored",
    /// The topic is none of Rollcall's.
    BadTopic => "bad_topic",
    /// The topic's device level is not a device id.
    BadDevice => "bad_device",
    /// The topic's slot is not that of the device.
    WrongSlot => "wrong_slot",
    /// A status was published with the retain flag: a broker would deliver it again to each new subscriber.
    Retained => "retained",
    /// The host can prove the sample neither new nor counted: its boot, or its place in it, is closed.
    CannotTell => "cannot_tell",
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Rejection {}

impl From<BadJson> for Rejection {
    fn from(_: BadJson) -> Self {
        Self::BadJson
    }
}

impl From<TopicError> for Rejection {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Foreign => Self::BadTopic,
            TopicError::BadDevice => Self::BadDevice,
            TopicError::WrongSlot => Self::WrongSlot,
        }
    }
}
