//! The store in MongoDB, standalone or a replica set. The only files that name the driver are here.
//!
//! An entry is one document, and its `_id` the compare-and-swap. It needs the atomicity of a document only.
//! What was appended is on the disks of a majority; what is read back is too. People read the view `messages`.

mod address;
mod checks;
mod clients;
mod device_windows;
mod format;
mod import;
mod kept;
mod open;
mod rebuild;
mod rows;
mod snapshot;
mod starts;
mod stored_counts;
mod tail;
mod view;
mod windows;
mod words;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::bson::{Document, RawDocument, doc};
use mongodb::error::{Error, ErrorKind, WriteConcernError};
use mongodb::{ClientSession, Collection, Database};
use rollcall_wire::{DeviceId, Slot};
use serde::Deserialize;

use self::clients::Clients;
use self::format::{StoredEntry, keys};
use self::rows::Directory;
use self::tail::Tail;
use self::windows::{
    StoredCheckpoint, checkpoint_update, collection, rows_checkpoint_update, window_updates,
};
use super::devices::DeviceView;
use super::plan::{Plan, Upto, View};
use super::rollup::{Chunk, Resolution};
use super::row::Row;
use super::start::{Cut, Identity, Start};
use super::{Beyond, Checkpoint, LogStore, RowWrite, StoreError};
use crate::model::Entry;

pub use self::address::{MongoAddress, PasswordError};
pub use self::checks::checks;
#[cfg(feature = "testing")]
pub use self::import::sample_of_bytes;
pub use self::import::{Documents, Fields, Refusal, Sample};
pub use self::open::MongoOpenError;

/// How long a majority may take to confirm a write.
const MAJORITY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call may take before its outcome counts as unknown: a server that hangs does not answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The server's code for an `_id` that exists.
const DUPLICATE_KEY: i32 = 11_000;

/// The most entries or windows that one reply carries, so that a query is one round trip.
const BATCH_DOCUMENTS: u32 = 20_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct MongoStore {
    clients: Arc<Clients>,
    /// Only a replica set can have a former primary that does not know yet.
    topology: Topology,
    /// What earlier questions have read.
    tail: Arc<Mutex<Tail>>,
    directory: Arc<Directory>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    Standalone,
    ReplicaSet,
}

/// What a server says of an `update` command.
#[derive(Debug, Deserialize)]
struct UpdateReply {
    /// How many statements found their document, or inserted it.
    #[serde(default)]
    n: usize,
    #[serde(default, rename = "writeErrors")]
    write_errors: Vec<UpdateError>,
    #[serde(default, rename = "writeConcernError")]
    write_concern_error: Option<WriteConcernError>,
}

#[derive(Debug, Deserialize)]
struct UpdateError {
    index: usize,
    code: i32,
    #[serde(default)]
    errmsg: String,
}

impl MongoStore {
    fn database(&self) -> Database {
        self.clients.database()
    }

