//! Logs: one line an event, on standard error; coloured on a terminal only. A log that cannot be
//! written, because its reader is gone or its disk is full, is no reason to end.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The most that is heard of libraries. What they say beyond it may quote packets, and with them passwords.
const OTHERS: LevelFilter = LevelFilter::WARN;

/// Starts logging at `level`. Called once, before anything logs.
pub(crate) fn start(level: LevelFilter) {
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        // Where a line cannot be written, an error about it cannot either, and trying it would panic.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(heard(level)).with(lines).init();
}

/// What is logged at `level`: the program and its library are both named `rollcall…`.
fn heard(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(OTHERS)).with_target("rollcall", level)
}
