//! Documents that another program wrote, one a message: read in the order of their `_id`, which is their identity.

use std::fmt;

use mongodb::Cursor;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReadConcern;
use rollcall_wire::{SampleId, Status};

use super::address::MongoAddress;
use super::clients::Clients;
use super::open::{MongoOpenError, connect};
use super::{unavailable, words};
use crate::log::StoreError;
use crate::model::{TimeError, UnixMs, hashed_id};

/// Later than the year 9999 is no time.
const SECOND_MAX: i64 = 253_402_300_800;

/// What the fields are called.
#[derive(Clone, Debug)]
pub struct Fields {
    /// The status, 0 to 6.
    pub status: String,
    /// The time, in Unix seconds or as a date.
    pub timestamp: String,
}

/// A document that is a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// A hash of its `_id`.
    pub id: SampleId,
    /// What was sampled.
    pub status: Status,
    /// When.
    pub sampled_at: UnixMs,
    /// Whether the time is known to a second only.
    pub time_error: TimeError,
}

/// Why a document is no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// There is no status field.
    NoStatus,
    /// The status is not a whole number from 0 to 6.
    BadStatus,
    /// There is no timestamp field.
    NoTimestamp,
    /// The timestamp is neither Unix seconds nor a date, or lies before 1970 or after 9999.
    BadTimestamp,
    /// The timestamp is after 9999 in seconds, but not in milliseconds.
    MillisecondTimestamp,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoStatus => "no status",
            Self::BadStatus => "status not a whole number from 0 to 6",
            Self::NoTimestamp => "no timestamp",
            Self::BadTimestamp => "timestamp neither Unix seconds nor a date from 1970 to 9999",
            Self::MillisecondTimestamp => {
                "timestamp in milliseconds, it seems: import from a view that makes dates of them \
                 ({ $set: { timestamp: { $toDate: \"$timestamp\" } } })"
            }
        })
    }
}

/// The documents of a collection.
#[derive(Debug)]
pub struct Documents {
    cursor: Cursor<Document>,
    fields: Fields,
    total: u64,
    _clients: Clients,
}

impl Documents {
    /// Begins to read `mongodb://…/DATABASE.COLLECTION`.
    ///
    /// # Errors
    /// [`MongoOpenError`] says who can act.
    pub async fn open(address: &MongoAddress, fields: Fields) -> Result<Self, MongoOpenError> {
        let how = || "name a collection, as mongodb://HOST:PORT/DATABASE.COLLECTION".to_owned();
        let (database, name) =
            address.split_collection().ok_or_else(|| MongoOpenError::BadAddress(address.clone(), how()))?;
        let clients = connect(&database).await?;
        let database = clients.database();
        let unavailable =
            |error: mongodb::error::Error| MongoOpenError::Unavailable(address.clone(), words::plain(&error));
        let collection = database.collection::<Document>(&name);
        let total = collection.estimated_document_count().await.map_err(unavailable)?;
        let only = doc! { "_id": 1, &fields.status: 1, &fields.timestamp: 1 };
        let find = collection.find(doc! {}).sort(doc! { "_id": 1 }).projection(only).no_cursor_timeout(true);
        let cursor = find.read_concern(ReadConcern::majority()).await.map_err(unavailable)?;
        Ok(Self { cursor, fields, total, _clients: clients })
    }

    /// About how many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The next document.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub async fn next(&mut self) -> Result<Option<Result<Sample, Refusal>>, StoreError> {
        if !self.cursor.advance().await.map_err(unavailable)? {
            return Ok(None);
        }
        let document = self.cursor.deserialize_current().map_err(unavailable)?;
        Ok(Some(sample(&document, &self.fields)))
    }
}

/// What a document is that stands in these bytes, for tests and fuzzing; `None` when none stands there.
#[cfg(feature = "testing")]
pub fn sample_of_bytes(bytes: &[u8], fields: &Fields) -> Option<Result<Sample, Refusal>> {
    Some(sample(&mongodb::bson::from_slice(bytes).ok()?, fields))
}

