//! source → decode → seen → log → acknowledge: the loop that every message goes through.
//!
//! A message is acknowledged only after it is durable in the log or known to be there; a store that is away
//! stops the flow instead of losing it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::decode::{Decoded, decode};
use super::flush::{FlushInterval, collect};
use super::ingest::{Batch, Ingest};
use crate::log::{LogStore, StoreError};
use crate::model::{Ack, Message, Record, Sender, UnixMs, Verdict};
use crate::ops::health::{Health, Part};
use crate::ops::tally::Tally;

/// How long the last rows may take at the end of a drain; what is not written is made again from the log.
const LAST_SWEEP: Duration = Duration::from_secs(2);

/// The pause before a store that failed is tried again: doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Settles messages until the inbox is closed and empty.
pub async fn run<S: LogStore>(
    mut ingest: Ingest<S>,
    mut inbox: mpsc::Receiver<Message>,
    interval: FlushInterval,
    health: Arc<Health>,
) {
    let mut batch = Vec::new();
    let mut tally = Tally::default();
    let mut last = 0;
    while collect(&mut inbox, &mut batch, last, interval, ingest.rows_due_at()).await {
        last = batch.len();
        if !batch.is_empty() {
            let decoded = decode_all(batch.drain(..), &mut tally);
            let verdicts = commit_surely(&mut ingest, &decoded, &health).await;
            for (ack, verdict) in decoded.acks.into_iter().zip(verdicts) {
                ack.settle(verdict);
            }
        }
        roll_surely(&mut ingest, &health).await;
    }
    if let Ok(Err(error)) = tokio::time::timeout(LAST_SWEEP, ingest.write_all_rows()).await {
        tracing::warn!(%error, "cannot store the rows of devices; the next start makes them again");
    }
}

/// Records that are to be stored, who sent each, and whom to answer.
#[derive(Default)]
struct ToStore {
    records: Vec<Record>,
    senders: Vec<Sender>,
    acks: Vec<Ack>,
}

/// Settles what needs no store, and returns the rest.
fn decode_all(batch: impl Iterator<Item = Message>, tally: &mut Tally) -> ToStore {
    let mut decoded = ToStore::default();
    for message in batch {
        match decode(&message.incoming()) {
            Ok(Decoded::Sample(record)) => {
                decoded.records.push(record);
                decoded.senders.push(message.sender);
                decoded.acks.push(message.ack);
            }
            Ok(Decoded::Presence) => message.ack.settle(Verdict::Accepted),
            Err(rejection) => {
                if let Some(total) = tally.count(rejection.name(), std::time::Instant::now()) {
                    let topic = &*message.topic;
                    tracing::warn!(%rejection, total, topic, "message rejected; the next of this name is logged in a minute");
                }
                message.ack.settle(Verdict::Rejected(rejection));
            }
        }
    }
    decoded
}

/// Commits, however long the store is away.
async fn commit_surely<S: LogStore>(
    ingest: &mut Ingest<S>,
    to_store: &ToStore,
    health: &Health,
) -> Vec<Verdict> {
    let mut outage = Outage::new(health);
    let mut batch = Batch::new(&to_store.records, &to_store.senders);
    while let Err(error) = ingest.advance(&mut batch, UnixMs::now()).await {
        outage.wait("cannot store; messages wait unacknowledged", &error).await;
        recover_surely(ingest, &mut batch, &mut outage).await;
    }
    outage.over();
    batch.verdicts()
}

/// Rolls up and writes rows, however long the store is away: what waits in memory must not pile up.
async fn roll_surely<S: LogStore>(ingest: &mut Ingest<S>, health: &Health) {
    let mut outage = Outage::new(health);
    loop {
        let rolled = match ingest.roll().await {
            Ok(()) => ingest.write_due_rows().await,
            error => error,
        };
        let Err(error) = rolled else { break };
        outage.wait("cannot store windows or rows", &error).await;
        recover_surely(ingest, &mut Batch::default(), &mut outage).await;
    }
    outage.over();
}

async fn recover_surely<S: LogStore>(ingest: &mut Ingest<S>, batch: &mut Batch<'_>, outage: &mut Outage<'_>) {
    while let Err(error) = ingest.recover(batch).await {
        outage.wait("cannot read the log", &error).await;
    }
}

/// A store that is away: readiness says so, and the pauses between attempts grow.
struct Outage<'a> {
    health: &'a Health,
    pause: Duration,
}

impl<'a> Outage<'a> {
    fn new(health: &'a Health) -> Self {
        Self { health, pause: RETRY.0 }
    }

    async fn wait(&mut self, what: &str, error: &StoreError) {
        self.health.unhealthy(Part::Store, error);
        tracing::error!(%error, retry_ms = self.pause.as_millis(), "{what}");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    fn over(self) {
        self.health.healthy(Part::Store);
    }
}
