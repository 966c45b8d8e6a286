//! Records into a log, each once, whatever is there already and whoever else writes.
//!
//! What an ingest cannot tell, the log can, and of messages that were removed, what was kept of them: the identities of
//! documents, and the days that they were of. What is of such a day, and not known to be new, is not taken.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::seen::BOOT_KEPT_MS;
use rollcall_host::log::start::Start;
use rollcall_host::log::{LogStore, StoreError};
use rollcall_host::model::{Entry, Record, RecordKind, UnixMs, Verdict, WriterId};
use rollcall_wire::{DeviceId, SampleId, Slot};

use super::bare::Bare;

/// How many entries are read back at a time.
const READ_ENTRIES: usize = 256;

const RETRY: Duration = Duration::from_secs(1);

/// How far apart two hosts may date a sample, in seconds.
const DATED_OTHERWISE_S: u64 = 3_600;

/// See the module.
pub(super) struct Importer<S> {
    store: Arc<S>,
    ingest: Ingest<S>,
    /// The log time with which each log began, of those that had entries.
    begun: [Option<UnixMs>; Slot::COUNT],
    slots: BTreeMap<Slot, Known>,
}

/// A record that is to be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) record: Record,
    /// Was its identity made of its line, here or by another host? The log may have had it without one.
    pub(super) is_bare: bool,
}

/// What became of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Committed {
    /// Those that were not there.
    pub(super) imported: u64,
    /// Those of which nobody can tell whether they were counted: they may be among messages that were removed.
    pub(super) in_doubt: u64,
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
    /// Where the log starts.
    start: Start,
}

impl<S: LogStore> Importer<S> {
    pub(super) async fn open(store: Arc<S>) -> Result<Self, StoreError> {
        let mut begun = [None; Slot::COUNT];
        for slot in Slot::all() {
            let first = store.start(slot).await?.first;
            begun[slot.index()] = store.read(slot, first, 1).await?.first().map(|entry| entry.log_time);
        }
        Ok(Self { ingest: Ingest::open(store.clone()).await?, store, begun, slots: BTreeMap::new() })
    }

