//! mosquitto, the small broker, out of Debian's package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{CERTIFICATES, wait_until_it_listens};
use crate::process::Process;
use crate::{ports, tools};

/// Writing its sessions to disk takes a moment.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What docs/host.md tells mosquitto's users to set: no end to what is kept for an ingest that is away.
const SETTINGS: &str = "max_queued_messages 0\n";

/// A running mosquitto.
pub struct Mosquitto {
    process: Process,
    dir: PathBuf,
    port: u16,
    /// The port for MQTT over TLS, if there is one.
    tls_port: Option<u16>,
    settings: String,
}

impl Mosquitto {
    /// Starts it on a free port, with its data and log in `dir`, with the settings that docs/host.md names.
    ///
    /// # Errors
    /// When it cannot be fetched or started.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_with(dir, SETTINGS)
    }

    /// As [`Mosquitto::start`], with settings of one's own.
    ///
    /// # Errors
    /// When it cannot be fetched or started.
    pub fn start_with(dir: &Path, settings: &str) -> Result<Self> {
        Self::start_at(dir, ports::free()?, None, settings.to_owned())
    }

    /// As [`Mosquitto::start`], with mosquitto's own limits, which lose messages.
    ///
    /// # Errors
    /// When it cannot be fetched or started.
    pub fn start_with_its_own_limits(dir: &Path) -> Result<Self> {
        Self::start_with(dir, "")
    }

    /// As [`Mosquitto::start`], with a port for TLS too, with what [`crate::host::tls_init`] made in `certificates`.
    ///
    /// # Errors
    /// When it cannot be fetched or started.
    pub fn start_with_tls(dir: &Path, certificates: &Path) -> Result<Self> {
        let tls_port = ports::free()?;
        let settings = SETTINGS.to_owned() + &tls_settings(certificates, tls_port);
        Self::start_at(dir, ports::free()?, Some(tls_port), settings)
    }

    fn start_at(dir: &Path, port: u16, tls_port: Option<u16>, settings: String) -> Result<Self> {
        let command = command(dir, port, &settings)?;
        let mut process = Process::start("mosquitto", command, dir)?;
        for port in [port].into_iter().chain(tls_port) {
            wait_until_it_listens(&mut process, "mosquitto", port)?;
        }
        Ok(Self { process, dir: dir.to_owned(), port, tls_port, settings })
    }

    /// `HOST:PORT` for MQTT.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `HOST:PORT` for MQTT over TLS.
    pub fn tls_address(&self) -> Option<String> {
        self.tls_port.map(|port| format!("127.0.0.1:{port}"))
    }

    /// Its address for an ingest.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address())
    }

    /// The process, for its id and its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// SIGTERM, at which it writes its sessions to disk, and a start on the same data and port.
    ///
    /// # Errors
    /// When it does not end in time, or cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(STOP_LIMIT)?;
        ensure!(status.success(), "mosquitto ended with {status}\n{}", self.process.last_words());
        *self = Self::start_at(&self.dir, self.port, self.tls_port, self.settings.clone())?;
        Ok(())
    }
}

/// The command that runs one in the foreground, with what docs/host.md names and a port for TLS.
pub(super) fn command_with_tls(dir: &Path, port: u16, certificates: &Path, tls_port: u16) -> Result<Command> {
    command(dir, port, &(SETTINGS.to_owned() + &tls_settings(certificates, tls_port)))
}

fn command(dir: &Path, port: u16, settings: &str) -> Result<Command> {
    let file = dir.join("mosquitto.conf");
    fs::write(&file, place(dir, port) + settings)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = tools::mosquitto()?.command();
    command.arg("-c").arg(&file);
    Ok(command)
}

/// A port with TLS, and whose certificate it shows.
fn tls_settings(certificates: &Path, port: u16) -> String {
    let [_, certificate, key] = CERTIFICATES.map(|name| certificates.join(name));
    format!("listener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\n", certificate.display(), key.display())
}

fn place(dir: &Path, port: u16) -> String {
    // Started by root, it would change to a user who may not write here.
    let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
    format!(
        "listener {port} 127.0.0.1\n\
         allow_anonymous true\n\
         persistence true\n\
         persistence_location {}/\n\
         {user}",
        dir.display()
    )
}
