//! source → decode → dedupe → log → acknowledge: the path of every message.
//!
//! Guarantees: a message is acknowledged only after it is durable in the log or known to be there; the log
//! holds each (device, boot, sequence) once, whatever a store or a second writer does in between; a store
//! that is away stops the flow instead of losing it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_wire::{DeviceId, SampleId, Slot};
use tokio::sync::mpsc;

use crate::decode::{Decoded, Tally, decode};
use crate::dedupe::Seen;
use crate::health::{Health, Part};
use crate::log::{Entry, LogStore, Record, StoreError};
use crate::partition::Partition;
use crate::rollup::Chunk;
use crate::source::{Ack, Message, Verdict};
use crate::time::UnixMs;

/// The most messages in one flush.
pub const FLUSH_MESSAGES: usize = 4096;

/// Under load the next flush waits so long for more messages, so that an entry is worth its fsync.
const LINGER: Duration = Duration::from_millis(2);

/// A flush of so many messages says that there is load; so many waiting ones say that lingering gains nothing.
const LOAD_MESSAGES: usize = 16;
const ENOUGH_MESSAGES: usize = 256;

/// How many entries are read back at a time.
const READ_ENTRIES: usize = 256;

/// The pause before a store that failed is tried again: doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Writes the log of every partition.
pub struct Ingest<S> {
    store: Arc<S>,
    partitions: Vec<Partition>,
    /// Full chunks that the store has not rolled up yet.
    unrolled: Vec<Chunk>,
    tally: Tally,
}

/// An entry to be appended, and which of the records it holds.
struct Draft {
    entry: Entry,
    places: Vec<usize>,
}

impl<S: LogStore> Ingest<S> {
    /// Brings every partition to the end of its log, and its windows with it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn open(store: Arc<S>) -> Result<Self, StoreError> {
        let mut partitions = Vec::with_capacity(Slot::COUNT);
        for slot in Slot::all() {
            partitions.push(Partition::restore(slot, &store.checkpoint(slot).await?)?);
        }
        let mut ingest = Self { store, partitions, unrolled: Vec::new(), tally: Tally::default() };
        ingest.catch_up().await?;
        ingest.roll().await?;
        Ok(ingest)
    }

    /// Was nothing ever stored?
    pub fn is_empty(&self) -> bool {
        self.partitions.iter().all(|partition| partition.next() == 0)
    }

    /// Makes `records` durable, each (device, boot, sequence) once in the log's whole life.
    ///
    /// # Errors
    /// [`StoreError`]: some of them may be in the log. [`Ingest::catch_up`] before calling again.
    pub async fn commit(&mut self, records: &[Record], now: UnixMs) -> Result<Vec<Verdict>, StoreError> {
        let mut verdicts = vec![None; records.len()];
        loop {
            let drafts = self.draft(records, &mut verdicts, now);
            if drafts.is_empty() {
                return Ok(verdicts
                    .into_iter()
                    .map(|verdict| verdict.unwrap_or(Verdict::Duplicate))
                    .collect());
            }
            let (entries, places): (Vec<_>, Vec<_>) =
                drafts.into_iter().map(|draft| (draft.entry, draft.places)).unzip();
            let taken = self.store.append(&entries).await?;
            for (entry, places) in entries.iter().zip(places) {
                if taken.contains(&entry.slot) {
                    self.yield_to_other(entry).await?;
                } else {
                    self.apply(entry)?;
                    places.iter().for_each(|place| verdicts[*place] = Some(Verdict::Accepted));
                }
            }
        }
    }

    /// One entry a slot with the records that are neither settled nor in the log.
    fn draft(&mut self, records: &[Record], verdicts: &mut [Option<Verdict>], now: UnixMs) -> Vec<Draft> {
        let mut drafts = BTreeMap::<Slot, Draft>::new();
        let mut met = HashSet::<(DeviceId, SampleId)>::with_capacity(records.len());
        for (place, record) in records.iter().enumerate() {
            if verdicts[place].is_some() {
                continue;
            }
            let slot = Slot::of(&record.device);
            let partition = &self.partitions[slot.index()];
            if let Some(id) = record.id {
                let seen = partition.check(&record.device, id);
                if seen == Seen::BelowWindow
                    && let Some(total) = self.tally.count("below_window", Instant::now())
                {
                    let (device, boot, seq) = (record.device, id.boot, id.seq.get());
                    tracing::warn!(%device, %boot, seq, total, "below_window: far behind its boot's newest sample, taken for a duplicate");
                }
                if seen != Seen::New || !met.insert((record.device, id)) {
                    verdicts[place] = Some(Verdict::Duplicate);
                    continue;
                }
            }
            let draft = drafts.entry(slot).or_insert_with(|| Draft {
                entry: Entry { slot, number: partition.next(), received_at: now, records: Vec::new() },
                places: Vec::new(),
            });
            draft.entry.records.push(*record);
            draft.places.push(place);
        }
        drafts.into_values().collect()
    }

    /// Another writer had this entry's number: takes over what it wrote.
    async fn yield_to_other(&mut self, entry: &Entry) -> Result<(), StoreError> {
        tracing::warn!(slot = %entry.slot, number = entry.number, "another worker writes this slot too; nothing is lost, but give each slot to one worker");
        match self.catch_up_slot(entry.slot).await? {
            0 => Err(StoreError::Corrupt(format!(
                "entry {} of slot {} is taken, but not there",
                entry.number, entry.slot
            ))),
            _ => Ok(()),
        }
    }

    /// Reads what the log holds beyond what is known here.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn catch_up(&mut self) -> Result<(), StoreError> {
        for slot in Slot::all() {
            self.catch_up_slot(slot).await?;
        }
        Ok(())
    }

    async fn catch_up_slot(&mut self, slot: Slot) -> Result<usize, StoreError> {
        let mut read = 0;
        loop {
            let from = self.partitions[slot.index()].next();
            let entries = self.store.read(slot, from, READ_ENTRIES).await?;
            for entry in &entries {
                self.apply(entry)?;
            }
            read += entries.len();
            if entries.len() < READ_ENTRIES {
                return Ok(read);
            }
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.unrolled.extend(self.partitions[entry.slot.index()].apply(entry)?);
        Ok(())
    }

    /// Adds the full chunks to the windows.
    ///
    /// # Errors
    /// [`StoreError`]; the chunks are kept for the next call.
    pub async fn roll(&mut self) -> Result<(), StoreError> {
        if !self.unrolled.is_empty() {
            self.store.apply(&self.unrolled).await?;
            self.unrolled.clear();
        }
        Ok(())
    }
}

