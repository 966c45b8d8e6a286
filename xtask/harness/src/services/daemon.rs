//! Servers that outlive the command that started them: `cargo xtask services up` and `down`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::mongod::MongodSettings;
use super::mosquitto;
use super::rabbitmq::{PASSWORD, RabbitmqNode, USER};
use super::{READY_LIMIT, listens, services_dir};
use crate::{ports, wait};

/// Where they listen when nobody else does: beside the usual ports, which may be in use for real.
const RABBITMQ_PORT: u16 = 11_883;
const RABBITMQ_TLS_PORT: u16 = 18_883;
const MOSQUITTO_PORT: u16 = 21_883;
const MOSQUITTO_TLS_PORT: u16 = 28_883;
const MONGOD_PORT: u16 = 27_117;

/// A clean end takes a second or two.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A server of `cargo xtask services`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// RabbitMQ 4 with MQTT.
    Rabbitmq,
    /// mosquitto.
    Mosquitto,
    /// A standalone mongod.
    Mongod,
}

/// A daemon that runs.
#[derive(Clone, Debug)]
pub struct RunningDaemon {
    /// Its first process.
    pub pid: u32,
    /// What to connect to.
    pub url: String,
    /// `HOST:PORT` for devices that speak TLS, where it is a broker.
    pub tls: Option<String>,
    port: u16,
    /// When the process started, in the kernel's ticks since boot: a process id alone may be somebody else's.
    started: u64,
}

impl Daemon {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Rabbitmq, Self::Mosquitto, Self::Mongod];

    /// How messages and folders call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Mosquitto => "mosquitto",
            Self::Mongod => "mongod",
        }
    }

    fn dir(self) -> PathBuf {
        services_dir().join(self.name())
    }

    fn note(self) -> PathBuf {
        self.dir().join("daemon.json")
    }

    /// What runs now.
    ///
    /// # Errors
    /// When the note that an earlier command left cannot be read.
    pub fn running(self) -> Result<Option<RunningDaemon>> {
        let note = self.note();
        let Ok(text) = fs::read_to_string(&note) else { return Ok(None) };
        let note: Value =
            serde_json::from_str(&text).with_context(|| format!("cannot read {}", note.display()))?;
        let number = |name: &str| note[name].as_u64().with_context(|| format!("no {name} in {note}"));
        let port = u16::try_from(number("port")?)?;
        let running = RunningDaemon {
            pid: u32::try_from(number("pid")?)?,
            url: self.url(port),
            tls: note["tls_port"].as_u64().map(|port| format!("127.0.0.1:{port}")),
            port,
            started: number("started")?,
        };
        Ok((started(running.pid) == Some(running.started)).then_some(running))
    }

    /// Starts it, unless it runs already, and waits until it takes connections. A broker shows what
    /// [`crate::host::tls_init`] made in `certificates`.
    ///
    /// # Errors
    /// When it cannot be fetched or started.
    pub fn up(self, certificates: &Path) -> Result<RunningDaemon> {
        if let Some(running) = self.running()? {
            return Ok(running);
        }
        let dir = self.dir();
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (usual, usual_tls) = match self {
            Self::Rabbitmq => (RABBITMQ_PORT, Some(RABBITMQ_TLS_PORT)),
            Self::Mosquitto => (MOSQUITTO_PORT, Some(MOSQUITTO_TLS_PORT)),
            Self::Mongod => (MONGOD_PORT, None),
        };
        let (port, tls_port) = (ports::free_or(usual)?, usual_tls.map(ports::free_or).transpose()?);
        let command = match (self, tls_port) {
            (Self::Rabbitmq, Some(tls)) => {
                RabbitmqNode::new(&dir, port)?.with_tls(certificates, tls)?.command()?
            }
            (Self::Mosquitto, Some(tls)) => mosquitto::command_with_tls(&dir, port, certificates, tls)?,
            _ => MongodSettings::new(&dir, port).command()?,
        };
        let log = dir.join("log.txt");
        let pid = detach(&command, &log)?;
        let started = started(pid).with_context(|| format!("it ended at once: see {}", log.display()))?;
        let note = json!({"pid": pid, "port": port, "tls_port": tls_port, "started": started});
        fs::write(self.note(), note.to_string())?;
        let (url, tls) = (self.url(port), tls_port.map(|port| format!("127.0.0.1:{port}")));
        wait::until(&format!("{} to listen at port {port}", self.name()), READY_LIMIT, || {
            if self.running()?.is_none() {
                bail!("{} ended: see {}", self.name(), log.display());
            }
            Ok((listens(port) && tls_port.is_none_or(listens)).then_some(()))
        })?;
        Ok(RunningDaemon { pid, url, tls, port, started })
    }

    /// Ends it, and removes its data.
    ///
    /// # Errors
    /// When it does not end.
    pub fn down(self) -> Result<()> {
        if let Some(running) = self.running()? {
            // RabbitMQ's first process is the one that takes all others of its namespace with it.
            let signal = if self == Self::Rabbitmq { Signal::KILL } else { Signal::TERM };
            running.signal(signal);
            let ended = || Ok((self.running()?.is_none() && !listens(running.port)).then_some(()));
            if wait::until(self.name(), STOP_LIMIT, ended).is_err() {
                running.signal(Signal::KILL);
                wait::until(&format!("the end of {}", self.name()), STOP_LIMIT, ended)?;
            }
        }
        let dir = self.dir();
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(())
    }

    fn url(self, port: u16) -> String {
        match self {
            Self::Rabbitmq => format!("mqtt://{USER}:{PASSWORD}@127.0.0.1:{port}"),
            Self::Mosquitto => format!("mqtt://127.0.0.1:{port}"),
            Self::Mongod => format!("mongodb://127.0.0.1:{port}/rollcall"),
        }
    }
}

impl RunningDaemon {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may have ended a moment ago, which is what we want.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Starts `command` in a session of its own, so that no terminal's end reaches it.
fn detach(command: &Command, log: &Path) -> Result<u32> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut detached = Command::new("setsid");
    detached.arg(command.get_program()).args(command.get_args());
    detached.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    detached.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // setsid becomes the command, so the child's id is the command's.
    Ok(detached.spawn().context("cannot start setsid")?.id())
}

/// When the process started; `None` when there is no such process, or only its remains.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): the name may hold anything, so count from its closing bracket; state is field 3 and
    // starttime field 22.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
