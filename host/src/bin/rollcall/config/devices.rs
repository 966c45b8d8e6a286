//! Flags of `rollcall devices`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use rollcall_wire::DeviceId;

pub(super) const EXAMPLES: &str = "\
Examples:
  rollcall devices issue --devices-file ./devices porch attic > passwords.csv
      two devices with a password each
  rollcall devices issue --devices-file ./devices --count 100 --prefix sim > passwords.csv
      sim-0 to sim-99; the next time, from sim-100 on
  rollcall serve --mqtt-listen 0.0.0.0:1883 --devices-file ./devices
      let them in
  cargo xtask provision nucleo-h563zi --broker 192.0.2.7 --credentials passwords.csv --device porch
      give a board its own
  rollcall devices rotate --devices-file ./devices porch > new.csv
  rollcall devices revoke --devices-file ./devices --previous porch
      give porch another password; once it has it, end the old one

The file has a line for each device: its id, and hashes of one or two passwords. # begins a comment. You may edit it;
rollcall serve reads it again when it changes. A device that is revoked is cut off within a second.";

const ISSUE_HELP: &str = "\
Prints a line id,password for each device, without a heading, so that a shell reads it with `while IFS=, read -r id
password`. The passwords are shown this once: the file holds hashes only. It is 0600 when it is made, and changes only
when all lines were written. An id that is in the file already is refused: rotate gives it another password.";

const EXPORT_HELP: &str = "\
RabbitMQ:   rollcall devices export --devices-file ./devices --rabbitmq > devices.json
            rabbitmqctl import_definitions devices.json
            Import adds and changes users. Delete those that you revoke: rabbitmqctl delete_user ID
mosquitto:  rollcall devices export --devices-file ./devices --mosquitto /etc/mosquitto/rollcall
            writes the files passwords and acl there, for password_file and acl_file; then send mosquitto a SIGHUP.
            Put lines of your own users, such as the ingest's, after them in files that you join.

A broker knows one password a user: the newest. mosquitto's hash cannot be made of the other, so the file has both.";

/// Makes, changes and hands on the passwords of devices.
#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: DevicesCommand,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// Give new devices a password each, and print it once.
    #[command(after_help = ISSUE_HELP)]
    Issue(IssueArgs),
    /// Give devices another password, and print it once; the one before stays valid until the next rotate, or
    /// revoke --previous.
    Rotate(RotateArgs),
    /// End what devices come in with, and the connections that they have.
    Revoke(RevokeArgs),
    /// Print a line id,passwords for each device: how many of them are valid, 1 or 2.
    List(DevicesFile),
    /// Write what a broker needs to let the same devices in.
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
}

/// Where they stand.
#[derive(Debug, Args)]
pub(crate) struct DevicesFile {
    /// The devices file.
    #[arg(long = "devices-file", env = "ROLLCALL_DEVICES_FILE", value_name = "FILE")]
    pub(crate) path: PathBuf,
}

/// Flags of `rollcall devices issue`.
#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    #[command(flatten)]
    pub(crate) file: DevicesFile,
    /// How many devices, numbered after --prefix.
    #[arg(long, value_name = "N", requires = "prefix")]
    pub(crate) count: Option<NonZeroU32>,
    /// What their ids begin with: PREFIX-0, PREFIX-1, …, after the highest that the file has.
    #[arg(long, value_name = "PREFIX", requires = "count")]
    pub(crate) prefix: Option<String>,
    /// The devices: 1 to 32 of a-z 0-9 - _ each.
    #[arg(value_name = "ID", required_unless_present = "count", conflicts_with = "count")]
    pub(crate) ids: Vec<DeviceId>,
}

/// Flags of `rollcall devices rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(crate) file: DevicesFile,
    /// The devices.
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<DeviceId>,
}

/// Flags of `rollcall devices revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) file: DevicesFile,
    /// Only the older of two passwords: the device stays, with the newest.
    #[arg(long)]
    pub(crate) previous: bool,
    /// The devices.
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<DeviceId>,
}

/// Flags of `rollcall devices export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) file: DevicesFile,
    /// Print definitions for RabbitMQ: a user for each device, who may publish to its own topics only.
    #[arg(long, required_unless_present = "mosquitto", conflicts_with = "mosquitto")]
    pub(crate) rabbitmq: bool,
    /// RabbitMQ's virtual host.
    #[arg(long, value_name = "NAME", default_value = "/", conflicts_with = "mosquitto")]
    pub(crate) vhost: String,
    /// Write a password file and an ACL file for mosquitto into this directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) mosquitto: Option<PathBuf>,
}
