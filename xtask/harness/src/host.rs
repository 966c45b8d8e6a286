//! A running `rollcall serve`, `ingest` or `api`: start it, ask it, stop it, kill it, start it again on the same
//! data.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::counts::StatusCounts;
use crate::process::Process;
use crate::tools::Tool;
use crate::{ports, wait};

/// Opening a store of many millions of messages, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Draining what is in flight and closing the store.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// No reply of the host takes this long, however busy the machine is.
const HTTP_LIMIT: Duration = Duration::from_secs(30);

/// What an ingest logs when it takes messages; it has no HTTP to ask.
const CONNECTED: &str = "connected to the broker";

/// The end of every range that means "all time": 2286-11-20.
pub const END_OF_TIME: u64 = 9_999_999_999;

/// Which part of the host a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// All of it.
    Serve,
    /// What takes and stores messages; it answers no questions.
    Ingest,
    /// What answers questions; it takes no messages.
    Api,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Ingest => "ingest",
            Self::Api => "api",
        }
    }

    /// What its log files are called.
    fn log_name(self) -> &'static str {
        match self {
            Self::Serve => "host",
            Self::Ingest | Self::Api => self.name(),
        }
    }
}

/// How a host is to be started. The same settings start it again on the same data and ports.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The program, as [`crate::cargo::build`] gave it.
    pub binary: PathBuf,
    /// Where the store is.
    pub data: PathBuf,
    /// Where its log is written.
    pub logs: PathBuf,
    /// The address for devices.
    pub mqtt_address: Ipv4Addr,
    /// The port for devices.
    pub mqtt_port: u16,
    /// The port for questions.
    pub http_port: u16,
    /// Which part it is.
    pub role: Role,
    /// The URL of the broker that messages come from; the built-in gateway when there is none.
    pub broker: Option<String>,
    /// The URL of the MongoDB database that they go to; redb in `data` when there is none.
    pub mongodb: Option<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// How long each sync of its disk takes longer than it does, and [`crate::tools::strace`], which makes it so.
    pub slow_disk: Option<(Tool, Duration)>,
    /// How many files it may have open, where that is not what this process may; a disk that is slow is then none.
    pub open_files: Option<u32>,
}

impl HostSettings {
    /// A host in `dir`, on free ports.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(binary: &Path, dir: &Path) -> Result<Self> {
        Ok(Self {
            binary: binary.to_owned(),
            data: dir.join("data"),
            logs: dir.to_owned(),
            mqtt_address: Ipv4Addr::LOCALHOST,
            mqtt_port: ports::free()?,
            http_port: ports::free()?,
            role: Role::Serve,
            broker: None,
            mongodb: None,
            arguments: Vec::new(),
            slow_disk: None,
            open_files: None,
        })
    }

    /// Listens with TLS too, with what [`tls_init`] made in `dir`; where, as `HOST:PORT`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn listen_with_tls(&mut self, dir: &Path) -> Result<String> {
        let (address, file) =
            (format!("127.0.0.1:{}", ports::free()?), |name: &str| dir.join(name).display().to_string());
        self.arguments.extend(["--mqtt-tls-listen".to_owned(), address.clone()]);
        self.arguments.extend(["--tls-cert".to_owned(), file("server.pem")]);
        self.arguments.extend(["--tls-key".to_owned(), file("server.key")]);
        Ok(address)
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let mut command = match (&self.slow_disk, self.open_files) {
            (None, None) => Command::new(&self.binary),
            (_, Some(open_files)) => {
                let mut command = Command::new("sh");
                let script = format!("ulimit -n {open_files} && exec \"$0\" \"$@\"");
                command.args(["-c", &script]).arg(&self.binary);
                command
            }
            (Some((strace, delay)), None) => {
                let mut command = strace.command();
                let delay = format!("inject=fdatasync:delay_exit={}", delay.as_micros());
                // -D: the process that is started is the host, and strace a child of its own.
                command.args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"]);
                command.args(["-e", "trace=fdatasync", "-e", &delay]).arg(&self.binary);
                command
            }
        };
        command.arg(self.role.name()).arg("--store").arg(self.store());
        match &self.broker {
            _ if self.role == Role::Api => {}
            Some(broker) => {
                command.arg("--broker").arg(broker);
            }
            None => {
                command.arg("--mqtt-listen").arg(format!("{}:{}", self.mqtt_address, self.mqtt_port));
            }
        }
        if self.role != Role::Ingest {
            command.arg("--http-listen").arg(format!("127.0.0.1:{}", self.http_port));
        }
        command.args(&self.arguments);
        // What somebody exported for a host of their own must not change this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROLLCALL_") {
                command.env_remove(name);
            }
        }
        // By its variable: a host of an earlier commit has no such flag.
        command.env("ROLLCALL_LOG_FORMAT", "text");
        command
    }

    fn store(&self) -> OsString {
        if let Some(url) = &self.mongodb {
            return url.into();
        }
        let mut store = OsString::from("redb:");
        store.push(&self.data);
        store
    }
}

