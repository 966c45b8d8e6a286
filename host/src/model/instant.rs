//! The host's clock and its text forms. Functions that judge time take it as an argument; only the edges
//! of the program (sources, API) ask for [`UnixMs::now`] or [`Moment::now`], or hand a [`super::Clock`] on.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds (POSIX time).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// The system's clock; a clock before 1970 reads as 1970.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The second that holds this instant.
    pub const fn second(self) -> u64 {
        self.0 / 1000
    }

    /// RFC 3339 in UTC with milliseconds, as `2026-01-31T12:00:00.250Z`.
    pub fn to_rfc3339(self) -> String {
        let whole =
            i64::try_from(self.second()).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        let mut text = whole.and_then(|whole| whole.format(&Rfc3339).ok()).unwrap_or_default();
        text.truncate(text.trim_end_matches('Z').len());
        let _ = write!(text, ".{:03}Z", self.0 % 1000);
        text
    }

    /// Reads RFC 3339 with an offset; what is finer than a millisecond is dropped. `None` when it is no such instant, or lies
    /// before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(instant.unix_timestamp_nanos().div_euclid(1_000_000)).ok().map(Self)
    }
}

/// A moment by both clocks of the host: the one that people set, and the one that nobody sets.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the system's clock.
    pub at: UnixMs,
    /// By the monotonic clock.
    pub instant: Instant,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { at: UnixMs::now(), instant: Instant::now() }
    }
}

/// The second, in Unix time, that holds an RFC 3339 instant with an offset.
///
/// `None` when it is no such instant, or lies before 1970.
pub fn parse_rfc3339_second(text: &str) -> Option<u64> {
    UnixMs::parse_rfc3339(text).map(UnixMs::second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_with_milliseconds_and_z() {
        assert_eq!(UnixMs(1_721_433_676_007).to_rfc3339(), "2024-07-20T00:01:16.007Z");
    }

    #[test]
    fn an_offset_is_taken_into_account() {
        assert_eq!(parse_rfc3339_second("2024-07-20T02:01:16+02:00"), Some(1_721_433_676));
        assert_eq!(parse_rfc3339_second("2024-07-20T00:01:16Z"), Some(1_721_433_676));
    }

    #[test]
    fn a_fraction_of_a_second_is_rounded_down() {
        for text in ["2024-07-20T00:01:16.000Z", "2024-07-20T00:01:16.5Z", "2024-07-20T00:01:16.999999999Z"] {
            assert_eq!(parse_rfc3339_second(text), Some(1_721_433_676), "{text}");
        }
    }

    #[test]
    fn an_instant_without_an_offset_or_before_1970_is_refused() {
        for text in
            ["2024-07-20T00:01:16", "2024-07-20", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.5Z", "16.5Z"]
        {
            assert_eq!(parse_rfc3339_second(text), None, "{text}");
        }
    }
}