fn sample(document: &Document, fields: &Fields) -> Result<Sample, Refusal> {
    let status = document.get(&fields.status).ok_or(Refusal::NoStatus)?;
    let status = whole(status).and_then(|status| Status::new(u8::try_from(status).ok()?));
    let status = status.ok_or(Refusal::BadStatus)?;
    let timestamp = document.get(&fields.timestamp).ok_or(Refusal::NoTimestamp)?;
    let (ms, time_error) = milliseconds(timestamp).ok_or_else(|| bad_timestamp(timestamp))?;
    Ok(Sample { id: identity(document.get("_id")), status, sampled_at: UnixMs(ms), time_error })
}

fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(value) => Some((*value).into()),
        Bson::Int64(value) => Some(*value),
        // Shells and scripting languages write whole numbers as doubles.
        Bson::Double(value) if value.fract() == 0.0 && value.abs() <= SECOND_MAX as f64 => {
            Some(*value as i64)
        }
        _ => None,
    }
}

fn milliseconds(value: &Bson) -> Option<(u64, TimeError)> {
    let (ms, error) = match value {
        Bson::DateTime(date) => (date.timestamp_millis(), TimeError::Exact),
        Bson::Double(seconds) if seconds.abs() <= SECOND_MAX as f64 => {
            ((seconds * 1000.0).round() as i64, TimeError::Exact)
        }
        other => (whole(other)?.checked_mul(1000)?, TimeError::OneSecond),
    };
    (0..SECOND_MAX * 1000).contains(&ms).then(|| (ms.cast_unsigned(), error))
}

fn bad_timestamp(value: &Bson) -> Refusal {
    let number = match value {
        Bson::Int64(number) => *number as f64,
        Bson::Double(number) => *number,
        _ => return Refusal::BadTimestamp,
    };
    let (least, end) = (SECOND_MAX as f64, SECOND_MAX as f64 * 1000.0);
    if (least..end).contains(&number) { Refusal::MillisecondTimestamp } else { Refusal::BadTimestamp }
}

/// By the `_id`, of whatever type it is.
fn identity(id: Option<&Bson>) -> SampleId {
    let bytes =
        mongodb::bson::to_vec(&doc! { "_id": id }).expect("a document of one value always serialises");
    hashed_id(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::DateTime;
    use mongodb::bson::oid::ObjectId;

    fn read(document: Document) -> Result<Sample, Refusal> {
        sample(&document, &Fields { status: "status".into(), timestamp: "timestamp".into() })
    }

    #[test]
    fn seconds_and_dates_are_read_and_everything_else_is_refused_by_name() {
        let at = |timestamp: Bson| read(doc! { "_id": 1, "status": 3, "timestamp": timestamp });
        assert_eq!(at(1_721_433_676.into()).unwrap().sampled_at, UnixMs(1_721_433_676_000));
        assert_eq!(at(1_721_433_676_i64.into()).unwrap().time_error, TimeError::OneSecond);
        assert_eq!(at(1_721_433_676.25.into()).unwrap().sampled_at, UnixMs(1_721_433_676_250));
        assert_eq!(at(DateTime::from_millis(7).into()).unwrap().sampled_at, UnixMs(7));
        for bad in ["now".into(), (-1).into(), f64::NAN.into(), i64::MAX.into(), Bson::Null] {
            assert_eq!(at(bad), Err(Refusal::BadTimestamp));
        }
        for milliseconds in [1_721_433_676_000_i64.into(), 1_721_433_676_000.0.into()] {
            assert_eq!(at(milliseconds), Err(Refusal::MillisecondTimestamp));
        }
        assert_eq!(read(doc! { "status": 3 }), Err(Refusal::NoTimestamp));
        assert_eq!(read(doc! { "timestamp": 3 }), Err(Refusal::NoStatus));
        for bad in [7.into(), (-1).into(), 3.5.into(), "3".into(), Bson::Null] {
            assert_eq!(read(doc! { "status": bad, "timestamp": 3 }), Err(Refusal::BadStatus));
        }
        assert!(read(doc! { "status": 6.0, "timestamp": 3 }).is_ok());
    }

    #[test]
    fn different_ids_are_different_samples_and_the_same_id_is_the_same() {
        let ids: Vec<Bson> = vec![1.into(), 2.into(), "1".into(), ObjectId::from_bytes([1; 12]).into()];
        for (a, first) in ids.iter().enumerate() {
            for (b, second) in ids.iter().enumerate() {
                assert_eq!(identity(Some(first)) == identity(Some(second)), a == b);
            }
        }
    }
}
