//! `rollcall backup`: a copy of the store, also while another process uses it.

use std::time::Duration;

use rollcall_host::log::redb::Progress;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use crate::config::BackupArgs;
use crate::output::Output;

const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Makes the copy, and says how much is in it.
///
/// # Errors
/// Why there is none.
pub(crate) async fn backup(config: BackupArgs) -> anyhow::Result<()> {
    let store = config.store.store()?;
    let (sender, progress) = watch::channel(Progress::default());
    let mut making = std::pin::pin!(store.backup(&config.to, sender));
    let mut ticks = interval_at(Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
    let made = loop {
        tokio::select! {
            made = &mut making => break made?,
            _ = ticks.tick() => {
                let Progress { rows, of } = *progress.borrow();
                tracing::info!(rows, of, "copying");
            }
        }
    };
    let mut output = Output::default();
    output.line(format_args!("{} rows copied to {}", made.rows, config.to.display()));
    Ok(output.end()?)
}
