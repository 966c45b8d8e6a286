//! `rollcall migrate`: a store that an older version wrote becomes one of today's. The log is not rewritten; it
//! may be cut off and run again.

use std::sync::Arc;

use anyhow::Context;
use rollcall_host::intake::ingest::Ingest;

use crate::config::MigrateArgs;
use crate::output::Output;

/// Converts, and prints how far it is.
///
/// # Errors
/// When the store cannot be read or written, or is none that can be converted.
pub(crate) async fn migrate(config: MigrateArgs) -> anyhow::Result<()> {
    let address = config.store.store()?;
    let mut output = Output::default();
    let Some(opened) = address.begin_migration(|done| output.line(done)).await? else {
        output.line("nothing to convert: the store has today's format, or there is none yet");
        return Ok(output.end()?);
    };
    let store = Arc::new(opened);
    output.line("making the rows of devices from the log");
    let mut ingest = Ingest::open(store.clone()).await.context("cannot read the log")?;
    ingest.write_all_rows().await.context("cannot store the rows of devices")?;
    store.end_migration().await.context("cannot set the store's format")?;
    output.line("converted");
    Ok(output.end()?)
}
