//! `rollcall import`: messages of a file, or the documents of an older program, into the log, each once however often it is run.
//!
//! The log itself says what is there already. The identity of a document is a hash of its `_id`, and that of a message without
//! a number one of its line.

mod bare;
mod importer;
mod lines;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rollcall_host::log::AnyStore;
#[cfg(feature = "mongodb")]
use rollcall_host::log::mongo::Documents;
#[cfg(feature = "mongodb")]
use rollcall_host::model::{Record, RecordKind, UnixMs};
#[cfg(feature = "mongodb")]
use rollcall_wire::DeviceId;

use self::importer::{Candidate, Committed, Importer};
use self::lines::Lines;
use crate::config::{From, ImportArgs};
use crate::output::Output;

/// As many as one flush of the ingest holds.
const BATCH: usize = 4096;

/// Why a message is not taken that is one.
const IN_DOUBT: &str =
    "of days of which the store has removed messages: nobody can tell whether it was counted";

const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What an import came to.
#[derive(Debug, Default)]
struct Summary {
    read: u64,
    imported: u64,
    known: u64,
    refused: BTreeMap<String, u64>,
}

impl Summary {
    /// What became of them, line by line; `what` they are.
    fn lines(&self, what: &str) -> Vec<String> {
        let mut lines = vec![
            format!("{} {what} read", self.read),
            format!("{} imported", self.imported),
            format!("{} were there already", self.known),
        ];
        lines.extend(self.refused.iter().map(|(refusal, count)| format!("{count} refused: {refusal}")));
        lines
    }

    /// A script has to see that something is missing.
    fn code(&self) -> ExitCode {
        if self.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Where they come from.
enum Source {
    Lines(Lines),
    /// Documents, and the device that they are counted for.
    #[cfg(feature = "mongodb")]
    Documents(Box<Documents>, DeviceId),
}

impl Source {
    async fn open(config: &ImportArgs) -> anyhow::Result<Self> {
        match config.from()? {
            From::File(path) => Ok(Self::Lines(Lines::open(&path)?)),
            #[cfg(feature = "mongodb")]
            From::Mongo(address) => {
                let documents = Documents::open(&address, config.fields()).await?;
                tracing::info!(documents = documents.total(), "importing");
                Ok(Self::Documents(Box::new(documents), config.device))
            }
        }
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Lines(_) => "messages",
            #[cfg(feature = "mongodb")]
            Self::Documents(..) => "documents",
        }
    }

    /// The next one, or why it is none.
    async fn next(&mut self) -> anyhow::Result<Option<Result<Candidate, String>>> {
        match self {
            Self::Lines(lines) => {
                let next = lines.next().context("cannot read the file; run the import again")?;
                Ok(next.map(|line| line.map_err(|error| error.to_string())))
            }
            #[cfg(feature = "mongodb")]
            Self::Documents(documents, device) => {
                let next =
                    documents.next().await.context("cannot read the documents; run the import again")?;
                let record = |sample: rollcall_host::log::mongo::Sample| Record {
                    device: *device,
                    id: Some(sample.id),
                    status: sample.status,
                    kind: RecordKind::Imported,
                    sampled_at: sample.sampled_at,
                    time_error: sample.time_error,
                    received_at: UnixMs::now(),
                };
                let candidate = |sample| Candidate { record: record(sample), is_bare: false };
                Ok(next.map(|document| document.map(candidate).map_err(|refusal| refusal.to_string())))
            }
        }
    }
}

/// Imports, and prints what became of them; fails when some were refused.
///
/// # Errors
/// When the source cannot be read, or the store not be opened.
pub(crate) async fn import(config: ImportArgs) -> anyhow::Result<ExitCode> {
    let mut source = Source::open(&config).await?;
    let store = Arc::new(config.store.store()?.open().await?);
    let summary = run(store, &mut source).await?;
    let mut output = Output::default();
    summary.lines(source.what()).iter().for_each(|line| output.line(line));
    if let Source::Lines(lines) = &source
        && !lines.is_complete()
    {
        output.line("the file does not say that it is complete, as one of /v1/messages does in its last line: there may be more");
    }
    output.end()?;
    Ok(summary.code())
}

async fn run(store: Arc<AnyStore>, source: &mut Source) -> anyhow::Result<Summary> {
    let mut importer = Importer::open(store).await.context("cannot read the log")?;
    let mut summary = Summary::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut reported = Instant::now();
    loop {
        let next = source.next().await?;
        let last = next.is_none();
        match next {
            Some(Ok(candidate)) => batch.push(candidate),
            Some(Err(refusal)) => *summary.refused.entry(refusal).or_default() += 1,
            None => {}
        }
        summary.read += u64::from(!last);
        if batch.len() == BATCH || last {
            let read = batch.len() as u64;
            let Committed { imported, in_doubt } = importer.commit(std::mem::take(&mut batch)).await;
            summary.imported += imported;
            summary.known += read - imported - in_doubt;
            if in_doubt > 0 {
                *summary.refused.entry(IN_DOUBT.to_owned()).or_default() += in_doubt;
            }
        }
        if last {
            return Ok(summary);
        }
        if reported.elapsed() >= PROGRESS_EVERY {
            reported = Instant::now();
            tracing::info!(read = summary.read, imported = summary.imported, "importing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_fails_when_a_document_was_refused_and_says_why() {
        let mut summary = Summary { read: 3, imported: 2, known: 1, ..Summary::default() };
        assert_eq!(summary.code(), ExitCode::SUCCESS);
        summary.refused.insert("no status".to_owned(), 1);
        assert_eq!(summary.code(), ExitCode::FAILURE);
        let said = summary.lines("documents").join("\n");
        assert!(said.contains("1 refused: no status"), "{said}");
    }
}