/// Settles messages until the inbox is closed and empty.
pub async fn run<S: LogStore>(
    mut ingest: Ingest<S>,
    mut inbox: mpsc::Receiver<Message>,
    health: Arc<Health>,
) {
    let mut batch = Vec::new();
    let mut last = 0;
    while collect(&mut inbox, &mut batch, last).await {
        last = batch.len();
        let (records, acks) = decode_all(batch.drain(..), &mut ingest.tally);
        let verdicts = commit_surely(&mut ingest, &records, &health).await;
        for (ack, verdict) in acks.into_iter().zip(verdicts) {
            ack.settle(verdict);
        }
        roll_surely(&mut ingest, &health).await;
    }
}

/// Waits for messages; false when there will be none.
async fn collect(inbox: &mut mpsc::Receiver<Message>, batch: &mut Vec<Message>, last: usize) -> bool {
    if inbox.recv_many(batch, FLUSH_MESSAGES).await == 0 {
        return false;
    }
    if last >= LOAD_MESSAGES && batch.len() < ENOUGH_MESSAGES {
        tokio::time::sleep(LINGER).await;
        while batch.len() < FLUSH_MESSAGES {
            let Ok(message) = inbox.try_recv() else { break };
            batch.push(message);
        }
    }
    true
}

/// Settles what needs no store, and returns the rest.
fn decode_all(batch: impl Iterator<Item = Message>, tally: &mut Tally) -> (Vec<Record>, Vec<Ack>) {
    let (mut records, mut acks) = (Vec::new(), Vec::new());
    for message in batch {
        match decode(&message.incoming()) {
            Ok(Decoded::Sample(record)) => {
                records.push(record);
                acks.push(message.ack);
            }
            Ok(Decoded::Presence) => message.ack.settle(Verdict::Accepted),
            Err(rejection) => {
                if let Some(total) = tally.count(rejection.name(), Instant::now()) {
                    let topic = &*message.topic;
                    tracing::warn!(%rejection, total, topic, "message rejected; the next of this name is logged in a minute");
                }
                message.ack.settle(Verdict::Rejected(rejection));
            }
        }
    }
    (records, acks)
}

/// Commits, however long the store is away.
async fn commit_surely<S: LogStore>(
    ingest: &mut Ingest<S>,
    records: &[Record],
    health: &Health,
) -> Vec<Verdict> {
    let mut outage = Outage::new(health);
    loop {
        match ingest.commit(records, UnixMs::now()).await {
            Ok(verdicts) => {
                outage.over();
                return verdicts;
            }
            Err(error) => outage.wait("cannot store; messages wait unacknowledged", &error).await,
        }
        while let Err(error) = ingest.catch_up().await {
            outage.wait("cannot read the log", &error).await;
        }
    }
}

/// Rolls up, however long the store is away: chunks that wait in memory must not pile up.
async fn roll_surely<S: LogStore>(ingest: &mut Ingest<S>, health: &Health) {
    let mut outage = Outage::new(health);
    while let Err(error) = ingest.roll().await {
        outage.wait("cannot roll up", &error).await;
    }
    outage.over();
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
        self.health.ill(Part::Store, error);
        tracing::error!(%error, retry_ms = self.pause.as_millis(), "{what}");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    fn over(self) {
        self.health.well(Part::Store);
    }
}
