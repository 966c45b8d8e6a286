//! source → decode → seen → log → acknowledge: the path of every message.
//!
//! Guarantees: a message is acknowledged only after it is durable in the log or known to be there; the log
//! holds each (device, boot, sequence) once, whatever a store or a second writer does in between; a store
//! that is away stops the flow instead of losing it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_wire::codec::Rejection;
use rollcall_wire::{DeviceId, SampleId, Slot};
use tokio::sync::mpsc;

use super::decode::{Decoded, decode};
use super::partition::Partition;
use super::seen::Sighting;
use crate::log::rollup::{CHUNK_ENTRIES, Chunk};
use crate::log::{LogStore, StoreError};
use crate::model::{Ack, Entry, Message, Record, UnixMs, Verdict};
use crate::ops::health::{Health, Part};
use crate::ops::tally::Tally;

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

impl Draft {
    /// Is this what became of the draft in the log? A store may change the order of streams in an entry.
    fn is(&self, entry: &Entry) -> bool {
        let sorted = |entry: &Entry| {
            let mut records = entry.records.clone();
            records.sort_by_key(|record| (record.device, record.id.map(|id| id.boot)));
            records
        };
        let of = |entry: &Entry| (entry.slot, entry.number, entry.received_at);
        of(&self.entry) == of(entry) && sorted(&self.entry) == sorted(entry)
    }
}

/// Records on their way into the log, and what became of each so far, over all attempts.
#[derive(Default)]
struct Batch<'a> {
    records: &'a [Record],
    verdicts: Vec<Option<Verdict>>,
    /// Appended without an answer: each is in the log or not.
    in_doubt: Vec<Draft>,
}

impl<'a> Batch<'a> {
    fn new(records: &'a [Record]) -> Self {
        Self { records, verdicts: vec![None; records.len()], in_doubt: Vec::new() }
    }

    fn accept(&mut self, places: &[usize]) {
        places.iter().for_each(|place| self.verdicts[*place] = Some(Verdict::Accepted));
    }

    /// An entry of the log was read; it may be one that we had lost sight of.
    fn recognise(&mut self, entry: &Entry) {
        if let Some(at) = self.in_doubt.iter().position(|draft| draft.is(entry)) {
            let draft = self.in_doubt.swap_remove(at);
            self.accept(&draft.places);
        }
    }
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
        let mut batch = Batch::new(records);
        self.advance(&mut batch, now).await?;
        Ok(batch.verdicts.into_iter().flatten().collect())
    }

    /// Settles what of a batch is not settled yet. After an error, [`Ingest::recover`] before calling again.
    async fn advance(&mut self, batch: &mut Batch<'_>, now: UnixMs) -> Result<(), StoreError> {
        loop {
            batch.in_doubt = self.draft(batch, now);
            if batch.in_doubt.is_empty() {
                return Ok(());
            }
            let entries: Vec<_> = batch.in_doubt.iter().map(|draft| draft.entry.clone()).collect();
            let taken = self.store.append(&entries).await?;
            let (lost, won): (Vec<_>, Vec<_>) = std::mem::take(&mut batch.in_doubt)
                .into_iter()
                .partition(|draft| taken.contains(&draft.entry.slot));
            batch.in_doubt = lost;
            for draft in won {
                batch.accept(&draft.places);
                self.apply(&draft.entry)?;
            }
            for entry in entries.iter().filter(|entry| taken.contains(&entry.slot)) {
                self.yield_to_other(entry, batch).await?;
            }
        }
    }

    /// One entry a slot with the records that are neither settled nor in the log.
    fn draft(&mut self, batch: &mut Batch<'_>, now: UnixMs) -> Vec<Draft> {
        let Batch { records, verdicts, .. } = batch;
        let mut drafts = BTreeMap::<Slot, Draft>::new();
        let mut met = HashSet::<(DeviceId, SampleId)>::with_capacity(records.len());
        for (place, record) in records.iter().enumerate() {
            if verdicts[place].is_some() {
                continue;
            }
            let slot = Slot::of(&record.device);
            let partition = &self.partitions[slot.index()];
            if let Some(id) = record.id {
                let sighting = partition.check(&record.device, id);
                if sighting == Sighting::CannotTell {
                    verdicts[place] = Some(Verdict::Rejected(Rejection::CannotTell));
                    if let Some(total) = self.tally.count(Rejection::CannotTell.name(), Instant::now()) {
                        let (device, boot, seq) = (record.device, id.boot, id.seq.get());
                        tracing::warn!(%device, %boot, seq, total, "cannot_tell: behind the bounds of what is known of its boot, and not counted; the next is logged in a minute");
                    }
                    continue;
                }
                if sighting == Sighting::Counted || !met.insert((record.device, id)) {
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
    async fn yield_to_other(&mut self, entry: &Entry, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        tracing::warn!(slot = %entry.slot, number = entry.number, "another worker writes this slot too; nothing is lost, but give each slot to one worker");
        match self.catch_up_slot(entry.slot, batch).await? {
            0 => Err(StoreError::Corrupt(format!(
                "entry {} of slot {} is taken, but not there",
                entry.number, entry.slot
            ))),
            _ => Ok(()),
        }
    }

    /// Brings the state to what the store holds, whatever an error has left open: what was written, and what
    /// the store has forgotten of that which needed no durability of its own.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn catch_up(&mut self) -> Result<(), StoreError> {
        self.recover(&mut Batch::default()).await
    }

    /// As [`Ingest::catch_up`], and settles the records of `batch` that are found in the log.
    async fn recover(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        for slot in Slot::all() {
            let checkpoint = self.store.checkpoint(slot).await?;
            if checkpoint.next < self.rolled(slot) {
                let (rolled, next) = (self.rolled(slot), checkpoint.next);
                tracing::warn!(%slot, rolled, next, "the store lost rollups that were not durable yet; they are made again from the log");
                self.unrolled.retain(|chunk| chunk.slot != slot);
                self.partitions[slot.index()] = Partition::restore(slot, &checkpoint)?;
            }
            self.catch_up_slot(slot, batch).await?;
        }
        Ok(())
    }

    /// Up to where the store has rolled up a slot, as far as is known here.
    fn rolled(&self, slot: Slot) -> u64 {
        let next = self.partitions[slot.index()].next();
        let waiting = self.unrolled.iter().find(|chunk| chunk.slot == slot);
        waiting.map_or(next - next % CHUNK_ENTRIES, |chunk| chunk.entries.start)
    }

    async fn catch_up_slot(&mut self, slot: Slot, batch: &mut Batch<'_>) -> Result<usize, StoreError> {
        let mut read = 0;
        loop {
            let from = self.partitions[slot.index()].next();
            let entries = self.store.read(slot, from, READ_ENTRIES).await?;
            for entry in &entries {
                batch.recognise(entry);
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
    let mut batch = Batch::new(records);
    while let Err(error) = ingest.advance(&mut batch, UnixMs::now()).await {
        outage.wait("cannot store; messages wait unacknowledged", &error).await;
        recover_surely(ingest, &mut batch, &mut outage).await;
    }
    outage.over();
    batch.verdicts.into_iter().flatten().collect()
}

/// Rolls up, however long the store is away: chunks that wait in memory must not pile up.
async fn roll_surely<S: LogStore>(ingest: &mut Ingest<S>, health: &Health) {
    let mut outage = Outage::new(health);
    while let Err(error) = ingest.roll().await {
        outage.wait("cannot roll up", &error).await;
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
