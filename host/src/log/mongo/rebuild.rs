//! What is made from the log, made anew: how a database is opened for it, whatever its windows, rows and checkpoints are
//! like, and what is written before and after.
//!
//! From its beginning on the database has today's format, and a mark that keeps every process from opening it. Nothing
//! keeps out those that have it open: they have to be stopped.

use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};

use super::format::{FORMAT_VERSION, FORMAT_WHOLE, OLDEST_FORMAT, ONLY_RENUMBERED, renumbered};
use super::kept::Kept;
use super::open::{Stamp, connected, prepare, stamp};
use super::windows::collection;
use super::{
    MongoAddress, MongoOpenError, MongoStore, device_windows, in_time, rows, starts, unavailable, words,
};
use crate::log::rollup::Resolution;
use crate::log::{Migration, StoreError};

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
    /// Opens a database that an older version wrote, and converts what needs no rebuild; of one that does, has it begun
    /// already?
    ///
    /// # Errors
    /// As [`MongoStore::open`].
    pub async fn open_to_migrate(address: &MongoAddress) -> Result<Migration<(Self, bool)>, MongoOpenError> {
        let (store, stamp) = stamped(address).await?;
        let Some(Stamp { version, rebuild }) = stamp else { return Ok(Migration::Nothing) };
        let is_renumbered = ONLY_RENUMBERED.contains(&version);
        if is_renumbered {
            // Unless somebody else has done it, and has removed messages since.
            let meta = store.database().collection::<Document>("meta");
            let older = doc! { "_id": "format", "version": version };
            let set = meta.update_one(older, doc! { "$set": { "version": renumbered(version) } }).await;
            set.map_err(|error| MongoOpenError::Unavailable(address.clone(), words::plain(&error)))?;
        }
        match version {
            OLDEST_FORMAT..=FORMAT_VERSION if is_renumbered || version >= FORMAT_WHOLE => Ok(match rebuild {
                Some(stage) => Migration::Rebuild((store, stage == Stage::Filling)),
                None if is_renumbered => Migration::Done,
                None => Migration::Nothing,
            }),
            OLDEST_FORMAT..FORMAT_WHOLE => Ok(Migration::Rebuild((store, false))),
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
        let stamp = in_time(async { stamp(&self.database()).await.map_err(unavailable) }).await?;
        let version = stamp.map_or(FORMAT_WHOLE, |stamp| stamp.version.max(FORMAT_WHOLE));
        let starts = in_time(async { starts::all(self, &mut self.session().await?).await }).await?;
        let is_cut = starts.iter().any(|start| start.first > 0);
        let stage = |stage: Stage| {
            let stage = mongodb::bson::to_bson(&stage).expect("a word always serialises");
            doc! { "$set": { "version": version, "rebuild": stage } }
        };
        if is_cut {
            let kept = Kept::find(self).await?;
            self.set_stamp(stage(Stage::Emptying)).await?;
            kept.keep(self).await?;
            return self.set_stamp(stage(Stage::Filling)).await;
        }
        self.set_stamp(stage(Stage::Emptying)).await?;
        in_time(async {
            self.checkpoints().delete_many(doc! {}).await.map_err(unavailable)?;
            let windows = [Resolution::Minute, Resolution::Hour, Resolution::Day].map(collection);
            for name in windows.into_iter().chain([rows::ALONE, rows::PAGES, device_windows::COLLECTION]) {
                self.database().collection::<Document>(name).drop().await.map_err(unavailable)?;
            }
            prepare(&self.database()).await.map_err(unavailable)
        })
        .await?;
        self.set_stamp(stage(Stage::Filling)).await
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
            let meta = self.database().collection::<Document>("meta");
            meta.update_one(doc! { "_id": "format" }, update).await.map_err(unavailable)?;
            Ok(())
        })
        .await
    }
}

async fn stamped(address: &MongoAddress) -> Result<(MongoStore, Option<Stamp>), MongoOpenError> {
    let store = connected(address).await?;
    let stamp = stamp(&store.database()).await;
    let stamp = stamp.map_err(|error| MongoOpenError::Unavailable(address.clone(), words::plain(&error)))?;
    Ok((store, stamp))
}
