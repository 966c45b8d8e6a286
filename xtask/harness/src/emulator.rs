//! A board in QEMU: its serial line, its monitor, and what it says of itself at the end.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::emulated_board::EmulatedBoard;
use crate::fleet::FleetReport;
use crate::process::Process;
use crate::{callers, tools, wait};

/// Where a guest of QEMU's user network finds the host's loopback.
const HOST_LOOPBACK: [u8; 4] = [10, 0, 2, 2];

/// What the firmware takes for Ctrl-C.
const CTRL_C: u8 = 0x03;

/// The firmware drains for 20 s at most; the rest is for a busy machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);

/// The emulator opens its monitor as it starts.
const MONITOR_LIMIT: Duration = Duration::from_secs(10);

const PROCESS: &str = "qemu";
const MONITOR: &str = "qemu.monitor";

/// The network that the monitor's `set_link` names.
const NETWORK: &str = "network";

/// How a board is to be started.
#[derive(Clone, Debug)]
pub struct EmulatorSettings {
    /// Which.
    pub board: EmulatedBoard,
    /// Its firmware, as [`EmulatedBoard::build`] gave it.
    pub elf: PathBuf,
    /// A folder of its own: for the serial log and the monitor.
    pub dir: PathBuf,
    /// `HOST:PORT` to connect to, as this machine sees it.
    pub broker: String,
    /// The rest of the firmware's command line, like `period_ms=50`.
    pub words: Vec<String>,
    /// The rest of QEMU's command line, like `-icount`.
    pub qemu: Vec<String>,
}

impl EmulatorSettings {
    /// A board without further words.
    pub fn new(board: EmulatedBoard, elf: &Path, dir: &Path, broker: &str) -> Self {
        Self {
            board,
            elf: elf.to_owned(),
            dir: dir.to_owned(),
            broker: broker.to_owned(),
            words: Vec::new(),
            qemu: Vec::new(),
        }
    }

    fn command(&self) -> Result<Command> {
        let (machine, network) = match self.board {
            EmulatedBoard::QemuLm3s6965 => ("lm3s6965evb", "stellaris"),
            EmulatedBoard::QemuMps2 => ("mps2-an385", "lan9118"),
        };
        let mut semihosting = String::from("enable=on,target=native,arg=rollcall");
        let broker = format!("broker={}", as_the_guest_sees(&self.broker)?);
        for word in [&broker].into_iter().chain(&self.words) {
            // A comma ends a value, and two stand for one.
            semihosting = semihosting + ",arg=" + &word.replace(',', ",,");
        }
        let mut command = tools::qemu_system_arm()?.command();
        command.current_dir(&self.dir).args(["-M", machine, "-display", "none", "-serial", "stdio"]);
        command.args(["-monitor", &format!("unix:{MONITOR},server=on,wait=off")]);
        command.args(["-semihosting-config", &semihosting]);
        command.args(["-nic", &format!("user,id={NETWORK},model={network}")]);
        command.arg("-kernel").arg(&self.elf).args(&self.qemu);
        Ok(command)
    }
}

/// The address at which a guest finds what is at `broker` here.
fn as_the_guest_sees(broker: &str) -> Result<SocketAddr> {
    let unknown = || format!("{broker:?} is not the HOST:PORT of a host with an IPv4 address");
    let mut addresses = broker.to_socket_addrs().with_context(unknown)?;
    let mut address = addresses.find(SocketAddr::is_ipv4).with_context(unknown)?;
    if address.ip().is_loopback() {
        address.set_ip(IpAddr::from(HOST_LOOPBACK));
    }
    Ok(address)
}

/// What a board says of itself when it ends.
#[derive(Clone, Debug)]
pub struct BoardReport {
    /// What every board tells.
    pub totals: FleetReport,
    /// Periods that passed without a sample, because the board was busy.
    pub missed: u64,
    /// From boot to the first PUBACK, in milliseconds.
    pub first_acknowledged_ms: Option<u64>,
    /// From boot to the end, in milliseconds.
    pub uptime_ms: u64,
    /// Processor cycles not spent asleep.
    pub awake_cycles: u64,
    /// The most that was ever on the stack, in bytes.
    pub stack_peak: u64,
}

impl BoardReport {
    fn parse(line: &str) -> Result<Self> {
        let report: Value = serde_json::from_str(line)?;
        let number =
            |name: &str| report[name].as_u64().with_context(|| format!("there is no number {name:?}"));
        Ok(Self {
            totals: FleetReport::parse(line)?,
            missed: number("missed")?,
            first_acknowledged_ms: report["first_acknowledged_ms"].as_u64(),
            uptime_ms: number("uptime_ms")?,
            awake_cycles: number("awake_cycles")?,
            stack_peak: number("stack_peak")?,
        })
    }
}