    /// Makes the records durable that are not there yet, however long the store is away; says what became of them. Each has
    /// an identity.
    pub(super) async fn commit(&mut self, candidates: Vec<Candidate>) -> Committed {
        let mut starts = Vec::with_capacity(Slot::COUNT);
        for slot in Slot::all() {
            starts.push(surely(|| self.store.start(slot)).await);
        }
        let (samples, mut others): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|candidate| self.is_told(&candidate.record, &starts));
        let samples: Vec<_> = samples.into_iter().map(|candidate| candidate.record).collect();
        let verdicts = self.commit_samples(&samples).await;
        let imported = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count() as u64;
        // The ingest cannot tell of a boot that is closed, but the log can.
        let closed =
            samples.into_iter().zip(verdicts).filter(|(_, verdict)| matches!(verdict, Verdict::Rejected(_)));
        others.extend(closed.map(|(record, _)| Candidate { record, is_bare: false }));
        let mut by_slot = BTreeMap::<Slot, Vec<Candidate>>::new();
        for candidate in others {
            by_slot.entry(Slot::of(&candidate.record.device)).or_default().push(candidate);
        }
        let mut committed = Committed { imported, in_doubt: 0 };
        for (slot, records) in by_slot {
            let others = self.commit_others(slot, records).await;
            committed.imported += others.imported;
            committed.in_doubt += others.in_doubt;
        }
        // What is left over after an error is rolled up by the next call, or at the next start.
        if let Err(error) = self.roll().await {
            tracing::warn!(%error, "cannot roll up yet");
        }
        committed
    }

    /// Can the ingest tell whether this record was counted? It has forgotten boots that were silent for long, and of what
    /// was sampled within that time it knows all.
    fn is_told(&self, record: &Record, starts: &[Start]) -> bool {
        if record.id.is_none() || record.kind != RecordKind::Sample {
            return false;
        }
        let slot = Slot::of(&record.device);
        let Some(begun) = self.begun[slot.index()] else { return true };
        let start = &starts[slot.index()];
        let is_young = begun.0.saturating_add(BOOT_KEPT_MS) > self.ingest.log_time(slot, UnixMs::now()).0;
        // Another host may have dated it a little otherwise.
        let at = UnixMs(record.sampled_at.0.saturating_sub(DATED_OTHERWISE_S * 1000));
        let is_young = is_young && start.first == 0;
        is_young
            || self.ingest.has(record)
            || self.ingest.tells_all(&record.device, at) && !start.lacks(record.sampled_at.second())
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

    async fn commit_others(&mut self, slot: Slot, candidates: Vec<Candidate>) -> Committed {
        let known = self.slots.entry(slot).or_default();
        let records = candidates.iter().map(|candidate| candidate.record);
        for sample in records.filter(|record| record.kind == RecordKind::Sample) {
            if known.devices.insert(sample.device) {
                (known.next, known.bare) = (0, Bare::default());
            }
        }
        loop {
            match self.try_commit(slot, &candidates).await {
                Ok(Some(committed)) => return committed,
                // Another import, or the ingest, was there first; what it wrote is looked at.
                Ok(None) => {}
                Err(error) => wait(&error).await,
            }
        }
    }

    /// Appends those of the records that the log lacks; `None` when somebody else has appended at the same time.
    async fn try_commit(
        &mut self,
        slot: Slot,
        candidates: &[Candidate],
    ) -> Result<Option<Committed>, StoreError> {
        let known = self.slots.entry(slot).or_default();
        known.learn(&*self.store, slot).await?;
        let mut met = HashSet::new();
        let identity = |candidate: &Candidate| Some((candidate.record.device, candidate.record.id?));
        let identified = candidates.iter().filter_map(|candidate| Some((candidate, identity(candidate)?)));
        let (new, identities): (Vec<&Candidate>, Vec<_>) =
            identified.filter(|(_, identity)| !known.ids.contains(identity) && met.insert(*identity)).unzip();
        let kept = self.store.imported(&identities).await?;
        let new: Vec<_> = new.into_iter().zip(kept).filter(|(_, kept)| !kept).map(|(new, _)| *new).collect();
        let (in_doubt, lacking): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|candidate| known.may_be_removed(candidate));
        if !lacking.is_empty() {
            let (number, received_at) = (known.next, UnixMs::now());
            let log_time = self.ingest.log_time(slot, received_at);
            let (writer, records) = (WriterId::NOBODY, lacking.iter().map(|new| new.record).collect());
            let entry = Entry { slot, number, writer, received_at, log_time, records };
            if !self.store.append(&[entry]).await?.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(Committed { imported: lacking.len() as u64, in_doubt: in_doubt.len() as u64 }))
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
            if let Some(first) = entries.first().filter(|first| first.number > self.next)
                && store.start(slot).await?.first < first.number
            {
                let gone = self.next;
                return Err(StoreError::Corrupt(format!("entry {gone} of slot {slot} is gone")));
            }
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
                // Only now: what was removed while the log was read is of days that it tells.
                self.start = store.start(slot).await?;
                return Ok(());
            }
        }
    }

    /// May it be among the messages that were removed? Another host may have dated it a little otherwise. Of documents the
    /// identities were kept.
    fn may_be_removed(&self, candidate: &Candidate) -> bool {
        if candidate.record.kind == RecordKind::Imported && !candidate.is_bare {
            return false;
        }
        let second = candidate.record.sampled_at.second();
        [second.saturating_sub(DATED_OTHERWISE_S), second, second.saturating_add(DATED_OTHERWISE_S)]
            .iter()
            .any(|second| self.start.lacks(*second))
    }
}

/// What the store says, however long it is away.
async fn surely<T, F: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(said) => return said,
            Err(error) => wait(&error).await,
        }
    }
}

async fn wait(error: &StoreError) {
    tracing::error!(%error, "cannot store; trying again");
    tokio::time::sleep(RETRY).await;
}
