//! The command line and the environment → what to run. Every mistake is found here, before anything starts.

mod devices;
mod http;
mod import;
mod intake;
mod listen;
mod manual;
mod password;
mod source;
mod statuses;
mod store;
mod tls;
mod token;

use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

pub(crate) use self::devices::{DevicesArgs, DevicesCommand, ExportArgs, IssueArgs, RevokeArgs, RotateArgs};
pub(crate) use self::http::{HttpAddress, HttpArgs, HttpSettings, OptionalHttpArgs};
pub(crate) use self::import::{From, ImportArgs};
pub(crate) use self::intake::IntakeArgs;
pub(crate) use self::listen::{ListenAddress, ListenArgs};
pub(crate) use self::manual::{CompletionsArgs, ManArgs};
pub(crate) use self::source::{BrokerArgs, SourceArgs, SourceSettings, bind};
pub(crate) use self::statuses::StatusesArgs;
pub(crate) use self::store::StoreArgs;
pub(crate) use self::tls::{CertificateArgs, TlsArgs, TlsCommand};
pub(crate) use self::token::{TokenArgs, TokenCommand};
use crate::telemetry::LogFormat;

/// With the commit, where a build for use was made of one.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("ROLLCALL_COMMIT"));

/// Rollcall's host: every device answers, every answer is counted exactly once.
#[derive(Debug, Parser)]
#[command(name = "rollcall", version = VERSION, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to log: error, warn, info, debug or trace; of what libraries say, warnings and errors at most.
    #[arg(long, env = "ROLLCALL_LOG", default_value = "info", global = true, value_name = "LEVEL")]
    pub(crate) log: LevelFilter,
    /// How to log; without it, text, but JSON of serve, ingest and api when nobody looks at a terminal.
    #[arg(long, env = "ROLLCALL_LOG_FORMAT", global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The roles of the program.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take messages over MQTT, store each once, and answer over HTTP; all in this process.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Take messages over MQTT and store each once; answers are another process's work.
    #[command(after_help = INGEST_EXAMPLES)]
    Ingest(IngestArgs),
    /// Answer over HTTP what others stored.
    #[command(after_help = API_EXAMPLES)]
    Api(ApiArgs),
    /// Copy the store in a data directory, also while `rollcall serve` uses it.
    #[command(after_help = BACKUP_EXAMPLE)]
    Backup(BackupArgs),
    /// Give room in a data directory back to the system, while nobody uses it.
    #[command(after_help = COMPACT_EXAMPLE)]
    Compact(CompactArgs),
    /// Give devices passwords of their own, and take them away.
    #[command(after_help = devices::EXAMPLES)]
    Devices(DevicesArgs),
    /// Make certificates for TLS.
    #[command(after_help = tls::EXAMPLES)]
    Tls(TlsArgs),
    /// Give programs and people tokens for HTTP, and take them away.
    #[command(after_help = token::EXAMPLES)]
    Token(TokenArgs),
    /// Look at a live broker, and at all that a store holds, one line a check, and say what to do.
    #[command(after_help = DOCTOR_EXAMPLE)]
    Doctor(DoctorArgs),
    /// Convert a store that an older version wrote.
    #[command(after_help = MIGRATE_EXAMPLE)]
    Migrate(MigrateArgs),
    /// Take messages out of a file, or the documents of an older program, one a message, out of a MongoDB collection.
    #[command(after_help = import::EXAMPLES)]
    Import(ImportArgs),
    /// Print what a shell needs to complete the commands and flags.
    #[command(after_help = manual::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write these texts as pages for man.
    #[command(after_help = manual::MAN_EXAMPLE)]
    Man(ManArgs),
}

impl Command {
    /// Does it run until it is asked to end?
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Ingest(_) | Self::Api(_))
    }
}

const SERVE_EXAMPLES: &str = "\
Examples:
  rollcall serve
      MQTT on 127.0.0.1:1883, HTTP on 127.0.0.1:5000, data in ./rollcall-data
  curl 'http://127.0.0.1:5000/status_count?start=1721433676&end=1721437276'
      how many of each status were sampled from start to just before end
  rollcall serve --mqtt-listen 0.0.0.0:1883 --devices-file ./devices
      take devices from the network; rollcall devices issue makes the file
  rollcall serve --mqtt-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --store redb:/var/lib/rollcall
      free ports (the log says which) and a data directory
  rollcall serve --broker mqtt://rollcall:rollcall@127.0.0.1:1883 --store mongodb://127.0.0.1:27017/rollcall
      messages from RabbitMQ into MongoDB; passwords can be in files: --broker-password-file, --store-password-file

