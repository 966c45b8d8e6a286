//! How messages are stored.

use clap::Args;
use rollcall_host::intake::{FlushInterval, KeepMessages};

/// Flags of the intake.
#[derive(Debug, Args)]
pub(crate) struct IntakeArgs {
    /// How long a message waits for others before they are stored together: 0 to 2s, as 500ms. At low rates an
    /// entry of its own costs each message some 28 KB of writes with redb. Acknowledgements wait for it, and a
    /// device has 8 messages unacknowledged: at 1s it can send 8 samples a second.
    #[arg(long, env = "ROLLCALL_FLUSH_INTERVAL", value_name = "TIME", default_value = "0")]
    pub(crate) flush_interval: FlushInterval,
    /// How long messages are kept: 31d or more, as 90d. Older ones are removed, a few at a time; what was counted of them
    /// stays, and so does what is known of devices. /v1/messages tells those that are left, and says from when on these are
    /// all. Without it, all are kept.
    #[arg(long, env = "ROLLCALL_KEEP_MESSAGES", value_name = "TIME")]
    pub(crate) keep_messages: Option<KeepMessages>,
}
