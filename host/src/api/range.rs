//! `start=S&end=E`: a range of whole seconds, [start, end).

use std::ops::Range;

use percent_encoding::percent_decode_str;
use rollcall_wire::DeviceId;

use super::error::Problem;
use crate::log::rollup::Resolution;
use crate::model::parse_rfc3339_second;

/// The end of the year 9999, the last that RFC 3339 can write, in Unix seconds.
pub(super) const SECOND_MAX: u64 = 253_402_300_800;

/// The seconds of a minute.
pub(super) const MINUTE_S: u64 = Resolution::Minute.seconds();

/// The parameter that may be given several times.
const DEVICE: &str = "device";

/// What a request asks for: each parameter once but `device`, and none that is not known.
pub(super) struct Parameters {
    given: Vec<(&'static str, String)>,
}

impl Parameters {
    /// Reads `name=value` pairs, of which these names are known.
    ///
    /// # Errors
    /// The [`Problem`] names the parameter; any text is read or refused, never a panic.
    pub(super) fn parse(query: &str, known: &[&'static str]) -> Result<Self, Problem> {
        let mut given = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, name)?;
            let value = decoded(&name, value)?;
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(Problem::bad_parameter(&name, format!("only {} are known", list(known))));
            };
            if *name != DEVICE && given.iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::bad_parameter(name, format!("{name} is given more than once")));
            }
            given.push((*name, value));
        }
        Ok(Self { given })
    }

    /// The value of a parameter, if it is given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// One of a few words, and what it stands for.
    ///
    /// # Errors
    /// The [`Problem`] names the words.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some(given) = self.get(name) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == given);
        let problem = || {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Problem::bad_parameter(name, format!("{name} can be {}", list(&words)))
        };
        found.map(|(_, value)| Some(*value)).ok_or_else(problem)
    }

    /// `device=ID`, as often as it is given, in this order.
    ///
    /// # Errors
    /// The [`Problem`] names what is no device, and a device that is given twice.
    pub(super) fn devices(&self) -> Result<Vec<DeviceId>, Problem> {
        let mut devices = Vec::new();
        for (_, id) in self.given.iter().filter(|(name, _)| *name == DEVICE) {
            let device = DeviceId::new(id);
            let device =
                device.map_err(|error| Problem::bad_parameter(DEVICE, format!("{id:?}: {error}")))?;
            if devices.contains(&device) {
                return Err(Problem::bad_parameter(DEVICE, format!("{id} is given more than once")));
            }
            devices.push(device);
        }
        Ok(devices)
    }

    /// `start=S&end=E` in minutes since 1970: devices are counted by minute.
    ///
    /// # Errors
    /// As [`Parameters::range`]; and the [`Problem`] names the nearest minutes.
    pub(super) fn minutes(&self) -> Result<Range<u32>, Problem> {
        let range = self.range()?;
        let minute = |name, second: u64| {
            let minute = u32::try_from(second / MINUTE_S).unwrap_or(u32::MAX);
            let (before, after) = (second - second % MINUTE_S, second.next_multiple_of(MINUTE_S));
            let problem = || {
                format!("devices are counted by minute: {name} can be {before} or {after}, and not {second}")
            };
            if before == after { Ok(minute) } else { Err(Problem::bad_parameter(name, problem())) }
        };
        Ok(minute("start", range.start)?..minute("end", range.end)?)
    }

    /// `start=S&end=E`.
    ///
    /// A `+` stands for itself, so that an offset can be written as it is. A fraction of a second is rounded down: what
    /// is counted is counted by whole seconds.
    ///
    /// # Errors
    /// The [`Problem`] names the parameter.
    pub(super) fn range(&self) -> Result<Range<u64>, Problem> {
        let bound = |name| match self.get(name) {
            Some(value) => second(name, value),
            None => Err(Problem::bad_parameter(name, format!("{name} is missing; ask for start=S&end=E"))),
        };
        let range = bound("start")?..bound("end")?;
        if range.start > range.end {
            return Err(Problem::bad_parameter("start", "start is after end"));
        }
        Ok(range)
    }
}

/// A range of minutes in seconds.
pub(super) fn seconds(minutes: &Range<u32>) -> Range<u64> {
    u64::from(minutes.start) * MINUTE_S..u64::from(minutes.end) * MINUTE_S
}

/// Reads `start=S&end=E`, each once and nothing else.
///
/// # Errors
/// The [`Problem`] names the parameter; any text is read or refused, never a panic.
pub fn parse_query(query: &str) -> Result<Range<u64>, Problem> {
    Parameters::parse(query, &["start", "end"])?.range()
}

/// Names in a sentence: a, b and c.
fn list(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// The text of the parameter `name`, or the name itself.
fn decoded(name: &str, text: &str) -> Result<String, Problem> {
    let bytes = percent_decode_str(text).decode_utf8();
    bytes.map(Into::into).map_err(|_| Problem::bad_parameter(name, "not UTF-8 after percent-decoding"))
}

/// Whole Unix seconds or RFC 3339.
fn second(name: &str, value: &str) -> Result<u64, Problem> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<u64> = if digits { value.parse().ok() } else { parse_rfc3339_second(value) };
    let problem = match number {
        Some(second) if second <= SECOND_MAX => return Ok(second),
        Some(number) if digits && number / 1000 <= SECOND_MAX => {
            format!("{name} looks like milliseconds; write whole Unix seconds: {}", number / 1000)
        }
        _ if digits => format!("{name} is after the year 9999; write whole Unix seconds"),
        _ => format!(
            "{name} is not a time: write whole Unix seconds (1721433676) or RFC 3339 with an offset (2024-07-20T00:01:16Z)"
        ),
    };
    Err(Problem::bad_parameter(name, problem))
}