SIGTERM and Ctrl-C drain: what was received is stored and acknowledged, then the process ends with 0.
A second one ends it at once; what was not acknowledged, devices send again.";

const INGEST_EXAMPLES: &str = "\
Examples:
  rollcall ingest --broker mqtt://ingest:PASSWORD@rabbit:1883 --store mongodb://mongo:27017/rollcall --slots 0-7
  rollcall ingest --broker mqtt://ingest:PASSWORD@rabbit:1883 --store mongodb://mongo:27017/rollcall --slots 8-f
      two workers share a fleet

Every slot belongs to one worker. The broker keeps a worker's messages while it is away, under its client id:
before you change --slots or --client-id, let the old worker drain, and delete its session at the broker.";

const API_EXAMPLES: &str = "\
Example:
  rollcall api --store mongodb://mongo:27017/rollcall --http-listen 127.0.0.1:5001
      as many as you like; all give the same answer";

const BACKUP_EXAMPLE: &str = "\
Example:
  rollcall backup --store redb:/var/lib/rollcall --to /backup/rollcall-2026-11-25

The copy is the store at one moment; to restore it, start with --store redb:DIRECTORY. What was acknowledged after it
is lost then: devices do not send it again. A process that uses the store makes the copy itself, with its own user's
rights; it is asked over a socket in the data directory.";

const COMPACT_EXAMPLE: &str = "\
Example:
  rollcall compact --store redb:/var/lib/rollcall

Stop `rollcall serve` first. The room of messages that were removed (--keep-messages) is used again for new ones, and the
file stays as long as it was: this makes it shorter. Killed, it leaves a whole store; run it again.";

const DOCTOR_EXAMPLE: &str = "\
Examples:
  rollcall doctor --broker mqtt://rollcall:rollcall@127.0.0.1:1883 --store mongodb://127.0.0.1:27017/rollcall
  rollcall doctor --store redb:/var/lib/rollcall

  rollcall doctor --repair --store redb:/var/lib/rollcall
      when windows, rows or checkpoints are damaged or gone: makes them anew from the log

Of a store all is read, which takes as long as its size asks for: every checksum, the log, and whether windows and rows
of devices are what the log says. Nothing is changed without --repair, and no store is made. It may run beside what uses
the store. A redb store is looked at by the `rollcall serve` that uses it, at one moment, which is asked over a socket in
the data directory; redb's own check of its file is made when nobody uses it. At a broker it publishes under
rollcall/doctor/ and leaves nothing behind. The exit status is 1 when a check failed.

Stop all that use the store before --repair: serve, ingest, api and import. A data directory that another process uses is
refused, but MongoDB does not say who else writes. A log that is damaged itself cannot be repaired: the entry is named,
and nothing is changed. A data directory needs as much room again as its log takes. Cut off, run it again.";

const MIGRATE_EXAMPLE: &str = "\
Example:
  rollcall migrate --store redb:/var/lib/rollcall

Stop all that use the store first, and make a backup. The messages stay as they are; what is made from them is made
anew, for which all of them are read twice. It may be stopped and run again, and goes on where it was; no other rollcall
can be started on the store before it is done.";

/// Flags of `rollcall migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `rollcall compact`.
#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `rollcall backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Where to: a directory without a store, made if it is not there.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) to: std::path::PathBuf,
}

/// Flags of `rollcall doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) certificate: CertificateArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Before the checks, make windows and rows of devices anew from the log. Stop all that use the store first.
    #[arg(long, requires = "store")]
    pub(crate) repair: bool,
}

/// Flags of `rollcall serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) intake: IntakeArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) statuses: StatusesArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) certificate: CertificateArgs,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
}

/// Flags of `rollcall ingest`.
#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) intake: IntakeArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) statuses: StatusesArgs,
    #[command(flatten)]
    pub(crate) http: OptionalHttpArgs,
    #[command(flatten)]
    pub(crate) certificate: CertificateArgs,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
}

/// Flags of `rollcall api`.
#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    #[command(flatten)]
    pub(crate) statuses: StatusesArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) certificate: CertificateArgs,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
}

#[cfg(test)]
mod tests;
