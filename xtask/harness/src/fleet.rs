//! A running fleet: N devices of the Linux board in one process, and what they say of themselves at the end.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::counts::StatusCounts;
use crate::process::Process;

/// The board drains for 30 s at most; the rest is for a busy machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(45);

/// How a fleet is to be started.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// The program, as [`crate::cargo::build`] gave it.
    pub binary: PathBuf,
    /// Where its log is written.
    pub logs: PathBuf,
    /// `HOST:PORT` to connect to.
    pub broker: String,
    /// How many devices.
    pub devices: u32,
    /// From one sample of a device to its next, in milliseconds.
    pub period_ms: u32,
    /// Makes the statuses repeatable.
    pub seed: Option<u64>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl FleetSettings {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--broker").arg(&self.broker);
        command.arg("--devices").arg(self.devices.to_string());
        command.arg("--period-ms").arg(self.period_ms.to_string());
        if let Some(seed) = self.seed {
            command.arg("--seed").arg(seed.to_string());
        }
        command.args(&self.arguments);
        command
    }
}

/// What a fleet says of itself when it ends.
#[derive(Clone, Debug)]
pub struct FleetReport {
    /// Samples taken.
    pub sampled: u64,
    /// Samples whose own PUBACK said success, by status.
    pub acknowledged: StatusCounts,
    /// Samples that a full outbox had to let go.
    pub dropped: u64,
    /// Samples still waiting.
    pub outbox: u64,
    /// How often a device connected again.
    pub reconnects: u64,
}

impl FleetReport {
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let report: Value = serde_json::from_str(line)?;
        let number = |name: &str| {
            report.get(name).and_then(Value::as_u64).with_context(|| format!("there is no number {name:?}"))
        };
        let acknowledged = StatusCounts::from_array(&report["acknowledged_by_status"])?;
        ensure!(number("acknowledged")? == acknowledged.total(), "acknowledged is not the sum by status");
        Ok(Self {
            sampled: number("sampled")?,
            acknowledged,
            dropped: number("dropped")?,
            outbox: number("outbox")?,
            reconnects: number("reconnects")?,
        })
    }
}

/// A running fleet.
pub struct FleetProcess {
    process: Process,
}

impl FleetProcess {
    /// Starts a fleet; it connects by itself.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(settings: &FleetSettings) -> Result<Self> {
        Ok(Self { process: Process::start("devices", settings.command(), &settings.logs)? })
    }

    /// Fails with the fleet's last log lines when it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    /// SIGTERM: the devices stop sampling, drain their outboxes and report.
    ///
    /// # Errors
    /// When they do not end in time, end with an error, or report in another form than they promise. A
    /// fleet that could not drain reports all the same, with an outbox that is not empty.
    pub fn stop(mut self) -> Result<FleetReport> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(DRAIN_LIMIT)?;
        let stdout = self.process.stdout()?;
        let line = stdout.lines().last().with_context(|| {
            format!("the devices ended with {status} and no report\n{}", self.process.last_words())
        })?;
        let report = FleetReport::parse(line).with_context(|| format!("the devices reported {line}"))?;
        ensure!(status.success() == (report.outbox == 0), "the devices ended with {status} and {line}");
        Ok(report)
    }
}