/// A running board.
pub struct Emulator {
    elf: PathBuf,
    process: Process,
    serial: ChildStdin,
}

impl Emulator {
    /// Switches a board on.
    ///
    /// # Errors
    /// When there is no emulator and none can be fetched, or it cannot be started.
    pub fn start(settings: &EmulatorSettings) -> Result<Self> {
        let (process, serial) = Process::start_with_input(PROCESS, settings.command()?, &settings.dir)?;
        Ok(Self { elf: settings.elf.clone(), process, serial })
    }

    /// What came over the serial line so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.stdout()
    }

    /// Where in the source the firmware crashed, a line each from the innermost function on; nothing unless it did.
    ///
    /// # Errors
    /// When the log or the firmware's file cannot be read.
    pub fn callers(&self) -> Result<String> {
        callers::of(&self.elf, &self.log()?)
    }

    /// The exit status, when the board has ended.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Fails with the serial log when the board has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive().with_context(|| self.log().unwrap_or_default())
    }

    /// Waits until the serial log has `text`.
    ///
    /// # Errors
    /// When it has not after `limit`, or the board has ended; with the log.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<()> {
        wait::until(&format!("{text:?} in the serial log"), limit, || {
            self.check_alive()?;
            Ok(self.log()?.contains(text).then_some(()))
        })
        .with_context(|| self.log().unwrap_or_default())
    }

    /// Asks the firmware to stop sampling, to drain its outbox and to report.
    ///
    /// # Errors
    /// When the board has ended.
    pub fn ask_to_stop(&mut self) -> Result<()> {
        self.serial.write_all(&[CTRL_C]).context("the board takes nothing over its serial line")
    }

    /// Plugs the network in.
    ///
    /// # Errors
    /// When the emulator does not take the command.
    pub fn link_up(&self) -> Result<()> {
        self.command(&format!("set_link {NETWORK} on\n"))
    }

    /// Pulls the network out.
    ///
    /// # Errors
    /// When the emulator does not take the command.
    pub fn link_down(&self) -> Result<()> {
        self.command(&format!("set_link {NETWORK} off\n"))
    }

    fn command(&self, command: &str) -> Result<()> {
        // A socket's path has a hundred characters at most, so not the long way by `dir`.
        let path = format!("/proc/{}/cwd/{MONITOR}", self.process.pid());
        let mut monitor =
            wait::until("the emulator's monitor", MONITOR_LIMIT, || Ok(UnixStream::connect(&path).ok()))?;
        monitor.write_all(command.as_bytes()).context("the emulator's monitor takes no command")?;
        // Closed too soon, the monitor would drop what it has not read.
        let echo = wait_for_prompt(&mut monitor)?;
        ensure!(!echo.contains("Error") && !echo.contains("unknown"), "the monitor said {echo}");
        Ok(())
    }

    /// Asks the board to stop and waits for its report. A board that could not drain reports all the same,
    /// with an outbox that is not empty.
    ///
    /// # Errors
    /// When it does not end in time, ends with an error, or reports in another form than it promises.
    pub fn stop(mut self) -> Result<BoardReport> {
        self.ask_to_stop()?;
        self.finish(DRAIN_LIMIT)
    }

    /// Waits for a board that stops by itself.
    ///
    /// # Errors
    /// As [`Emulator::stop`].
    pub fn finish(mut self, limit: Duration) -> Result<BoardReport> {
        let status = self.process.wait(limit).with_context(|| self.log().unwrap_or_default())?;
        let log = self.log()? + &self.callers()?;
        let line = log.lines().last().unwrap_or_default();
        let report = BoardReport::parse(line)
            .with_context(|| format!("the board ended with {status} and without a report:\n{log}"))?;
        let drained = report.totals.outbox == 0;
        ensure!(status.success() == drained, "the board ended with {status} and {line}");
        Ok(report)
    }

    /// Waits for a board that is to end with an error; gives its exit status and its log, with the callers.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn failure(mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let status = self.process.wait(limit)?;
        Ok((status, self.log()? + &self.callers()?))
    }
}

/// Reads the greeting's prompt and the one behind the command's echo.
fn wait_for_prompt(monitor: &mut UnixStream) -> Result<String> {
    use std::io::Read;
    monitor.set_read_timeout(Some(MONITOR_LIMIT))?;
    let mut said = Vec::new();
    let mut buffer = [0; 256];
    while String::from_utf8_lossy(&said).matches("(qemu) ").count() < 2 {
        let count = monitor.read(&mut buffer).context("the emulator's monitor does not answer")?;
        ensure!(count > 0, "the emulator's monitor closed");
        said.extend_from_slice(&buffer[..count]);
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
