//! `cargo xtask run-device`: builds a board's program and becomes it.

use std::ffi::OsString;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::emulated_board::EmulatedBoard;

use crate::help;

mod emulated;

pub(crate) const HELP: &str = "\
Builds a board's program and runs it on this machine: as a process, or as firmware in an emulator.

  cargo xtask run-device [--board BOARD] [--broker HOST:PORT] [the board's own flags]

  --board BOARD       linux (the default), qemu-lm3s6965 or qemu-mps2
  --broker HOST:PORT  where to publish (default 127.0.0.1:1883)

The Linux board's own flags are handed on as they are:
  --net sockets|tap   the system's TCP, or smoltcp over a TAP interface (default sockets)
  --devices N         so many devices in one process (default 1)
  --device-id PREFIX  they are called PREFIX-0, PREFIX-1, … (default sim)
  --period-ms N       from one sample to the next (default 1000)
  --seed N            repeatable statuses
  --seconds N         ends by itself
  --user U --password-file F
  --credentials FILE  what `rollcall devices issue` printed: each device logs in as itself
  --tls-pin PIN [--tls-pin-next PIN]
                      over TLS, to a server with one of these public keys, as `rollcall tls init` prints them

An emulated board is one device, takes of these --device-id ID, --period-ms, --seed, --seconds and the pins, and shows
its serial log. QEMU is the system's, or is fetched (Debian's packages, without root) into target/.

Ctrl-C stops the sampling, drains the outboxes and prints one line of JSON. The exit code is the device's: 0,
or 3 when something was left in an outbox.

Examples:
  cargo xtask run-device --board qemu-lm3s6965 --period-ms 200
  cargo xtask run-device
  cargo xtask run-device --devices 100 --period-ms 200 --seconds 60
  cargo xtask run-device --net tap --broker 127.0.0.1:1883
";

/// Where `rollcall serve` listens when nothing else is said.
const DEFAULT_BROKER: &str = "127.0.0.1:1883";

/// A broker on this machine or in this building answers in less.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let board: String = arguments.opt_value_from_str("--board")?.unwrap_or_else(|| "linux".to_owned());
    let broker: String =
        arguments.opt_value_from_str("--broker")?.unwrap_or_else(|| DEFAULT_BROKER.to_owned());
    if board == "linux" {
        check_listening(&broker)?;
        return become_device(Program::LinuxBoard, &broker, arguments.finish());
    }
    let board = EmulatedBoard::find(&board)?;
    let words = emulated::words(&mut arguments)?;
    help::reject_unknown(arguments, HELP)?;
    check_listening(&broker)?;
    emulated::run(board, &broker, words)
}

/// A device would wait for its broker for ever, as it should; a person at a terminal wants to be told.
fn check_listening(broker: &str) -> Result<()> {
    let mut addresses = broker
        .to_socket_addrs()
        .with_context(|| format!("--broker {broker:?} is not the HOST:PORT of a host that is known here"))?;
    if addresses.any(|address| TcpStream::connect_timeout(&address, CONNECT_LIMIT).is_ok()) {
        return Ok(());
    }
    bail!(
        "nothing listens at {broker}. Start a host in another terminal:\n    \
         cargo run --package rollcall-host -- serve --mqtt-listen {broker}\n\
         or name another broker with --broker HOST:PORT"
    )
}

/// Replaces this process, so that Ctrl-C, stdin, stdout and the exit code are the device's own.
fn become_device(program: Program, broker: &str, flags: Vec<OsString>) -> Result<ExitCode> {
    let binary = cargo::build(program, Profile::Dev)?;
    let error = Command::new(&binary).arg("--broker").arg(broker).args(flags).exec();
    Err(anyhow!(error).context(format!("cannot start {}", binary.display())))
}
