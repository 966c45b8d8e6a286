//! `rollcall compact`: a store's file made smaller, while nobody uses it.

use crate::config::CompactArgs;
use crate::output::Output;

/// Makes it smaller, and says by how much.
///
/// # Errors
/// Why it is as long as before.
pub(crate) async fn compact(config: CompactArgs) -> anyhow::Result<()> {
    let compacted = config.store.store()?.compact().await?;
    let mut output = Output::default();
    output.line(format_args!("{} bytes before, {} after", compacted.before, compacted.after));
    Ok(output.end()?)
}
