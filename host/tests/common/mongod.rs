//! One mongod for all tests of a process, gone with the last of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot start its server fails")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rollcall_harness::services::Mongod;
use rollcall_host::log::mongo::MongoAddress;
use tempfile::TempDir;

/// A running mongod.
pub(crate) struct Server {
    mongod: Mutex<Mongod>,
    databases: AtomicU64,
    _dir: TempDir,
}

static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// Whether there can be one; if not, the test that asks is reported as skipped.
pub(crate) fn available() -> bool {
    // The harness names a test's thread after it.
    rollcall_harness::services::can_run_mongod(std::thread::current().name().unwrap_or("mongod")).unwrap()
}

/// The process's mongod, started when no test uses one.
pub(crate) fn server() -> Arc<Server> {
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = server.upgrade() {
        return running;
    }
    let started = Arc::new(own_server());
    *server = Arc::downgrade(&started);
    started
}

/// A mongod of one's own, to be killed.
pub(crate) fn own_server() -> Server {
    let dir = rollcall_harness::workspace::temporary_dir().unwrap();
    let mongod = Mutex::new(Mongod::start(dir.path()).unwrap());
    Server { mongod, databases: AtomicU64::default(), _dir: dir }
}

/// What is at an address, past the store.
#[allow(dead_code, reason = "not every test looks past the store")]
pub(crate) async fn database(address: &MongoAddress) -> mongodb::Database {
    let client = mongodb::Client::with_uri_str(address.to_string()).await.unwrap();
    client.default_database().unwrap()
}

impl Server {
    /// The address of a database that nobody uses.
    pub(crate) fn fresh_database(&self) -> MongoAddress {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        MongoAddress::new(&self.mongod().url(&format!("test-{number}")))
    }

    /// The server itself.
    pub(crate) fn mongod(&self) -> MutexGuard<'_, Mongod> {
        self.mongod.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
