//! What the statuses are called.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use rollcall_host::model::Statuses;

/// Flags of what answers or counts.
#[derive(Debug, Args)]
pub(crate) struct StatusesArgs {
    /// A file that names the seven statuses and says of each whether it is good, a warning or bad, as docs/http.md
    /// shows. The page, its tables and the metrics use the names.
    #[arg(long, env = "ROLLCALL_STATUSES", value_name = "FILE")]
    statuses: Option<PathBuf>,
}

impl StatusesArgs {
    /// What they are called.
    ///
    /// # Errors
    /// A file that cannot be read, or that makes no sense.
    pub(crate) fn statuses(&self) -> anyhow::Result<Statuses> {
        let Some(file) = &self.statuses else { return Ok(Statuses::default()) };
        let read = || Statuses::parse(&fs::read_to_string(file)?).map_err(|error| anyhow!(error));
        read().with_context(|| format!("--statuses {}", file.display()))
    }
}
