//! How a live MongoDB stands, for `rollcall doctor`, and what is made from the log in it. It changes nothing but a
//! counter.

use std::time::Instant;

use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use tokio::sync::mpsc;

use super::address::MongoAddress;
use super::format::{FORMAT_VERSION, FORMAT_WHOLE, OLDEST_FORMAT};
use super::open::{Stamp, connect, stamp};
use super::snapshot::MongoSnapshot;
use super::{MongoStore, words};
use crate::log::Recount;
use crate::model::UnixMs;
use crate::ops::check::{Check, Report, look};

/// `$replaceWith` in a view and retryable writes are older; below 5.0 nothing was tried.
const MAJOR_VERSION_MIN: i32 = 5;

/// A durable write takes a disk's fsync and, in a replica set, a round trip.
const WRITE_SLOW_MS: u128 = 100;

/// People compare times of the database with times of the host.
const CLOCK_DIFFERENCE_MAX_MS: u64 = 1000;

/// Looks at the database at `address`; if there is a store of today's format in it, also at all that it holds.
pub async fn checks(address: &MongoAddress, recount: Recount, reports: mpsc::Sender<Report>) {
    let (checks, store) = server(address).await;
    for check in checks {
        if reports.send(Report::Check(check)).await.is_err() {
            return;
        }
    }
    if let Some(store) = store {
        store.checks(recount, reports).await;
    }
}

impl MongoStore {
    /// Looks at all that it holds, also while others write. `recount` compares windows and rows with the log.
    pub async fn checks(&self, recount: Recount, reports: mpsc::Sender<Report>) {
        match MongoSnapshot::new(self.clone()).await {
            Ok(mut snapshot) => look(reports, move |reporter| recount(&mut snapshot, reporter)).await,
            Err(error) => {
                // Who does not listen any more needs no answer.
                let _ = reports.send(Report::Check(unusable(error.to_string()))).await;
            }
        }
    }
}

/// Looks at the server and the database; the store in it, if it is one of today's.
async fn server(address: &MongoAddress) -> (Vec<Check>, Option<MongoStore>) {
    const NAME: &str = "MongoDB reachable";
    let reached = match connect(address).await {
        Ok(clients) => {
            let hello = hello(&clients.database()).await;
            hello.map(|hello| (MongoStore::of(clients, &hello), hello)).map_err(|error| words::plain(&error))
        }
        Err(error) => Err(error.to_string()),
    };
    let (store, hello) = match reached {
        Ok(reached) => reached,
        Err(error) => {
            let remedy = "is mongod running, are address, user and password right?";
            return (vec![Check::fail(NAME, error, remedy)], None);
        }
    };
    let mut checks = vec![Check::pass(NAME, address.to_string()), topology(&hello), clock(&hello)];
    let database = &store.database();
    let more = async {
        let stamp = stamp(database).await?;
        let more = [version(database).await?, write(database).await?, format(stamp), index(database).await?];
        Ok::<_, Error>((more, stamp))
    };
    match more.await {
        Ok((more, stamp)) => {
            checks.extend(more);
            let is_todays = |stamp: Stamp| (FORMAT_WHOLE..=FORMAT_VERSION).contains(&stamp.version);
            let whole = stamp.is_some_and(|stamp| is_todays(stamp) && stamp.rebuild.is_none());
            (checks, whole.then_some(store))
        }
        Err(error) => {
            checks.push(unusable(words::plain(&error)));
            (checks, None)
        }
    }
}

fn unusable(error: String) -> Check {
    Check::fail("MongoDB usable", error, "give our user the role readWrite on this database")
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

fn format(stamp: Option<Stamp>) -> Check {
    const NAME: &str = "format version";
    let Some(stamp) = stamp else { return Check::pass(NAME, "none: nothing is stored yet") };
    match stamp.version {
        version @ FORMAT_WHOLE..=FORMAT_VERSION if stamp.rebuild.is_some() => Check::fail(
            NAME,
            format!("{version}, whose windows and rows were being made anew, which was cut off"),
            "stop all that use it, and go on with rollcall migrate, or begin again with rollcall doctor --repair",
        ),
        version @ FORMAT_WHOLE..=FORMAT_VERSION => Check::pass(NAME, version.to_string()),
        older @ OLDEST_FORMAT..FORMAT_WHOLE => Check::fail(
            NAME,
            format!("{older}, and this rollcall reads and writes {FORMAT_VERSION}"),
            "stop all that use it, and convert it with rollcall migrate",
        ),
        other => Check::fail(
            NAME,
            format!("{other}, and this rollcall reads and writes {FORMAT_VERSION}"),
            "use the version of rollcall that wrote it, or another database",
        ),
    }
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
