//! Databases of formats 2 and 3 become one of today's: only the rows of devices are new, which whoever opens the
//! store makes from the log, and the state of a checkpoint goes, in whose place they are.

use mongodb::bson::{Document, doc};

use super::format::{FORMAT_VERSION, OLDEST_FORMAT};
use super::open::{connected, format};
use super::{MongoAddress, MongoOpenError, MongoStore, in_time, unavailable, words};
use crate::log::StoreError;

impl MongoStore {
    /// Opens an older store; `None` when it is one of today's already, or there is none. It becomes one of
    /// today's by [`MongoStore::end_migration`].
    ///
    /// # Errors
    /// As [`MongoStore::open`].
    pub async fn begin_migration(address: &MongoAddress) -> Result<Option<Self>, MongoOpenError> {
        let store = connected(address).await?;
        let version = format(&store.database).await;
        match version.map_err(|error| MongoOpenError::Unavailable(address.clone(), words::plain(&error)))? {
            None | Some(FORMAT_VERSION) => Ok(None),
            Some(OLDEST_FORMAT..FORMAT_VERSION) => Ok(Some(store)),
            Some(other) => Err(MongoOpenError::OtherFormat(address.clone(), other, FORMAT_VERSION)),
        }
    }

    /// The rows are made: the store is one of today's from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn end_migration(&self) -> Result<(), StoreError> {
        in_time(async {
            let meta = self.database.collection::<Document>("meta");
            let version = doc! { "$set": { "version": FORMAT_VERSION } };
            meta.update_one(doc! { "_id": "format" }, version).await.map_err(unavailable)?;
            let checkpoints = self.database.collection::<Document>("checkpoints");
            checkpoints
                .update_many(doc! {}, doc! { "$unset": { "dedupe": "" } })
                .await
                .map_err(unavailable)?;
            Ok(())
        })
        .await
    }
}
