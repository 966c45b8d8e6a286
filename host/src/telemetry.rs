//! Logs: one line an event, on standard error; coloured on a terminal only. A log that cannot be
//! written, because its reader is gone or its disk is full, is no reason to end.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;

/// Starts logging at `level`. Called once, before anything logs.
pub(crate) fn start(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        // Where a line cannot be written, the complaint about it cannot either, and trying it would panic.
        .log_internal_errors(false)
        .init();
}
