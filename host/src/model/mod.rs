//! The words that every part of the host speaks: messages, records, counts and instants. It knows none of
//! the parts.

mod clock;
mod counts;
mod instant;
mod line;
mod message;
mod record;
mod statuses;

pub use self::clock::Clock;
pub use self::counts::{BySecond, Counts, sum};
pub use self::instant::{Moment, UnixMs, parse_rfc3339_second};
pub use self::line::{End, HEAD, LINE_MAX, Line, LineError};
pub use self::message::{Ack, Incoming, Message, Retain, Sender, Verdict};
pub use self::record::{Entry, LATE_MS, Record, RecordKind, TimeError, WriterId, hashed_id};
pub use self::statuses::{Level, Meaning, Statuses};
