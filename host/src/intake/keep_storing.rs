//! The ingest loop, kept running: it is rebuilt from the store when it fails.
//!
//! The inbox is lent to the loop, so what waits in it outlives the loop. What the loop held is dropped unsettled: the
//! gateway ends the connections of these messages, a broker is asked for them again, and both come back.
//!
//! A message that makes the loop panic each time comes back too. That ends the process after a few attempts, with
//! the panic as its reason: such a message is a bug of the host, and to pass over it would be to lose it silently.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::flush::FlushInterval;
use super::ingest::Ingest;
use super::run::run;
use super::timing::Timing;
use crate::log::{LogStore, StoreError};
use crate::model::{Clock, Message, WriterId};
use crate::ops::{Failure, GivenUp, Ops, Outage, Part, Supervised, supervise};

/// Takes messages from `inbox` to `store` until the inbox is closed and empty; entries say that `writer` wrote them, and are
/// dated by `clock`. `opened` hears once that they can be stored, and whether nothing ever was.
///
/// # Errors
/// [`GivenUp`] when the store cannot be read, or the loop fails again and again.
pub async fn keep_storing<S: LogStore>(
    store: Arc<S>,
    inbox: mpsc::Receiver<Message>,
    interval: FlushInterval,
    writer: WriterId,
    clock: Clock,
    ops: Arc<Ops>,
    opened: oneshot::Sender<bool>,
) -> Result<(), GivenUp> {
    // What was received is to be stored, also while the process ends: there is nothing that stops it.
    let stop = std::future::pending();
    let ingest = IngestLoop {
        store,
        inbox,
        timing: Timing::default(),
        interval,
        writer,
        clock,
        ops: ops.clone(),
        opened: Some(opened),
    };
    supervise(Part::Ingest, &ops, stop, ingest).await
}

/// What the loop is made of anew.
struct IngestLoop<S> {
    store: Arc<S>,
    inbox: mpsc::Receiver<Message>,
    /// What is known of the devices' clocks outlives the loop too: the store knows nothing of it.
    timing: Timing,
    interval: FlushInterval,
    writer: WriterId,
    clock: Clock,
    ops: Arc<Ops>,
    opened: Option<oneshot::Sender<bool>>,
}

impl<S: LogStore> Supervised for IngestLoop<S> {
    async fn run(&mut self) -> Result<(), Failure> {
        let ingest = open(&self.store, &self.ops).await?.writing_as(self.writer);
        self.ops.healthy(Part::Ingest);
        if let Some(opened) = self.opened.take() {
            // Who does not wait for it any more is about to end the process.
            let _ = opened.send(ingest.is_empty());
        }
        run(ingest, &mut self.inbox, &mut self.timing, self.interval, &self.clock, &self.ops).await;
        Ok(())
    }
}

/// Reads the log, however long the store is away.
async fn open<S: LogStore>(store: &Arc<S>, ops: &Ops) -> Result<Ingest<S>, Failure> {
    let mut outage = Outage::new(ops);
    loop {
        match Ingest::open(store.clone()).await {
            Ok(ingest) => {
                outage.over();
                return Ok(ingest);
            }
            Err(error @ StoreError::Unavailable(_)) => outage.wait("cannot read the log", &error).await,
            Err(error @ StoreError::Corrupt(_)) => return Err(Failure::Final(error.to_string())),
        }
    }
}
