//! Logs: one line an event, on standard error. A log that cannot be
//! written, because its reader is gone or its disk is full, is no reason to end.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The most that is heard of libraries. What they say beyond it may quote packets, and with them passwords.
const OTHERS: LevelFilter = LevelFilter::WARN;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// An object a line, for programs.
    Json,
}

/// Starts logging at `level`; unless told how, a service on no terminal logs for programs. Called once, before anything logs.
pub(crate) fn start(level: LevelFilter, format: Option<LogFormat>, is_service: bool) {
    let is_terminal = stderr().is_terminal();
    let usual = if is_service && !is_terminal { LogFormat::Json } else { LogFormat::Text };
    let format = format.unwrap_or(usual);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(is_terminal)
        .with_writer(stderr)
        // Where a line cannot be written, an error about it cannot either, and trying it would panic.
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(heard(level));
    match format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
}

/// What is logged at `level`: the program and its library are both named `rollcall…`.
fn heard(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(OTHERS)).with_target("rollcall", level)
}
