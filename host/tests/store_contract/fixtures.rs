//! The stores, each as empty as it comes.

use super::*;

/// A store of one kind, empty at first.
pub(crate) trait Fixture: Sized + Send + Sync + 'static {
    type Store: LogStore;
    /// Can this machine run it? If not, the test is reported as skipped.
    fn available() -> bool {
        true
    }
    fn fresh() -> impl Future<Output = Self> + Send;
    fn store(&self) -> &Self::Store;
    /// What doctor finds in it.
    fn checks(&self, reports: mpsc::Sender<Report>) -> impl Future<Output = ()> + Send;
    /// The same data, opened anew, as after a restart of the process.
    fn reopened(self) -> impl Future<Output = Self> + Send;
}

pub(crate) struct Memory(pub(crate) Arc<MemoryStore>);

impl Fixture for Memory {
    type Store = MemoryStore;
    async fn fresh() -> Self {
        Self(Arc::default())
    }
    fn store(&self) -> &MemoryStore {
        &self.0
    }
    async fn checks(&self, reports: mpsc::Sender<Report>) {
        self.0.checks(recount, reports).await;
    }
    async fn reopened(self) -> Self {
        self
    }
}

pub(crate) struct Redb(pub(crate) RedbStore, pub(crate) tempfile::TempDir);

impl Fixture for Redb {
    type Store = RedbStore;
    async fn fresh() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self(RedbStore::open(directory.path()).unwrap(), directory)
    }
    fn store(&self) -> &RedbStore {
        &self.0
    }
    async fn checks(&self, reports: mpsc::Sender<Report>) {
        self.0.checks(recount, reports).await;
    }
    async fn reopened(self) -> Self {
        let Self(store, directory) = self;
        drop(store);
        Self(RedbStore::open(directory.path()).unwrap(), directory)
    }
}

#[cfg(feature = "mongodb")]
pub(crate) struct Mongo(pub(crate) MongoStore, pub(crate) MongoAddress, pub(crate) Arc<Server>);

#[cfg(feature = "mongodb")]
impl Fixture for Mongo {
    type Store = MongoStore;
    fn available() -> bool {
        mongod::available()
    }
    async fn fresh() -> Self {
        let server = mongod::server();
        let address = server.fresh_database();
        Self(MongoStore::open(&address).await.unwrap(), address, server)
    }
    fn store(&self) -> &MongoStore {
        &self.0
    }
    async fn checks(&self, reports: mpsc::Sender<Report>) {
        self.0.checks(recount, reports).await;
    }
    async fn reopened(self) -> Self {
        let Self(_, address, server) = self;
        Self(MongoStore::open(&address).await.unwrap(), address, server)
    }
}
