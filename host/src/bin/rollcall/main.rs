//! The `rollcall` program: dispatch only.

#![warn(clippy::print_stdout, reason = "it panics when the reader is gone; there is output.rs")]

mod backup;
mod compact;
#[allow(rustdoc::broken_intra_doc_links, reason = "its comments are the text of --help")]
mod config;
mod devices;
mod doctor;
mod http;
mod import;
mod manual;
mod migrate;
mod output;
mod serve;
mod shutdown;
mod telemetry;
mod tls;
mod token;

use std::process::ExitCode;

use clap::Parser;

use crate::config::{Cli, Command};
use crate::output::{OutputError, READER_GONE};

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start(cli.log, cli.log_format, cli.command.is_service());
    // A connection takes a descriptor, and the usual soft limit is 1,024.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "cannot raise the limit of open files; it bounds the number of devices");
    }
    // A core file would have the passwords and keys of this process in it.
    let core = rlimit::Resource::CORE;
    if let Err(error) = core.get_hard().and_then(|hard| core.set(0, hard)) {
        tracing::warn!(%error, "cannot forbid core files; one would have passwords and keys in it");
    }
    match run(cli.command) {
        Ok(code) => code,
        Err(error) if matches!(error.downcast_ref(), Some(OutputError::ReaderGone)) => READER_GONE.into(),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Serve(config) => runtime.block_on(serve::serve(config))?,
        Command::Ingest(config) => runtime.block_on(serve::ingest(config))?,
        Command::Api(config) => runtime.block_on(serve::api(config))?,
        Command::Import(config) => return runtime.block_on(import::import(config)),
        Command::Migrate(config) => runtime.block_on(migrate::migrate(config))?,
        Command::Backup(config) => runtime.block_on(backup::backup(config))?,
        Command::Compact(config) => runtime.block_on(compact::compact(config))?,
        Command::Devices(args) => devices::devices(args)?,
        Command::Tls(args) => tls::tls(args)?,
        Command::Token(args) => token::token(args)?,
        Command::Completions(args) => manual::completions(&args)?,
        Command::Man(args) => manual::man(&args)?,
        Command::Doctor(config) => return runtime.block_on(doctor::doctor(config)),
    }
    Ok(ExitCode::SUCCESS)
}
