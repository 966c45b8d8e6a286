//! A record as a line of text, NDJSON or CSV: what `/v1/messages` tells and `rollcall import` reads.

use std::fmt::{self, Display};

use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Record, RecordKind, TimeError, UnixMs};

/// The longest line that is read, in bytes: a record takes some 250.
pub const LINE_MAX: usize = 4096;

/// The fields of a line of CSV in their order, and the head of a file.
pub const HEAD: &str = "device,boot,seq,status,sampled_at,received_at,time_error,kind";

/// A record, a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Message)]
pub struct Line {
    /// Who took it.
    #[schema(example = "porch")]
    pub device: String,
    /// Null, as `seq`, of a message that said nothing but its status.
    #[serde(default)]
    #[schema(example = "9f3c5a0be1d24c77")]
    pub boot: Option<String>,
    /// Its number in its boot.
    #[serde(default)]
    pub seq: Option<u64>,
    /// What was sampled.
    #[schema(maximum = 6)]
    pub status: u8,
    /// When it was sampled.
    #[schema(format = DateTime)]
    pub sampled_at: String,
    /// When the host received it.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub received_at: String,
    /// How exactly `sampled_at` is known: `exact`, `one_second` or `unknown`.
    #[serde(default)]
    #[schema(example = "exact")]
    pub time_error: String,
    /// `sample`; `imported`, whose `boot` and `seq` are made from its identity elsewhere; or `undecided`, which is not counted.
    #[serde(default)]
    #[schema(example = "sample")]
    pub kind: String,
}

/// The last line of NDJSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct End {
    /// Are these all? Otherwise `detail` says what came between, and the same question may be answered later.
    pub complete: bool,
    /// How many lines came before.
    pub messages: u64,
    /// Every message that was acknowledged before this instant is there.
    #[schema(format = DateTime)]
    pub as_of: String,
    /// What came between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum LineError {
    /// It is no object with the fields that a record needs, or no UTF-8.
    #[error("not a JSON object with device, status and sampled_at")]
    NoObject,
    /// It has another number of fields than the head.
    #[error("another number of fields than the head has")]
    OtherFields,
    /// It is longer than [`LINE_MAX`].
    #[error("longer than 4096 bytes")]
    TooLong,
    /// The device's id is none.
    #[error("device is no id: 1 to 32 characters of a-z, 0-9, - and _")]
    Device,
    /// Not both, or not as they are written.
    #[error("boot and seq are not 16 hexadecimal digits and a number, nor both absent")]
    Sample,
    /// The status is none.
    #[error("status is not a whole number from 0 to 6")]
    Status,
    /// Not as RFC 3339 has it, or before 1970 or after 9999.
    #[error("sampled_at or received_at is no time: write RFC 3339 with an offset")]
    Time,
    /// Another word than there are.
    #[error("time_error is not exact, one_second or unknown")]
    TimeError,
    /// Another word than there are.
    #[error("kind is not sample, imported or undecided")]
    Kind,
}

const TIME_ERRORS: [(&str, TimeError); 3] =
    [("exact", TimeError::Exact), ("one_second", TimeError::OneSecond), ("unknown", TimeError::Unknown)];

const KINDS: [(&str, RecordKind); 3] = [
    ("sample", RecordKind::Sample),
    ("imported", RecordKind::Imported),
    ("undecided", RecordKind::Undecided),
];

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], of: T) -> String {
    words.iter().find(|(_, value)| *value == of).map(|(word, _)| (*word).to_owned()).unwrap_or_default()
}

/// What a word stands for; where there is none, what the first one does.
fn meaning<T: Copy>(words: &[(&str, T)], given: &str) -> Option<T> {
    if given.is_empty() {
        return words.first().map(|(_, value)| *value);
    }
    words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value)
}

impl From<&Record> for Line {
    fn from(record: &Record) -> Self {
        Self {
            device: record.device.to_string(),
            boot: record.id.map(|id| id.boot.to_string()),
            seq: record.id.map(|id| id.seq.get()),
            status: record.status.get(),
            sampled_at: record.sampled_at.to_rfc3339(),
            received_at: record.received_at.to_rfc3339(),
            time_error: word(&TIME_ERRORS, record.time_error),
            kind: word(&KINDS, record.kind),
        }
    }
}

impl TryFrom<&Line> for Record {
    type Error = LineError;

    /// What is absent is as it mostly is: received when it was sampled, dated exactly, a sample.
    fn try_from(line: &Line) -> Result<Self, LineError> {
        let id = match (&line.boot, line.seq) {
            (None, None) => None,
            (Some(boot), Some(seq)) => {
                let id = BootId::parse(boot).zip(Sequence::new(seq));
                let (boot, seq) = id.ok_or(LineError::Sample)?;
                Some(SampleId { boot, seq })
            }
            _ => return Err(LineError::Sample),
        };
        let time = |text: &str| UnixMs::parse_rfc3339(text).ok_or(LineError::Time);
        let sampled_at = time(&line.sampled_at)?;
        Ok(Self {
            device: DeviceId::new(&line.device).map_err(|_| LineError::Device)?,
            id,
            status: Status::new(line.status).ok_or(LineError::Status)?,
            kind: meaning(&KINDS, &line.kind).ok_or(LineError::Kind)?,
            sampled_at,
            time_error: meaning(&TIME_ERRORS, &line.time_error).ok_or(LineError::TimeError)?,
            received_at: if line.received_at.is_empty() { sampled_at } else { time(&line.received_at)? },
        })
    }
}