/// Makes a certificate in `dir` by `rollcall tls init`; the pin is what devices are told.
///
/// # Errors
/// When it cannot be made.
pub fn tls_init(binary: &Path, dir: &Path) -> Result<String> {
    let output =
        Command::new(binary).args(["tls", "init", "--name", "localhost", "--dir"]).arg(dir).output()?;
    ensure!(output.status.success(), "tls init: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let pin = text.lines().find_map(|line| line.strip_prefix("pin "));
    Ok(pin.context("no pin was printed")?.to_owned())
}

/// Makes a token that may read, by `rollcall token create`.
///
/// # Errors
/// When it cannot be made.
pub fn create_token(binary: &Path, tokens_file: &Path) -> Result<String> {
    let mut command = Command::new(binary);
    command.args(["token", "create", "test", "--role", "read", "--tokens-file"]).arg(tokens_file);
    let output = command.output()?;
    ensure!(output.status.success(), "token create: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// A running host.
pub struct HostProcess {
    process: Process,
    settings: HostSettings,
    http: ureq::Agent,
}

impl HostProcess {
    /// Starts a host and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; with its last log lines.
    pub fn start(settings: &HostSettings) -> Result<Self> {
        let process = Process::start(settings.role.log_name(), settings.command(), &settings.logs)?;
        let logged_before = process.stderr()?.len();
        let config = ureq::Agent::config_builder().timeout_global(Some(HTTP_LIMIT));
        // A host that was frozen may close a connection that was not used meanwhile, just when it is to be used again.
        let config = config.max_idle_connections(0).build();
        let mut host = Self { process, settings: settings.clone(), http: config.new_agent() };
        wait::until("the host to be ready", READY_LIMIT, || {
            host.check_alive()?;
            let ready = match settings.role {
                Role::Ingest => host.process.stderr()?[logged_before..].contains(CONNECTED),
                // Refused connections and 503 alike mean: not yet.
                Role::Serve | Role::Api => host.http.get(host.url("/readyz")).call().is_ok(),
            };
            Ok(ready.then_some(()))
        })
        .with_context(|| host.process.last_words())?;
        Ok(host)
    }

    /// `HOST:PORT` for devices.
    pub fn broker(&self) -> String {
        match &self.settings.broker {
            Some(url) => url.rsplit(['@', '/']).next().unwrap_or_default().to_owned(),
            None => format!("{}:{}", self.settings.mqtt_address, self.settings.mqtt_port),
        }
    }

    /// An address of the HTTP API.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.settings.http_port)
    }

    /// What asks over a connection that is kept open.
    pub fn asker(&self) -> Asker {
        let config = ureq::Agent::config_builder().timeout_global(Some(HTTP_LIMIT));
        Asker { http: config.build().new_agent(), base: self.url("") }
    }

    /// The process, for its id and its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What was counted from `start` to before `end`, in Unix seconds.
    ///
    /// # Errors
    /// When the host does not answer, or not in the form that it promises.
    pub fn counts(&self, start: u64, end: u64) -> Result<StatusCounts> {
        let url = self.url(&format!("/status_count?start={start}&end={end}"));
        let body = self.http.get(&url).call().and_then(|mut reply| reply.body_mut().read_to_string());
        let body = body.with_context(|| format!("{url} gave no answer"))?;
        let reply: Value = serde_json::from_str(&body).with_context(|| format!("{url} answered {body}"))?;
        let counts =
            StatusCounts::from_object(&reply["counts"]).with_context(|| format!("{url} answered {body}"))?;
        ensure!(reply["total"].as_u64() == Some(counts.total()), "the total is not the sum in {body}");
        let uncertain = |of: &str| reply["time_uncertain"][of].as_u64();
        let uncertain = uncertain("one_second").zip(uncertain("unknown")).map(|(one, other)| one + other);
        // A host of an older commit, in a benchmark, does not say it.
        ensure!(
            uncertain.is_none_or(|uncertain| uncertain <= counts.total()),
            "time_uncertain is no part of the total in {body}"
        );
        Ok(counts)
    }

    /// What was counted ever.
    ///
    /// # Errors
    /// As [`HostProcess::counts`].
    pub fn all_counts(&self) -> Result<StatusCounts> {
        self.counts(0, END_OF_TIME)
    }

    /// One number of `/metrics`, by its name there.
    ///
    /// # Errors
    /// When the host does not answer, or has no such number.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let url = self.url("/metrics");
        let body = self.http.get(&url).call().and_then(|mut reply| reply.body_mut().read_to_string());
        let body = body.with_context(|| format!("{url} gave no answer"))?;
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("{url} has no {name}"))?.parse()?)
    }

    /// Fails with the host's last log lines when it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time, or not with 0.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(STOP_LIMIT)?;
        ensure!(status.success(), "the host ended with {status}\n{}", self.process.last_words());
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Starts a host that is expected to refuse; gives its exit status and what it logged.
    ///
    /// # Errors
    /// When it is still running after 30 s.
    pub fn start_refused(settings: &HostSettings) -> Result<(ExitStatus, String)> {
        let mut process = Process::start("refused-host", settings.command(), &settings.logs)?;
        let status = process.wait(STOP_LIMIT)?;
        Ok((status, process.stderr()?))
    }
}

/// Asks a host as a program does that asks often.
pub struct Asker {
    http: ureq::Agent,
    base: String,
}

impl Asker {
    /// The answer to a GET.
    ///
    /// # Errors
    /// When there is none, or it says that something is wrong.
    pub fn ask(&self, path: &str) -> Result<String> {
        let url = format!("{}{path}", self.base);
        let answer = self.http.get(&url).call().and_then(|mut answer| answer.body_mut().read_to_string());
        answer.with_context(|| format!("{url} gave no answer"))
    }
}
