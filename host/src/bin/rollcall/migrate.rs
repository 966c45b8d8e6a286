//! `rollcall migrate`: a store that an older version wrote becomes one of today's. The log is not rewritten; it
//! may be cut off and run again.

use rollcall_host::intake;
use rollcall_host::log::Migration;

use crate::config::MigrateArgs;
use crate::output::Output;

/// Converts; the log says how far it is.
///
/// # Errors
/// When the store cannot be read or written, or is none that can be converted.
pub(crate) async fn migrate(config: MigrateArgs) -> anyhow::Result<()> {
    let mut output = Output::default();
    match config.store.store()?.open_to_migrate().await? {
        Migration::Nothing => {
            output.line("nothing to convert: the store has today's format, or there is none yet");
        }
        Migration::Done => output.line("converted"),
        Migration::Rebuild(older) => {
            intake::rebuild(older).await?;
            output.line("converted");
        }
    }
    Ok(output.end()?)
}
