//! What is made from the log, made anew: how a database is opened for it, whatever its windows, rows and checkpoints are
//! like, and what is written before and after.
//!
//! From its beginning on the database has today's format, and a mark that keeps every process from opening it. Nothing
//! keeps out those that have it open: they have to be stopped.

use mongodb::bson::{Document, doc};
use rollcall_wire::Slot;
use serde::{Deserialize, Serialize};

use super::format::{FORMAT_VERSION, FORMAT_WHOLE, OLDEST_FORMAT};
use super::open::{Stamp, connected, prepare, stamp};
use super::windows::collection;
use super::{MongoAddress, MongoOpenError, MongoStore, hours, in_time, rows, starts, unavailable, words};
use crate::log::StoreError;
use crate::log::rollup::Resolution;

const DAY_S: u64 = Resolution::Day.seconds();

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    /// What was made may be there in part.
    Emptying,
    /// What is there is made anew.
    Filling,
}

impl MongoStore {
    /// Opens a database that an older version wrote, and says whether its rebuild has begun already; `None` when it is
    /// one of today's, or there is none.
    ///
    /// # Errors
    /// As [`MongoStore::open`].
    pub async fn open_to_migrate(address: &MongoAddress) -> Result<Option<(Self, bool)>, MongoOpenError> {
        let (store, stamp) = stamped(address).await?;
        let Some(stamp) = stamp else { return Ok(None) };
        match stamp.version {
            FORMAT_WHOLE..=FORMAT_VERSION => Ok(stamp.rebuild.map(|stage| (store, stage == Stage::Filling))),
            OLDEST_FORMAT..FORMAT_WHOLE => Ok(Some((store, false))),
            other => Err(MongoOpenError::OtherFormat(address.clone(), other, FORMAT_VERSION)),
        }
    }

    /// Opens a database of today's format without a look at what is made from its log.
    ///
    /// # Errors
    /// As [`MongoStore::open`].
    pub async fn open_to_repair(address: &MongoAddress) -> Result<Self, MongoOpenError> {
        let (store, stamp) = stamped(address).await?;
        stamp.ok_or_else(|| MongoOpenError::NoStore(address.clone()))?.must_be_todays(address)?;
        Ok(store)
    }

    /// Lets go of all that is made from the log.
    ///
    /// # Errors
    /// When it cannot be written; it may be begun again.
    pub async fn begin_rebuild(&self) -> Result<(), StoreError> {
        let stamp = in_time(async { stamp(&self.database).await.map_err(unavailable) }).await?;
        let is_cut = stamp.is_some_and(|stamp| stamp.version == FORMAT_VERSION);
        let version = if is_cut { FORMAT_VERSION } else { FORMAT_WHOLE };
        let stage = |stage: Stage| {
            let stage = mongodb::bson::to_bson(&stage).expect("a word always serialises");
            doc! { "$set": { "version": version, "rebuild": stage } }
        };
        self.set_stamp(stage(Stage::Emptying)).await?;
        if is_cut {
            self.keep_what_cannot_be_made().await?;
            return self.set_stamp(stage(Stage::Filling)).await;
        }
        in_time(async {
            self.checkpoints().delete_many(doc! {}).await.map_err(unavailable)?;
            let windows = [Resolution::Minute, Resolution::Hour, Resolution::Day].map(collection);
            for name in windows.into_iter().chain([rows::ALONE, rows::PAGES, hours::COLLECTION]) {
                self.database.collection::<Document>(name).drop().await.map_err(unavailable)?;
            }
            prepare(&self.database).await.map_err(unavailable)
        })
        .await?;
        self.set_stamp(stage(Stage::Filling)).await
    }

    /// Lets go of what is made from the log, but of nothing that could not be made again where messages were let go of:
    /// windows of days that lack some, which say themselves what they hold; rows that can be read; and their hours.
    async fn keep_what_cannot_be_made(&self) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let starts = in_time(starts::all(self, &mut session)).await?;
        let horizon = starts.iter().map(|start| start.days().0).max().unwrap_or_default();
        let day =
            |day: &u64| doc! { "_id": { "$gte": day.cast_signed(), "$lt": (day + DAY_S).cast_signed() } };
        let mut kept = vec![doc! { "_id": { "$lt": horizon.cast_signed() } }];
        kept.extend(starts.iter().flat_map(|start| start.days().1).map(day));
        let days = self.database.collection::<Document>(collection(Resolution::Day));
        if days.find_one(doc! { "$or": &kept }).await.map_err(unavailable)?.is_none() {
            let what = "the windows of days are gone, and cannot be made anew, for messages were let go of";
            return Err(StoreError::Corrupt(what.to_owned()));
        }
        for name in [Resolution::Minute, Resolution::Hour, Resolution::Day].map(collection) {
            let windows = self.database.collection::<Document>(name);
            windows.delete_many(doc! { "$nor": &kept }).await.map_err(unavailable)?;
        }
        rows::salvage(self).await?;
        in_time(async {
            let checkpoints = self.database.collection::<Document>("checkpoints");
            checkpoints.delete_many(doc! {}).await.map_err(unavailable)?;
            let first = |slot: Slot| starts[slot.index()].first.cast_signed();
            let begin =
                |slot: Slot| doc! { "_id": slot.index() as i32, "next": first(slot), "rows": first(slot) };
            checkpoints.insert_many(Slot::all().map(begin)).await.map_err(unavailable)?;
            prepare(&self.database).await.map_err(unavailable)
        })
        .await
    }

    /// All is made: the database may be opened from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn end_rebuild(&self) -> Result<(), StoreError> {
        self.set_stamp(doc! { "$unset": { "rebuild": "" } }).await
    }

    async fn set_stamp(&self, update: Document) -> Result<(), StoreError> {
        in_time(async {
            let meta = self.database.collection::<Document>("meta");
            meta.update_one(doc! { "_id": "format" }, update).await.map_err(unavailable)?;
            Ok(())
        })
        .await
    }
}

async fn stamped(address: &MongoAddress) -> Result<(MongoStore, Option<Stamp>), MongoOpenError> {
    let store = connected(address).await?;
    let stamp = stamp(&store.database).await;
    let stamp = stamp.map_err(|error| MongoOpenError::Unavailable(address.clone(), words::plain(&error)))?;
    Ok((store, stamp))
}