    fn entries(&self) -> Collection<StoredEntry<'_>> {
        self.database().collection("entries")
    }

    fn checkpoints(&self) -> Collection<StoredCheckpoint> {
        self.database().collection("checkpoints")
    }

    /// A session whose reads see at least what its earlier calls saw, whoever is primary by then.
    async fn session(&self) -> Result<ClientSession, StoreError> {
        self.clients.here().start_session().causal_consistency(true).await.map_err(unavailable)
    }

    /// Waits until all that was written before is on the disks of a majority: what a read returns after this
    /// cannot be lost. An entry whose writer never got an answer may not be there yet.
    async fn barrier(&self, session: &mut ClientSession) -> Result<(), StoreError> {
        let meta = self.database().collection::<Document>("meta");
        let write = meta.update_one(doc! { "_id": "barrier" }, doc! { "$inc": { "count": 1_i64 } });
        write.upsert(true).session(session).await.map_err(unavailable)?;
        Ok(())
    }

    /// Runs upserts, each of which finds its document already done or does it. Done twice, they change nothing.
    async fn update(&self, collection: &str, updates: Vec<Document>) -> Result<(), StoreError> {
        if updates.is_empty() {
            return Ok(());
        }
        let again: Vec<_> = self
            .update_once(collection, &updates)
            .await?
            .into_iter()
            .map(|index| {
                // Somebody else inserted the document, which does not say that it holds this chunk.
                let mut update = updates[index].clone();
                update.insert("upsert", false);
                update
            })
            .collect();
        if !again.is_empty() {
            self.update_once(collection, &again).await?;
        }
        Ok(())
    }

    /// Runs statements of which each is for one document that is as it was read; did each find it so?
    async fn update_all(&self, collection: &str, updates: Vec<Document>) -> Result<bool, StoreError> {
        if updates.is_empty() {
            return Ok(true);
        }
        Ok(self.run_updates(collection, &updates).await?.0 == updates.len())
    }

    /// The statements whose document exists, but does not match: it holds their chunk already, or it was
    /// inserted a moment ago.
    async fn update_once(&self, collection: &str, updates: &[Document]) -> Result<Vec<usize>, StoreError> {
        Ok(self.run_updates(collection, updates).await?.1)
    }

    /// How many statements found their document or inserted it; and those that could not insert theirs, for it exists.
    async fn run_updates(
        &self,
        collection: &str,
        updates: &[Document],
    ) -> Result<(usize, Vec<usize>), StoreError> {
        let command = doc! {
            "update": collection,
            "updates": updates,
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true, "wtimeout": MAJORITY_TIMEOUT.as_millis() as i64 },
        };
        let reply = self.database().run_command(command).await.map_err(unavailable)?;
        let reply: UpdateReply = mongodb::bson::from_document(reply)
            .map_err(|error| StoreError::Unavailable(words::sentence(&error.to_string())))?;
        if let Some(error) = reply.write_concern_error {
            return Err(StoreError::Unavailable(words::unconfirmed(&error)));
        }
        let mut present = Vec::new();
        for error in reply.write_errors {
            if error.code != DUPLICATE_KEY {
                return Err(StoreError::Unavailable(words::refused(error.code, "", &error.errmsg)));
            }
            present.push(error.index);
        }
        Ok((reply.n, present))
    }

    async fn apply_round(&self, chunks: &[&Chunk]) -> Result<(), StoreError> {
        for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
            let updates = chunks.iter().flat_map(|chunk| window_updates(chunk, resolution)).collect();
            self.update(collection(resolution), updates).await?;
        }
        // Only now: a checkpoint says that every window holds its chunks, and a majority has them by then.
        self.update("checkpoints", chunks.iter().map(|chunk| checkpoint_update(chunk)).collect()).await
    }

    /// How far every slot is, as its checkpoint says.
    async fn known(&self) -> Result<[u64; Slot::COUNT], StoreError> {
        let mut session = self.session().await?;
        view::checkpoints(self, &mut session).await
    }
}

