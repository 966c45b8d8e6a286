//! How the store is made ready: collections, view, index and the version of its format.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Database, IndexModel};
use serde::Deserialize;

use super::address::MongoAddress;
use super::clients::Clients;
use super::format::{FORMAT_VERSION, FORMAT_WHOLE, OLDEST_FORMAT, messages_view};
use super::rebuild::Stage;
use super::{MAJORITY_TIMEOUT, MongoStore, Topology, rows, words};

/// How long to look for a server, and to connect to one, before the call fails; it is tried again later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The database of an address that names none.
const DEFAULT_DATABASE: &str = "rollcall";

/// How WiredTiger keeps `entries`. In a page of 128 KB, in place of 32, the ids of devices and boots repeat more often: 12
/// bytes a message in place of 19 with 1,000 devices, and 20 in place of 24 with 400,000. A collection that is there stays
/// as it is.
const ENTRIES_PACKED: &str = "block_compressor=zstd,leaf_page_max=128KB";

/// The server's codes for a collection and for an index that exist.
const NAMESPACE_EXISTS: i32 = 48;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MongoOpenError {
    /// The address has to change.
    #[error("{0} is no usable MongoDB address: {1}")]
    BadAddress(MongoAddress, String),
    /// It may be there later.
    #[error("MongoDB at {0} cannot be used: {1}")]
    Unavailable(MongoAddress, String),
    /// There is nothing to look into.
    #[error("there is no store in the database at {0}")]
    NoStore(MongoAddress),
    /// Some of what is made from its log is not there yet.
    #[error(
        "the windows and rows in the database at {0} were being made anew, which was cut off: stop all that use it, and go \
         on with rollcall migrate, or begin again with rollcall doctor --repair"
    )]
    Unfinished(MongoAddress),
    /// An older version of Rollcall wrote it. Nothing was changed.
    #[error(
        "the database at {0} has the older format {1}: stop all that use it, and convert it with rollcall migrate"
    )]
    OlderFormat(MongoAddress, i64),
    /// Another version of Rollcall wrote it. Nothing was changed.
    #[error("the database at {0} has format {1}, but this version of rollcall reads and writes format {2}")]
    OtherFormat(MongoAddress, i64, i64),
}

impl MongoOpenError {
    /// May the same address work later?
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(..))
    }
}

impl MongoStore {
    /// Connects, and makes what is missing.
    ///
    /// # Errors
    /// [`MongoOpenError`] says who can act.
    pub async fn open(address: &MongoAddress) -> Result<Self, MongoOpenError> {
        let unavailable = |error: Error| MongoOpenError::Unavailable(address.clone(), words::plain(&error));
        let store = connected(address).await?;
        set_format(&store.database()).await.map_err(unavailable)?;
        let stamp = stamp(&store.database()).await.map_err(unavailable)?.unwrap_or_default();
        stamp.must_be_todays(address)?;
        if stamp.rebuild.is_some() {
            return Err(MongoOpenError::Unfinished(address.clone()));
        }
        prepare(&store.database()).await.map_err(unavailable)?;
        Ok(store)
    }

    /// The store in a database whose server has said `hello`.
    pub(super) fn of(clients: Clients, hello: &Document) -> Self {
        let topology =
            if hello.contains_key("setName") { Topology::ReplicaSet } else { Topology::Standalone };
        Self { clients: Arc::new(clients), topology, tail: Arc::default(), directory: Arc::default() }
    }
}

/// A store of whichever format.
pub(super) async fn connected(address: &MongoAddress) -> Result<MongoStore, MongoOpenError> {
    let clients = connect(address).await?;
    let hello = clients.database().run_command(doc! { "hello": 1 }).await;
    let hello = hello.map_err(|error| MongoOpenError::Unavailable(address.clone(), words::plain(&error)))?;
    Ok(MongoStore::of(clients, &hello))
}

/// Clients with the guarantees that Rollcall needs, whatever the address says of them.
pub(super) async fn connect(address: &MongoAddress) -> Result<Clients, MongoOpenError> {
    let bad = |reason: String| MongoOpenError::BadAddress(address.clone(), reason);
    if address.text().starts_with("mongodb+srv:") {
        let remedy = "mongodb+srv:// is not supported; write the hosts out, as mongodb://a,b,c/rollcall";
        return Err(bad(remedy.to_owned()));
    }
    let mut options = match ClientOptions::parse(address.text()).await {
        Ok(options) => options,
        Err(error) => return Err(bad(words::address_fault(address.text(), &error).await)),
    };
    options.app_name.get_or_insert_with(|| "rollcall".to_owned());
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.server_selection_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.write_concern = Some(durable());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    let name = options.default_database.clone().unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
    Clients::new(options, name)
        .map_err(|error| MongoOpenError::Unavailable(address.clone(), words::plain(&error)))
}

/// Sets the version of the format when there is none.
async fn set_format(database: &Database) -> Result<(), Error> {
    let meta = database.collection::<Document>("meta");
    let set = doc! { "$setOnInsert": { "version": FORMAT_WHOLE } };
    meta.update_one(doc! { "_id": "format" }, set).upsert(true).await.map(|_| ()).or_else(ignore_race)
}

/// What a database says of itself.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Stamp {
    #[serde(default)]
    pub(super) version: i64,
    /// There while what is made from the log is made anew.
    #[serde(default)]
    pub(super) rebuild: Option<Stage>,
}

impl Stamp {
    /// A database of another format is left alone.
    pub(super) fn must_be_todays(self, address: &MongoAddress) -> Result<(), MongoOpenError> {
        match self.version {
            FORMAT_WHOLE..=FORMAT_VERSION => Ok(()),
            older @ OLDEST_FORMAT..FORMAT_WHOLE => Err(MongoOpenError::OlderFormat(address.clone(), older)),
            other => Err(MongoOpenError::OtherFormat(address.clone(), other, FORMAT_VERSION)),
        }
    }
}

/// What a database says of itself, if it says something.
pub(super) async fn stamp(database: &Database) -> Result<Option<Stamp>, Error> {
    database.collection::<Stamp>("meta").find_one(doc! { "_id": "format" }).await
}

/// Two processes that start at once may both try to insert.
fn ignore_race<T: Default>(error: Error) -> Result<T, Error> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) if command.code == NAMESPACE_EXISTS => Ok(T::default()),
        _ => Err(error),
    }
}

pub(super) async fn prepare(database: &Database) -> Result<(), Error> {
    for (name, packed) in [("entries", ENTRIES_PACKED), (rows::PAGES, rows::PAGES_PACKED)] {
        let packed = doc! { "wiredTiger": { "configString": packed } };
        database.create_collection(name).storage_engine(packed).await.or_else(ignore_race)?;
    }
    let view = database.create_collection("messages").view_on("entries".to_owned());
    view.pipeline(messages_view()).await.or_else(ignore_race)?;
    // One that an earlier version made does not know where the boots are; and a collection of that name is somebody else's.
    let of_that_name =
        database.list_collections().filter(doc! { "name": "messages", "type": "view" }).await?;
    if !of_that_name.try_collect::<Vec<_>>().await?.is_empty() {
        let view = doc! { "collMod": "messages", "viewOn": "entries", "pipeline": messages_view() };
        database.run_command(view).await?;
    }
    // For people who look for the messages of a time: Rollcall itself reads by `_id` only.
    let by_time = IndexModel::builder().keys(doc! { "received_at": 1 }).build();
    database.collection::<Document>("entries").create_index(by_time).await?;
    Ok(())
}

fn durable() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(MAJORITY_TIMEOUT).build()
}
