//! `start=S&end=E`: a range of whole seconds, [start, end).

use std::ops::Range;

use percent_encoding::percent_decode_str;

use super::error::Problem;
use crate::model::parse_rfc3339_second;

/// The end of the year 9999, the last that RFC 3339 can write, in Unix seconds.
const SECOND_MAX: u64 = 253_402_300_800;

/// Reads `start=S&end=E`, each once and nothing else.
///
/// A `+` stands for itself, so that an offset can be written as it is. A fraction of a second is rounded down: what is
/// counted is counted by whole seconds.
///
/// # Errors
/// The [`Problem`] names the parameter; any text is read or refused, never a panic.
pub fn parse_query(query: &str) -> Result<Range<u64>, Problem> {
    let (mut start, mut end) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name, name)?;
        let value = decoded(&name, value)?;
        let slot = match name.as_str() {
            "start" => &mut start,
            "end" => &mut end,
            _ => return Err(Problem::bad_parameter(&name, "only start and end are known")),
        };
        if slot.replace(second(&name, &value)?).is_some() {
            return Err(Problem::bad_parameter(&name, format!("{name} is given more than once")));
        }
    }
    let missing = |name: &str| {
        Problem::bad_parameter(name, format!("{name} is missing; ask for /status_count?start=S&end=E"))
    };
    let range = start.ok_or_else(|| missing("start"))?..end.ok_or_else(|| missing("end"))?;
    if range.start > range.end {
        return Err(Problem::bad_parameter("start", "start is after end"));
    }
    Ok(range)
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
