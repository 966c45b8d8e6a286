//! Records into the log, and what is made from it: windows, and the rows of devices.
//!
//! Guarantees: the log counts each (device, boot, sequence) once, whatever a store or a second writer does in
//! between; what cannot be told is refused, or stored as undecided where its sender would not hear that; after
//! any error of the store, what is known here is what the store holds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall_wire::codec::Rejection;
use rollcall_wire::{DeviceId, SampleId, Slot, mutant};
use tokio::time::Instant;

use super::batch::{Batch, Draft};
use super::log_clock::LogClock;
use super::partition::Partition;
use super::restored::restored;
use super::seen::Sighting;
use crate::log::rollup::Chunk;
use crate::log::{LogStore, StoreError};
use crate::model::{Entry, Record, RecordKind, Sender, UnixMs, Verdict, WriterId};

/// How many entries are read back at a time.
const READ_ENTRIES: usize = 256;

/// How often it is said how far a long reading is.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// The most rows that are written between two flushes: messages wait so long.
const WRITE_ROWS: usize = 2048;

/// Rows are written when so many records came for each that is changed. To write a row costs MongoDB twice what a record in
/// the log does, so that all rows together cost an eighth of it (docs/decisions/0003-a-row-a-device.md).
const RECORDS_A_ROW: u64 = 16;

/// No sweep over the rows of a slot begins for fewer records than these, unless time has come. With 1,000 devices and
/// 512 in its place, rows cost MongoDB 16 of 81 bytes written a message and two thirds of its processor time. A restart
/// reads at most 262,144 records of all slots more.
const SWEEP_RECORDS_MIN: u64 = 16_384;

/// After so long a change is written in any case: with few devices, and with more than [`FEW_DEVICES`]. Answers about
/// devices are as old as this at most (docs/http.md).
const SWEEP_LATEST: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
const FEW_DEVICES: usize = 10_000;

/// Writes the log of every partition.
pub struct Ingest<S> {
    store: Arc<S>,
    partitions: Vec<Partition>,
    /// Full chunks that the store has not rolled up yet.
    unrolled: Vec<Chunk>,
    log_clock: LogClock,
    writer: WriterId,
}

