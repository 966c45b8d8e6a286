//! `rollcall import`: the documents of an older program into the log, each once however often it is run.
//!
//! The log itself says what is there already: the identity of a document is a hash of its `_id`, and the
//! importer reads those of its device before every entry that it appends.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::mongo::{Documents, Fields, Refusal};
use rollcall_host::log::{AnyStore, LogStore, StoreError};
use rollcall_host::model::{Entry, Record, RecordKind, UnixMs};
use rollcall_wire::{DeviceId, SampleId, Slot};

use crate::config::ImportArgs;
use crate::output::Output;

/// As many as one flush of the ingest holds.
const BATCH: usize = 4096;

/// How many entries are read back at a time.
const READ_ENTRIES: usize = 256;

const PROGRESS_EVERY: Duration = Duration::from_secs(5);

const RETRY: Duration = Duration::from_secs(1);

/// What an import came to.
#[derive(Debug, Default)]
struct Summary {
    read: u64,
    imported: u64,
    known: u64,
    refused: BTreeMap<Refusal, u64>,
}

impl Summary {
    /// What became of the documents, line by line.
    fn lines(&self, device: DeviceId) -> Vec<String> {
        let mut lines = vec![
            format!("{} documents read", self.read),
            format!("{} imported as device {device}", self.imported),
            format!("{} were there already", self.known),
        ];
        lines.extend(self.refused.iter().map(|(refusal, count)| format!("{count} refused: {refusal}")));
        lines
    }

    /// A script has to see that documents are missing.
    fn code(&self) -> ExitCode {
        if self.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Imports, and prints what became of the documents; fails when some were refused.
///
/// # Errors
/// When the source cannot be read, or the store not be opened.
pub(crate) async fn import(config: ImportArgs) -> anyhow::Result<ExitCode> {
    let fields = Fields { status: config.status_field.clone(), timestamp: config.timestamp_field.clone() };
    let documents = Documents::open(&config.from()?, fields).await?;
    tracing::info!(documents = documents.total(), "importing");
    let store = config.store.store()?.open().await?;
    let summary = run(store, documents, config.device).await?;
    let mut output = Output::default();
    summary.lines(config.device).iter().for_each(|line| output.line(line));
    output.end()?;
    Ok(summary.code())
}

async fn run(store: AnyStore, mut documents: Documents, device: DeviceId) -> anyhow::Result<Summary> {
    let store = Arc::new(store);
    let mut importer = Importer::open(store, device).await.context("cannot read the log")?;
    let mut summary = Summary::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut reported = Instant::now();
    loop {
        let next = documents.next().await.context("cannot read the documents; run the import again")?;
        let last = next.is_none();
        match next {
            Some(Ok(sample)) if importer.known.contains(&sample.id) => summary.known += 1,
            Some(Ok(sample)) => batch.push(Record {
                device,
                id: Some(sample.id),
                status: sample.status,
                kind: RecordKind::Imported,
                sampled_at: sample.sampled_at,
                time_error: sample.time_error,
                received_at: UnixMs::now(),
            }),
            Some(Err(refusal)) => *summary.refused.entry(refusal).or_default() += 1,
            None => {}
        }
        summary.read += u64::from(!last);
        if batch.len() == BATCH || last {
            let read = batch.len();
            let imported = importer.commit(std::mem::take(&mut batch)).await;
            summary.imported += imported as u64;
            summary.known += (read - imported) as u64;
        }
        if last {
            return Ok(summary);
        }
        if reported.elapsed() >= PROGRESS_EVERY {
            reported = Instant::now();
            tracing::info!(
                read = summary.read,
                of = documents.total(),
                imported = summary.imported,
                "importing"
            );
        }
    }
}

struct Importer {
    store: Arc<AnyStore>,
    ingest: Ingest<AnyStore>,
    slot: Slot,
    device: DeviceId,
    /// The identities of the device's samples in the log.
    known: HashSet<SampleId>,
    /// The entries of the log that `known` knows.
    next: u64,
}

impl Importer {
    async fn open(store: Arc<AnyStore>, device: DeviceId) -> Result<Self, StoreError> {
        let ingest = Ingest::open(store.clone()).await?;
        let mut importer =
            Self { store, ingest, slot: Slot::of(&device), device, known: HashSet::new(), next: 0 };
        importer.learn().await?;
        Ok(importer)
    }

    /// Reads what the log holds beyond what is known.
    async fn learn(&mut self) -> Result<(), StoreError> {
        loop {
            let entries = self.store.read(self.slot, self.next, READ_ENTRIES).await?;
            for entry in &entries {
                self.next = entry.number + 1;
                let ours = entry.records.iter().filter(|record| record.device == self.device);
                self.known.extend(ours.filter_map(|record| record.id));
            }
            if entries.len() < READ_ENTRIES {
                return Ok(());
            }
        }
    }

    /// Makes the records durable, however long the store is away; says how many were not there yet.
    async fn commit(&mut self, mut records: Vec<Record>) -> usize {
        loop {
            match self.try_commit(&mut records).await {
                Ok(true) => return records.len(),
                // Another import, or the ingest, was there first; what it wrote is looked at.
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot store; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Appends those of the records that the log lacks, unless somebody else appends at the same time. Not by
    /// [`Ingest::commit`], which looks for a device's last boots only: each document has one of its own.
    async fn try_commit(&mut self, records: &mut Vec<Record>) -> Result<bool, StoreError> {
        self.learn().await?;
        records.retain(|record| record.id.is_none_or(|id| !self.known.contains(&id)));
        if records.is_empty() {
            return Ok(true);
        }
        let received_at = UnixMs::now();
        let log_time = self.ingest.log_time(self.slot, received_at);
        let entry =
            Entry { slot: self.slot, number: self.next, received_at, log_time, records: records.clone() };
        if !self.store.append(&[entry]).await?.is_empty() {
            return Ok(false);
        }
        // What is left over after an error is rolled up by the next call, or at the next start.
        if let Err(error) = self.roll().await {
            tracing::warn!(%error, "cannot roll up yet");
        }
        Ok(true)
    }

    async fn roll(&mut self) -> Result<(), StoreError> {
        self.ingest.catch_up().await?;
        self.ingest.roll().await?;
        self.ingest.write_due_rows().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_fails_when_a_document_was_refused_and_says_why() {
        let device = DeviceId::new("imported").unwrap();
        let mut summary = Summary { read: 3, imported: 2, known: 1, ..Summary::default() };
        assert_eq!(summary.code(), ExitCode::SUCCESS);
        summary.refused.insert(Refusal::MillisecondTimestamp, 1);
        assert_eq!(summary.code(), ExitCode::FAILURE);
        let said = summary.lines(device).join("\n");
        assert!(said.contains("1 refused: timestamp in milliseconds"), "{said}");
    }
}
