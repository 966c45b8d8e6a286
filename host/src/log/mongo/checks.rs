//! How a live MongoDB stands, for `rollcall doctor`. It changes nothing but a counter.

use std::time::Instant;

use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;

use super::address::MongoAddress;
use super::format::{FORMAT_VERSION, OLDEST_FORMAT};
use super::open::{connect, stamp};
use super::words;
use crate::model::UnixMs;
use crate::ops::check::Check;

/// `$replaceWith` in a view and retryable writes are older; below 5.0 nothing was tried.
const MAJOR_VERSION_MIN: i32 = 5;

/// A durable write takes a disk's fsync and, in a replica set, a round trip.
const WRITE_SLOW_MS: u128 = 100;

/// People compare times of the database with times of the host.
const CLOCK_DIFFERENCE_MAX_MS: u64 = 1000;

/// Looks at the database at `address`.
pub async fn checks(address: &MongoAddress) -> Vec<Check> {
    const NAME: &str = "MongoDB reachable";
    let reached = match connect(address).await {
        Ok((_, database)) => {
            hello(&database).await.map(|hello| (database, hello)).map_err(|error| words::plain(&error))
        }
        Err(error) => Err(error.to_string()),
    };
    let (database, hello) = match reached {
        Ok(reached) => reached,
        Err(error) => {
            return vec![Check::fail(
                NAME,
                error,
                "is mongod running, are address, user and password right?",
            )];
        }
    };
    let mut checks = vec![Check::pass(NAME, address.to_string()), topology(&hello), clock(&hello)];
    let more = async {
        Ok::<_, Error>([
            version(&database).await?,
            write(&database).await?,
            format(&database).await?,
            index(&database).await?,
        ])
    };
    match more.await {
        Ok(more) => checks.extend(more),
        Err(error) => checks.push(Check::fail(
            "MongoDB usable",
            words::plain(&error),
            "give our user the role readWrite on this database",
        )),
    }
    checks
}

async fn hello(database: &Database) -> Result<Document, Error> {
    database.run_command(doc! { "hello": 1 }).await
}

fn topology(hello: &Document) -> Check {
    const NAME: &str = "replica set";
    match hello.get_str("setName") {
        Ok(name) => {
            let members = hello.get_array("hosts").map_or(1, Vec::len);
            Check::pass(NAME, format!("{name} with {members} members"))
        }
        Err(_) => Check::warn(
            NAME,
            "standalone: what is stored survives a crash, but not the loss of its disk",
            "run a replica set of three",
        ),
    }
}

fn clock(hello: &Document) -> Check {
    const NAME: &str = "clock";
    let theirs = hello.get_datetime("localTime").map_or(0, |time| time.timestamp_millis().cast_unsigned());
    let difference_ms = UnixMs::now().0.abs_diff(theirs);
    let found = format!("{difference_ms} ms from ours");
    if difference_ms <= CLOCK_DIFFERENCE_MAX_MS {
        Check::pass(NAME, found)
    } else {
        Check::warn(
            NAME,
            found,
            "let both machines follow a time server; samples are dated by the ingest's clock",
        )
    }
}

async fn version(database: &Database) -> Result<Check, Error> {
    const NAME: &str = "MongoDB version";
    let info = database.run_command(doc! { "buildInfo": 1 }).await?;
    let version = info.get_str("version").unwrap_or("unknown").to_owned();
    let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    Ok(if major >= MAJOR_VERSION_MIN {
        Check::pass(NAME, version)
    } else {
        Check::fail(NAME, version, format!("use MongoDB {MAJOR_VERSION_MIN}.0 or later"))
    })
}

/// As an append is written: by a majority, to disk.
async fn write(database: &Database) -> Result<Check, Error> {
    const NAME: &str = "durable write";
    let start = Instant::now();
    let meta = database.collection::<Document>("meta");
    let barrier = meta.update_one(doc! { "_id": "barrier" }, doc! { "$inc": { "count": 1_i64 } });
    barrier.upsert(true).await?;
    let took_ms = start.elapsed().as_millis();
    let found = format!("{took_ms} ms for w: majority, j: true");
    Ok(if took_ms <= WRITE_SLOW_MS {
        Check::pass(NAME, found)
    } else {
        Check::warn(NAME, found, "put MongoDB's journal on a faster disk; every flush waits for it")
    })
}

async fn format(database: &Database) -> Result<Check, Error> {
    const NAME: &str = "format version";
    let Some(stamp) = stamp(database).await? else {
        return Ok(Check::pass(NAME, "none: nothing is stored yet"));
    };
    Ok(match stamp.version {
        FORMAT_VERSION if stamp.rebuild.is_some() => Check::fail(
            NAME,
            format!("{FORMAT_VERSION}, whose windows and rows were being made anew, which was cut off"),
            "stop all that use it, and go on with rollcall migrate, or begin again with rollcall doctor --repair",
        ),
        FORMAT_VERSION => Check::pass(NAME, FORMAT_VERSION.to_string()),
        older @ OLDEST_FORMAT..FORMAT_VERSION => Check::fail(
            NAME,
            format!("{older}, and this rollcall reads and writes {FORMAT_VERSION}"),
            "stop all that use it, and convert it with rollcall migrate",
        ),
        other => Check::fail(
            NAME,
            format!("{other}, and this rollcall reads and writes {FORMAT_VERSION}"),
            "use the version of rollcall that wrote it, or another database",
        ),
    })
}

async fn index(database: &Database) -> Result<Check, Error> {
    const NAME: &str = "index and view";
    let names = database.list_collection_names().await?;
    if !names.iter().any(|name| name == "entries") {
        return Ok(Check::pass(NAME, "made at the first start"));
    }
    let indexes = database.collection::<Document>("entries").list_index_names().await?;
    let missing =
        !indexes.iter().any(|name| name == "received_at_1") || !names.iter().any(|name| name == "messages");
    Ok(if missing {
        Check::warn(NAME, "missing", "start rollcall once; it makes what is missing")
    } else {
        Check::pass(NAME, "entries.received_at and messages are there")
    })
}
