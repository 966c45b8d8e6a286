//! How messages are stored.

use clap::Args;
use rollcall_host::intake::FlushInterval;

/// Flags of the intake.
#[derive(Debug, Args)]
pub(crate) struct IntakeArgs {
    /// How long a message waits for others before they are stored together: 0 to 2s, as 500ms. At low rates an
    /// entry of its own costs each message some 28 KB of writes with redb. Acknowledgements wait for it, and a
    /// device has 8 messages unacknowledged: at 1s it can send 8 samples a second.
    #[arg(long, env = "ROLLCALL_FLUSH_INTERVAL", value_name = "TIME", default_value = "0")]
    pub(crate) flush_interval: FlushInterval,
}
