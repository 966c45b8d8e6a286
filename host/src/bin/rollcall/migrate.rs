//! `rollcall migrate`: a store that an older version wrote becomes one of today's. The log is not rewritten; it
//! may be cut off and run again.

use std::sync::Arc;

use anyhow::Context;
use rollcall_host::intake::ingest::Ingest;

use crate::config::MigrateArgs;

/// Converts, and prints how far it is.
///
/// # Errors
/// When the store cannot be read or written, or is none that can be converted.
pub(crate) async fn migrate(config: MigrateArgs) -> anyhow::Result<()> {
    let address = config.store.store()?;
    let Some(opened) = address.begin_migration(|done| println!("{done}")).await? else {
        println!("nothing to convert: the store has today's format, or there is none yet");
        return Ok(());
    };
    let store = Arc::new(opened);
    println!("making the rows of devices from the log");
    let mut ingest = Ingest::open(store.clone()).await.context("cannot read the log")?;
    ingest.write_all_rows().await.context("cannot store the rows of devices")?;
    store.end_migration().await.context("cannot set the store's format")?;
    println!("converted");
    Ok(())
}