/// As CSV: no field of a record has a comma or a quotation mark in it.
impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, boot, seq, status, sampled_at, received_at, time_error, kind } = self;
        let boot = boot.as_deref().unwrap_or_default();
        let seq = seq.map(|seq| seq.to_string()).unwrap_or_default();
        write!(f, "{device},{boot},{seq},{status},{sampled_at},{received_at},{time_error},{kind}")
    }
}

impl Line {
    /// Reads a line of CSV whose head has these names, in whichever order; names that are not known are passed over.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn of_csv(head: &[&str], text: &str) -> Result<Self, LineError> {
        let mut line = Self {
            device: String::new(),
            boot: None,
            seq: None,
            status: u8::MAX,
            sampled_at: String::new(),
            received_at: String::new(),
            time_error: String::new(),
            kind: String::new(),
        };
        let fields: Vec<_> = text.split(',').map(unquoted).collect();
        if fields.len() != head.len() {
            return Err(LineError::OtherFields);
        }
        for (name, field) in head.iter().zip(fields).filter(|(_, field)| !field.is_empty()) {
            match *name {
                "device" => field.clone_into(&mut line.device),
                "boot" => line.boot = Some(field.to_owned()),
                "seq" => line.seq = Some(field.parse().map_err(|_| LineError::Sample)?),
                "status" => line.status = field.parse().map_err(|_| LineError::Status)?,
                "sampled_at" => field.clone_into(&mut line.sampled_at),
                "received_at" => field.clone_into(&mut line.received_at),
                "time_error" => field.clone_into(&mut line.time_error),
                "kind" => field.clone_into(&mut line.kind),
                _ => {}
            }
        }
        Ok(line)
    }
}

/// A field without the quotation marks that a spreadsheet puts around it.
fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).unwrap_or(field)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let id = prop::option::of((any::<u64>(), 0..=Sequence::MAX.get()));
        let at = 0..253_402_300_800_000_u64;
        let time_error = prop::sample::select(TIME_ERRORS.map(|(_, value)| value).to_vec());
        let kind = prop::sample::select(KINDS.map(|(_, value)| value).to_vec());
        ("[a-z0-9_-]{1,32}", id, 0..7_u8, at.clone(), at, time_error, kind).prop_map(
            |(device, id, status, sampled_at, received_at, time_error, kind)| Record {
                device: DeviceId::new(&device).unwrap(),
                id: id.map(|(boot, seq)| SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() }),
                status: Status::new(status).unwrap(),
                kind,
                sampled_at: UnixMs(sampled_at),
                time_error,
                received_at: UnixMs(received_at),
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_comes_back_from_either_form(record in record()) {
            let line = Line::from(&record);
            let of_json: Line = serde_json::from_str(&serde_json::to_string(&line).unwrap()).unwrap();
            prop_assert_eq!(Record::try_from(&of_json), Ok(record));
            let head: Vec<_> = HEAD.split(',').collect();
            let of_csv = Line::of_csv(&head, &line.to_string()).unwrap();
            prop_assert_eq!(Record::try_from(&of_csv), Ok(record));
            prop_assert!(line.to_string().len() < LINE_MAX);
        }

        #[test]
        fn any_text_is_a_record_or_an_error(text in ".{0,200}", head in "[a-z_,]{0,40}") {
            let head: Vec<_> = head.split(',').collect();
            let _ = Line::of_csv(&head, &text).map(|line| Record::try_from(&line));
            let _ = serde_json::from_str::<Line>(&text).map(|line| Record::try_from(&line));
        }
    }

    #[test]
    fn what_is_absent_is_as_it_mostly_is_and_what_is_wrong_is_named() {
        let of = |json: &str| Record::try_from(&serde_json::from_str::<Line>(json).unwrap());
        let least = r#"{"device":"porch","status":3,"sampled_at":"2026-11-23T00:00:00.5Z"}"#;
        let record = of(least).unwrap();
        assert_eq!((record.id, record.kind), (None, RecordKind::Sample));
        assert_eq!((record.sampled_at, record.received_at), (UnixMs(1_795_392_000_500), record.sampled_at));
        for (from, to, error) in [
            ("porch", "Porch", LineError::Device),
            (":3", ":7", LineError::Status),
            ("2026-11-23", "1926-11-23", LineError::Time),
            ("{", r#"{"boot":"9f3c5a0be1d24c77","#, LineError::Sample),
            ("{", r#"{"boot":"9F","seq":1,"#, LineError::Sample),
            ("{", r#"{"kind":"copied","#, LineError::Kind),
            ("{", r#"{"time_error":"small","#, LineError::TimeError),
        ] {
            assert_eq!(of(&least.replacen(from, to, 1)), Err(error), "{to}");
        }
        let head = ["status", "when", "device", "sampled_at"];
        let line = Line::of_csv(&head, r#"3,,"porch","2026-11-23T00:00:00Z""#).unwrap();
        assert_eq!(Record::try_from(&line).unwrap().device.as_str(), "porch");
        assert_eq!(Line::of_csv(&head, "3,porch"), Err(LineError::OtherFields));
    }
}
