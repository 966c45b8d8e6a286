//! source → decode → seen → log → acknowledge: the loop that every message goes through.
//!
//! A message is acknowledged only after it is durable in the log or known to be there; a store that is away
//! stops the flow instead of losing it.

use std::time::Duration;

use rollcall_wire::{codec, mutant};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::Batch;
use super::decode::{Decoded, decode};
use super::flush::{FlushInterval, collect};
use super::ingest::Ingest;
use super::taken::Taken;
use super::timing::{ClockReading, Timing};
use crate::log::LogStore;
use crate::model::{Ack, Clock, Message, Record, Sender, Verdict};
use crate::ops::{Ops, Outage};

/// How long the last rows may take at the end of a drain; what is not written is made again from the log.
const LAST_SWEEP: Duration = Duration::from_secs(2);

/// Settles messages until the inbox is closed and empty.
pub(super) async fn run<S: LogStore>(
    mut ingest: Ingest<S>,
    inbox: &mut mpsc::Receiver<Message>,
    timing: &mut Timing,
    interval: FlushInterval,
    clock: &Clock,
    ops: &Ops,
) {
    let mut batch = Vec::new();
    let mut last = 0;
    ops.metrics.made_from_log(ingest.beyond_checkpoints(), ingest.devices());
    while collect(inbox, &mut batch, last, interval, ingest.rows_due_at()).await {
        last = batch.len();
        if !batch.is_empty() {
            flush(&mut ingest, timing, batch.drain(..), clock, ops).await;
        }
        roll_surely(&mut ingest, ops).await;
        ops.metrics.made_from_log(ingest.beyond_checkpoints(), ingest.devices());
    }
    if let Ok(Err(error)) = tokio::time::timeout(LAST_SWEEP, ingest.write_all_rows()).await {
        tracing::warn!(%error, "cannot store the rows of devices; the next start makes them again");
    }
}

/// Settles these messages.
async fn flush<S: LogStore>(
    ingest: &mut Ingest<S>,
    timing: &mut Timing,
    messages: impl ExactSizeIterator<Item = Message>,
    clock: &Clock,
    ops: &Ops,
) {
    let (count, begun) = (messages.len(), Instant::now());
    let mut taken = Taken::new(count, ops);
    let mut decoded = decode_all(messages, timing, &mut taken);
    decoded.date(timing);
    let verdicts = commit_surely(ingest, &decoded, clock, ops).await;
    for ((ack, record), verdict) in decoded.acks.into_iter().zip(&decoded.records).zip(verdicts) {
        taken.settled(record, verdict);
        ack.settle(verdict);
    }
    ops.metrics.flushed(count, begun.elapsed());
}

/// Records that are to be stored, who sent each, and whom to answer.
#[derive(Default)]
struct ToStore {
    records: Vec<Record>,
    /// What its message says of its device's clock, and when it came.
    clocks: Vec<Option<(ClockReading, Instant)>>,
    senders: Vec<Sender>,
    acks: Vec<Ack>,
}

impl ToStore {
    /// Dates the records, now that all messages were heard: the one that was held up least may be the last.
    fn date(&mut self, timing: &Timing) {
        for (record, clock) in self.records.iter_mut().zip(&self.clocks) {
            if let Some((reading, received)) = clock {
                timing.date(record, reading, *received);
            }
        }
    }
}

/// Settles what needs no store, and returns the rest.
fn decode_all(batch: impl Iterator<Item = Message>, timing: &mut Timing, taken: &mut Taken<'_>) -> ToStore {
    let mut decoded = ToStore::default();
    for message in batch {
        match decode(&message.incoming()) {
            Ok(Decoded::Sample(record, reading)) => {
                // A bare message may have an expiry interval of its own, which says nothing of a waiting time.
                if record.id.is_some()
                    && let Some(waited_s) = codec::waited_s(message.expiry_left_s)
                {
                    taken.waited(waited_s);
                }
                if let Some(reading) = &reading {
                    timing.hear(&record, reading, message.received.instant);
                }
                decoded.clocks.push(reading.map(|reading| (reading, message.received.instant)));
                decoded.records.push(record);
                decoded.senders.push(message.sender);
                decoded.acks.push(message.ack);
            }
            Ok(Decoded::Presence(device, announcement)) => {
                taken.presence(device, announcement, message.received.at);
                message.ack.settle(Verdict::Accepted);
            }
            Err(rejection) => {
                taken.rejected(rejection, &message.topic);
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
    clock: &Clock,
    ops: &Ops,
) -> Vec<Verdict> {
    let mut outage = Outage::new(ops);
    let mut batch = Batch::new(&to_store.records, &to_store.senders);
    while let Err(error) = ingest.advance(&mut batch, clock.now()).await {
        mutant!(AckBeforeCommit => return vec![Verdict::Accepted; to_store.records.len()]);
        outage.wait("cannot store; messages wait unacknowledged", &error).await;
        recover_surely(ingest, &mut batch, &mut outage).await;
    }
    outage.over();
    batch.verdicts()
}

/// Rolls up and writes rows, however long the store is away: what waits in memory must not pile up.
async fn roll_surely<S: LogStore>(ingest: &mut Ingest<S>, ops: &Ops) {
    let mut outage = Outage::new(ops);
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