impl LogStore for MongoStore {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        in_time(async {
            if entries.is_empty() {
                return Ok(Vec::new());
            }
            let mut session = self.session().await?;
            let collection = self.entries();
            let insert = collection.insert_many(entries.iter().map(StoredEntry::of)).ordered(false);
            let mut taken = match insert.session(&mut session).await {
                Ok(_) => Vec::new(),
                Err(error) => taken(&error, entries).ok_or_else(|| unavailable(error))?,
            };
            let below = starts::below(self, &mut session, entries).await?;
            taken.extend(below.into_iter().filter(|slot| !taken.contains(slot)).collect::<Vec<_>>());
            Ok(taken)
        })
        .await
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        in_time(async {
            let mut session = self.session().await?;
            self.barrier(&mut session).await?;
            let keys = keys(slot, from.max(starts::of(self, &mut session, slot).await?.first));
            let collection = self.entries();
            let find = collection.find(doc! { "_id": { "$gte": keys.start, "$lt": keys.end } });
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let find = find.sort(doc! { "_id": 1 }).limit(limit).batch_size(BATCH_DOCUMENTS);
            let mut cursor = find.session(&mut session).await.map_err(unavailable)?;
            let mut entries = Vec::new();
            while cursor.advance(&mut session).await.map_err(unavailable)? {
                let stored = cursor.deserialize_current();
                entries.push(stored.map_err(|error| unreadable_entry(cursor.current(), error))?.entry()?);
            }
            Ok(entries)
        })
        .await
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        in_time(async {
            let stored = self.checkpoints().find_one(doc! { "_id": slot.index() as i32 }).await;
            Ok(stored.map_err(unavailable)?.map(StoredCheckpoint::checkpoint).unwrap_or_default())
        })
        .await
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        in_time(async {
            let mut known = self.known().await?;
            // The chunks of a slot one after the other, the slots side by side.
            let mut rounds = BTreeMap::<usize, Vec<&Chunk>>::new();
            let mut round_of_slot = [0; Slot::COUNT];
            for chunk in chunks {
                let next = &mut known[chunk.slot.index()];
                if super::is_next(chunk, *next)? {
                    *next = chunk.entries.end;
                    let round = &mut round_of_slot[chunk.slot.index()];
                    rounds.entry(*round).or_default().push(chunk);
                    *round += 1;
                }
            }
            for round in rounds.values() {
                self.apply_round(round).await?;
            }
            Ok(())
        })
        .await
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        in_time(async {
            // As far as a majority has them, and what they say is in the log there.
            let mut session = self.session().await?;
            rows::read(self, &mut session, slot, after, limit).await
        })
        .await
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        in_time(rows::first(self, after, limit)).await
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        in_time(async {
            rows::write(self, writes).await?;
            // Only now: windows of devices may hold no more than rows say, whoever reads them.
            device_windows::add(self, writes).await?;
            // Only now: the checkpoint says that every row is there, and a majority has them by then.
            let checkpoints =
                writes.iter().filter_map(|write| Some(rows_checkpoint_update(write.slot, write.checkpoint?)));
            self.update("checkpoints", checkpoints.collect()).await
        })
        .await
    }

    async fn beyond_rows(&self, slots: &[Slot], known: Option<&Upto>) -> Result<Beyond, StoreError> {
        in_time(rows::beyond(self, slots, known)).await
    }

    fn known_rows(&self) -> Option<Upto> {
        rows::known(self)
    }

    async fn devices(&self, devices: &[DeviceId], hours: Range<u32>) -> Result<Vec<DeviceView>, StoreError> {
        in_time(device_windows::devices(self, devices, &hours)).await
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        in_time(view::view(self, plan)).await
    }

    async fn start(&self, slot: Slot) -> Result<Start, StoreError> {
        in_time(async { starts::of(self, &mut self.session().await?, slot).await }).await
    }

    async fn cut(&self, cut: &Cut) -> Result<bool, StoreError> {
        starts::cut(self, cut).await
    }

    async fn release(&self, slot: Slot, below: u64) -> Result<bool, StoreError> {
        in_time(starts::release(self, slot, below)).await
    }

    async fn imported(&self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
        in_time(starts::imported(self, identities)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        in_time(async {
            self.database().run_command(doc! { "ping": 1 }).await.map_err(unavailable)?;
            Ok(())
        })
        .await
    }
}

/// The slots whose number is taken, if that is all that went wrong.
fn taken(error: &Error, entries: &[Entry]) -> Option<Vec<Slot>> {
    let ErrorKind::InsertMany(failure) = error.kind.as_ref() else { return None };
    if failure.write_concern_error.is_some() {
        return None;
    }
    let errors = failure.write_errors.as_ref()?;
    errors
        .iter()
        .map(|error| {
            (error.code == DUPLICATE_KEY).then(|| entries.get(error.index).map(|entry| entry.slot))?
        })
        .collect()
}

/// Does what may be cut off at any point: every document is written whole or not at all.
async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late =
        || StoreError::Unavailable(format!("MongoDB did not answer within {} s", CALL_TIMEOUT.as_secs()));
    tokio::time::timeout(CALL_TIMEOUT, work).await.map_err(|_| late())?
}

fn unavailable(error: Error) -> StoreError {
    StoreError::Unavailable(words::plain(&error))
}

fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(words::sentence(&error.to_string()))
}

/// An entry that is not as it was written, by its place.
fn unreadable_entry(document: &RawDocument, error: Error) -> StoreError {
    let place = document.get_i64("_id").map(format::place);
    match place {
        Ok(Ok((slot, number))) => {
            let reason = words::sentence(&error.to_string());
            StoreError::Corrupt(format!("entry {number} of slot {slot}: {reason}"))
        }
        _ => corrupt(error),
    }
}
