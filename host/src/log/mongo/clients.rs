//! The driver's clients of one store: one in each runtime that uses it.
//!
//! The tasks of a client run in the runtime in which it was made. Called from another one, each command waits some times
//! more for a thread to wake up.

use std::sync::{Mutex, PoisonError};

use mongodb::error::Error;
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};
use tokio::runtime::{Handle, Id};

/// A runtime that ended leaves its client. So many are kept at most, which is more than a process has runtimes.
const CLIENTS_MAX: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Clients {
    options: ClientOptions,
    database: String,
    /// Never empty. The first belongs to the runtime in which the store was opened.
    made: Mutex<Vec<(Id, Client)>>,
}

impl Clients {
    /// Makes the client of this runtime.
    pub(super) fn new(options: ClientOptions, database: String) -> Result<Self, Error> {
        let client = Client::with_options(options.clone())?;
        Ok(Self { options, database, made: Mutex::new(vec![(Handle::current().id(), client)]) })
    }

    /// The client of the runtime that asks.
    pub(super) fn here(&self) -> Client {
        let here = Handle::current().id();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = made.iter().find(|(runtime, _)| *runtime == here) {
            return client.clone();
        }
        // What was accepted once may not be again: files that an address names may be gone.
        let client = Client::with_options(self.options.clone()).unwrap_or_else(|_| made[0].1.clone());
        if made.len() == CLIENTS_MAX {
            made.remove(1);
        }
        made.push((here, client.clone()));
        client
    }

    /// The store's database, by the client of the runtime that asks.
    pub(super) fn database(&self) -> Database {
        self.here().database(&self.database)
    }
}
