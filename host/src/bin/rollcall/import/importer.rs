//! Records into a log, each once, whatever is there already and whoever else writes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::{LogStore, StoreError};
use rollcall_host::model::{Entry, Record, RecordKind, UnixMs, Verdict, WriterId};
use rollcall_wire::{DeviceId, SampleId, Slot};

use super::bare::Bare;

/// How many entries are read back at a time.
const READ_ENTRIES: usize = 256;

const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Importer<S> {
    store: Arc<S>,
    ingest: Ingest<S>,
    slots: BTreeMap<Slot, Known>,
}

/// The identities in a slot's log that the ingest does not know: those of all that is no device's own sample, of messages
/// without a number, and of the samples of devices of whose closed boots some are imported.
#[derive(Default)]
struct Known {
    ids: HashSet<(DeviceId, SampleId)>,
    bare: Bare,
    devices: HashSet<DeviceId>,
    /// The entries of the log that were looked at.
    next: u64,
}

impl<S: LogStore> Importer<S> {
    pub(super) async fn open(store: Arc<S>) -> Result<Self, StoreError> {
        Ok(Self { ingest: Ingest::open(store.clone()).await?, store, slots: BTreeMap::new() })
    }

    /// Makes the records durable that are not there yet, however long the store is away; says how many those were. Each has an
    /// identity.
    pub(super) async fn commit(&mut self, records: Vec<Record>) -> u64 {
        let (samples, mut others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.kind == RecordKind::Sample);
        let verdicts = self.commit_samples(&samples).await;
        let imported = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count() as u64;
        // The ingest cannot tell of a boot that is closed, but the log can.
        let closed =
            samples.into_iter().zip(verdicts).filter(|(_, verdict)| matches!(verdict, Verdict::Rejected(_)));
        others.extend(closed.map(|(sample, _)| sample));
        let mut by_slot = BTreeMap::<Slot, Vec<Record>>::new();
        for record in others {
            by_slot.entry(Slot::of(&record.device)).or_default().push(record);
        }
        let mut others = 0;
        for (slot, records) in by_slot {
            others += self.commit_others(slot, records).await;
        }
        // What is left over after an error is rolled up by the next call, or at the next start.
        if let Err(error) = self.roll().await {
            tracing::warn!(%error, "cannot roll up yet");
        }
        imported + others
    }

    async fn commit_samples(&mut self, samples: &[Record]) -> Vec<Verdict> {
        loop {
            match self.ingest.commit(samples, UnixMs::now()).await {
                Ok(verdicts) => return verdicts,
                Err(error) => wait(&error).await,
            }
            while let Err(error) = self.ingest.catch_up().await {
                wait(&error).await;
            }
        }
    }

    async fn commit_others(&mut self, slot: Slot, mut records: Vec<Record>) -> u64 {
        let known = self.slots.entry(slot).or_default();
        for sample in records.iter().filter(|record| record.kind == RecordKind::Sample) {
            if known.devices.insert(sample.device) {
                (known.next, known.bare) = (0, Bare::default());
            }
        }
        loop {
            match self.try_commit(slot, &mut records).await {
                Ok(true) => return records.len() as u64,
                // Another import, or the ingest, was there first; what it wrote is looked at.
                Ok(false) => {}
                Err(error) => wait(&error).await,
            }
        }
    }

    /// Appends those of the records that the log lacks, unless somebody else appends at the same time.
    async fn try_commit(&mut self, slot: Slot, records: &mut Vec<Record>) -> Result<bool, StoreError> {
        let known = self.slots.entry(slot).or_default();
        known.learn(&*self.store, slot).await?;
        let mut met = HashSet::new();
        records.retain(|record| {
            record.id.is_some_and(|id| {
                let identity = (record.device, id);
                !known.ids.contains(&identity) && met.insert(identity)
            })
        });
        if records.is_empty() {
            return Ok(true);
        }
        let (number, received_at) = (known.next, UnixMs::now());
        let log_time = self.ingest.log_time(slot, received_at);
        let writer = WriterId::NOBODY;
        let entry = Entry { slot, number, writer, received_at, log_time, records: records.clone() };
        Ok(self.store.append(&[entry]).await?.is_empty())
    }

    async fn roll(&mut self) -> Result<(), StoreError> {
        self.ingest.catch_up().await?;
        self.ingest.roll().await?;
        self.ingest.write_due_rows().await
    }
}

impl Known {
    /// Reads what the log holds beyond what is known.
    async fn learn<S: LogStore>(&mut self, store: &S, slot: Slot) -> Result<(), StoreError> {
        loop {
            let entries = store.read(slot, self.next, READ_ENTRIES).await?;
            for entry in &entries {
                self.next = entry.number + 1;
                for record in &entry.records {
                    let id = record.id.unwrap_or_else(|| self.bare.id(record));
                    let is_sample = record.kind == RecordKind::Sample && record.id.is_some();
                    if !is_sample || self.devices.contains(&record.device) {
                        self.ids.insert((record.device, id));
                    }
                }
            }
            if entries.len() < READ_ENTRIES {
                return Ok(());
            }
        }
    }
}

async fn wait(error: &StoreError) {
    tracing::error!(%error, "cannot store; trying again");
    tokio::time::sleep(RETRY).await;
}
