//! The words that every part of the host speaks: messages, records, counts and instants. It knows none of
//! the parts.

mod clock;
mod counts;
mod instant;
mod message;
mod mutant;
mod record;

pub use self::clock::Clock;
pub use self::counts::{BySecond, Counts, sum};
pub use self::instant::{Moment, UnixMs, parse_rfc3339_second};
pub use self::message::{Ack, Incoming, Message, Retain, Sender, Verdict};
#[cfg(feature = "mutants")]
pub use self::mutant::Mutant;
pub(crate) use self::mutant::mutant;
pub use self::record::{Entry, Record, RecordKind, TimeError};