impl<S: LogStore> Ingest<S> {
    /// Brings every partition to the end of its log, and its windows with it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn open(store: Arc<S>) -> Result<Self, StoreError> {
        let mut partitions = Vec::with_capacity(Slot::COUNT);
        for slot in Slot::all() {
            partitions.push(restored(&*store, slot, store.checkpoint(slot).await?).await?);
        }
        let log_clock = LogClock::new(&partitions);
        let writer = WriterId::NOBODY;
        let mut ingest = Self { store, partitions, unrolled: Vec::new(), log_clock, writer };
        let mut reported = Instant::now();
        for slot in Slot::all() {
            ingest.open_slot(slot, &mut reported).await?;
        }
        // From their ends on, and not from where they were begun to be read.
        ingest.log_clock = LogClock::new(&ingest.partitions);
        Ok(ingest)
    }

    /// Entries say that it is this one that writes them. Without, they are recognised as another's are that says nothing.
    pub fn writing_as(self, writer: WriterId) -> Self {
        Self { writer, ..self }
    }

    async fn open_slot(&mut self, slot: Slot, reported: &mut Instant) -> Result<(), StoreError> {
        let mut whole = false;
        while !whole {
            whole = self.read_on(slot, &mut Batch::default()).await? < READ_ENTRIES;
            // A long way need not be gone twice, nor what it leads to be kept in memory.
            self.roll().await?;
            self.write_due_rows().await?;
            if reported.elapsed() >= REPORT_EVERY {
                *reported = Instant::now();
                tracing::info!(%slot, entry = self.partitions[slot.index()].next(), "reading the log");
            }
        }
        self.check_length(slot)?;
        while self.partitions[slot.index()].is_sweeping() {
            self.write_due_rows().await?;
        }
        Ok(())
    }

    /// Is it known exactly which samples that this device took at `at` or later are in the log or were?
    pub fn tells_all(&self, device: &DeviceId, at: UnixMs) -> bool {
        self.partitions[Slot::of(device).index()].tells_all(device, at)
    }

    /// Is this record known to be in the log, or to have been?
    pub fn has(&self, record: &Record) -> bool {
        self.sighting(record) == Sighting::Counted
    }

    /// Was nothing ever stored?
    pub fn is_empty(&self) -> bool {
        self.partitions.iter().all(|partition| partition.next() == 0)
    }

    /// How many entries are not in the windows yet, and how many not in the rows of devices, over all slots.
    pub fn beyond_checkpoints(&self) -> (u64, u64) {
        let of = |partition: &Partition| {
            let (next, stored) = (partition.next(), partition.stored());
            (next.saturating_sub(stored.windows), next.saturating_sub(stored.rows))
        };
        self.partitions.iter().map(of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// How many devices have a row.
    pub fn devices(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.devices() as u64).sum()
    }

    /// The log time of the next entry of `slot`.
    pub fn log_time(&self, slot: Slot, now: UnixMs) -> UnixMs {
        self.log_clock.time(slot, &self.partitions[slot.index()], now)
    }

    /// Makes `records` durable, each (device, boot, sequence) once in the log's whole life.
    ///
    /// # Errors
    /// [`StoreError`]: some of them may be in the log. [`Ingest::catch_up`] before calling again.
    pub async fn commit(&mut self, records: &[Record], now: UnixMs) -> Result<Vec<Verdict>, StoreError> {
        let mut batch = Batch::new(records, &[]);
        self.advance(&mut batch, now).await?;
        Ok(batch.verdicts())
    }

    /// Settles what of a batch is not settled yet. After an error, [`Ingest::recover`] before calling again.
    pub(super) async fn advance(&mut self, batch: &mut Batch<'_>, now: UnixMs) -> Result<(), StoreError> {
        loop {
            batch.in_doubt = self.draft(batch, now);
            if batch.in_doubt.is_empty() {
                return Ok(());
            }
            let entries: Vec<_> = batch.in_doubt.iter().map(|draft| draft.entry.clone()).collect();
            let answer = self.store.append(&entries).await?;
            let taken = mutant!(FenceIgnored, Vec::new(), answer);
            // There is an answer: what was not appended is another's, however alike the two may be.
            for draft in std::mem::take(&mut batch.in_doubt) {
                if !taken.contains(&draft.entry.slot) {
                    batch.accept(&draft);
                    self.apply(&draft.entry)?;
                }
            }
            for entry in entries.iter().filter(|entry| taken.contains(&entry.slot)) {
                self.yield_to_other(entry, batch).await?;
            }
        }
    }

    /// One entry a slot with the records that are neither settled nor in the log.
    fn draft(&self, batch: &mut Batch<'_>, now: UnixMs) -> Vec<Draft> {
        let mut drafts = BTreeMap::<Slot, Draft>::new();
        let mut met = HashSet::<(DeviceId, SampleId)>::with_capacity(batch.records.len());
        for (place, record) in batch.records.iter().enumerate() {
            if batch.verdicts[place].is_some() {
                continue;
            }
            mutant!(DuplicateInFlushCounted => met.clear());
            let sender = *batch.senders.get(place).unwrap_or(&Sender::HearsRefusal);
            let kind = match (self.sighting(record), sender) {
                // The same sample is drafted already, and it is not sure yet what becomes of it.
                (Sighting::New, _) if record.id.is_some_and(|id| !met.insert((record.device, id))) => {
                    continue;
                }
                (Sighting::New, _) => record.kind,
                (Sighting::Counted, _) => {
                    batch.verdicts[place] = Some(Verdict::Duplicate);
                    continue;
                }
                (Sighting::CannotTell, Sender::HearsRefusal) => {
                    batch.verdicts[place] = Some(Verdict::Rejected(Rejection::CannotTell));
                    mutant!(SuccessForUnknown => batch.verdicts[place] = Some(Verdict::Duplicate));
                    continue;
                }
                (Sighting::CannotTell, Sender::HearsNothing) => RecordKind::Undecided,
            };
            let slot = Slot::of(&record.device);
            let draft = drafts.entry(slot).or_insert_with(|| {
                let log_time = self.log_time(slot, now);
                let number = self.partitions[slot.index()].next();
                let records = Vec::new();
                Draft {
                    entry: Entry { slot, number, writer: self.writer, received_at: now, log_time, records },
                    places: Vec::new(),
                }
            });
            draft.entry.records.push(Record { kind, ..*record });
            draft.places.push(place);
        }
        drafts.into_values().map(Draft::sorted).collect()
    }

    /// Is a record in the log? One without an identity is new as often as it comes.
    fn sighting(&self, record: &Record) -> Sighting {
        mutant!(DuplicateCounted => return Sighting::New);
        let partition = &self.partitions[Slot::of(&record.device).index()];
        record.id.map_or(Sighting::New, |id| partition.check(&record.device, id))
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
    pub(super) async fn recover(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        for slot in Slot::all() {
            self.partitions[slot.index()].abandon_sweep();
            let checkpoint = self.store.checkpoint(slot).await?;
            let known = self.partitions[slot.index()].stored();
            let is_behind = checkpoint.windows < known.windows || checkpoint.rows < known.rows;
            let lost = mutant!(StateKeptAfterError, false, is_behind);
            // Of a process that stood still while others removed what it had not read.
            let is_gone = self.partitions[slot.index()].next() < self.store.start(slot).await?.first;
            if lost {
                tracing::warn!(%slot, ?known, stored = ?checkpoint, "the store lost windows or rows that were not durable yet; they are made again from the log");
            }
            if lost || is_gone || self.partitions[slot.index()].lacks_sealed() {
                self.unrolled.retain(|chunk| chunk.slot != slot);
                self.partitions[slot.index()] = restored(&*self.store, slot, checkpoint).await?;
            }
            self.catch_up_slot(slot, batch).await?;
        }
        Ok(())
    }

    async fn catch_up_slot(&mut self, slot: Slot, batch: &mut Batch<'_>) -> Result<usize, StoreError> {
        let mut all = 0;
        loop {
            let read = self.read_on(slot, batch).await?;
            all += read;
            if read < READ_ENTRIES {
                break;
            }
        }
        self.check_length(slot)?;
        Ok(all)
    }

    /// Applies the next entries of a slot's log, if there are some; how many there were.
    async fn read_on(&mut self, slot: Slot, batch: &mut Batch<'_>) -> Result<usize, StoreError> {
        let from = self.partitions[slot.index()].next();
        let entries = self.store.read(slot, from, READ_ENTRIES).await?;
        if entries.first().is_some_and(|first| first.number > from)
            && self.store.start(slot).await?.first > from
        {
            let reason =
                format!("old messages of slot {slot} were removed while it was read; it is read again");
            return Err(StoreError::Unavailable(reason));
        }
        for entry in &entries {
            batch.recognise(entry);
            self.apply(entry)?;
        }
        Ok(entries.len())
    }

    /// A slot is read to the end of its log: is it as long as what was made from it says?
    fn check_length(&self, slot: Slot) -> Result<(), StoreError> {
        let partition = &self.partitions[slot.index()];
        let (next, stored) = (partition.next(), partition.stored());
        if next < stored.windows.max(stored.rows) {
            return Err(StoreError::Corrupt(format!(
                "the log of slot {slot} ends at {next}, before what was made from it"
            )));
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.unrolled.extend(self.partitions[entry.slot.index()].apply(entry)?);
        self.log_clock.saw(entry.slot, entry.log_time);
        Ok(())
    }

    /// Adds the full chunks to the windows.
    ///
    /// # Errors
    /// [`StoreError`]; the chunks are kept for the next call.
    pub async fn roll(&mut self) -> Result<(), StoreError> {
        if !self.unrolled.is_empty() {
            self.store.apply(&self.unrolled).await?;
            for chunk in self.unrolled.drain(..) {
                self.partitions[chunk.slot.index()].rolled(chunk.entries.end);
            }
        }
        Ok(())
    }

    /// Writes some of the rows that are due.
    ///
    /// # Errors
    /// [`StoreError`]. After it, [`Ingest::catch_up`] before calling again.
    pub async fn write_due_rows(&mut self) -> Result<(), StoreError> {
        let latest = self.sweep_latest();
        let due = |partition: &Partition| {
            let (devices, records, changed_at) = partition.changes();
            records >= (devices * RECORDS_A_ROW).max(SWEEP_RECORDS_MIN)
                || changed_at.is_some_and(|since| since.elapsed() >= latest)
        };
        self.write_rows(due).await
    }

    /// Writes all rows that are changed.
    ///
    /// # Errors
    /// As [`Ingest::write_due_rows`].
    pub async fn write_all_rows(&mut self) -> Result<(), StoreError> {
        let changed = |partition: &Partition| partition.changes().0 > 0;
        while self.partitions.iter().any(|partition| partition.is_sweeping() || changed(partition)) {
            self.write_rows(changed).await?;
        }
        Ok(())
    }

    async fn write_rows(&mut self, due: impl Fn(&Partition) -> bool) -> Result<(), StoreError> {
        let mut writes = Vec::new();
        let mut room = WRITE_ROWS;
        for partition in &mut self.partitions {
            if !partition.is_sweeping() && due(partition) {
                partition.begin_sweep();
            }
            if room > 0
                && let Some(write) = partition.write(room)
            {
                room -= write.rows.len();
                writes.push(write);
            }
        }
        mutant!(CheckpointBeforeRows => self.store.write_rows(&super::restored::without_rows(&writes)).await?);
        if !writes.is_empty() {
            self.store.write_rows(&writes).await?;
        }
        for write in &writes {
            self.partitions[write.slot.index()].written();
        }
        Ok(())
    }

    /// When rows are due whether or not messages come; `None` when nothing is changed.
    pub(super) fn rows_due_at(&self) -> Option<Instant> {
        if self.partitions.iter().any(Partition::is_sweeping) {
            return Some(Instant::now());
        }
        let oldest = self.partitions.iter().filter_map(|partition| partition.changes().2).min();
        oldest.map(|since| since + self.sweep_latest())
    }

    fn sweep_latest(&self) -> Duration {
        let devices: usize = self.partitions.iter().map(Partition::devices).sum();
        if devices <= FEW_DEVICES { SWEEP_LATEST.0 } else { SWEEP_LATEST.1 }
    }
}
