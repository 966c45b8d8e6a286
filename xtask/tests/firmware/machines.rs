//! Every emulated board at one host, and the proof at the end that what they say and what it counted agree.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{BoardReport, Emulator, EmulatorSettings};
use rollcall_harness::host::{HostProcess, HostSettings, tls_init};
use rollcall_harness::services::{Mosquitto, Rabbitmq, RabbitmqNode};
use rollcall_harness::{ports, skip, tools, wait, workspace};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::order;

/// Boot, address and connection take a tenth of a second; the rest is for a busy machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The gateway acknowledges what is counted; a host behind a broker takes what it acknowledged within moments.
const COUNT_LIMIT: Duration = Duration::from_secs(60);

/// What the firmware logs when a broker has accepted its connection.
const CONNECTED: &str = ": connected\n";

/// Where a board publishes, and whether over TLS.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    address: String,
    /// The key of whoever is there; without it, no TLS.
    pin: Option<String>,
}

impl Door {
    /// `HOST:PORT`, without TLS.
    pub(crate) fn plain(address: &str) -> Self {
        Self { address: address.to_owned(), pin: None }
    }

    /// `HOST:PORT`, to a server with this key.
    pub(crate) fn tls(address: &str, pin: &str) -> Self {
        Self { address: address.to_owned(), pin: Some(pin.to_owned()) }
    }

    /// Both at a host that is not started yet, with a certificate that is made for it.
    pub(crate) fn both(settings: &mut HostSettings, dir: &Path) -> Result<[Self; 2]> {
        let pin = tls_init(&settings.binary, dir)?;
        let mqtts = settings.listen_with_tls(dir)?;
        Ok([Self::plain(&format!("127.0.0.1:{}", settings.mqtt_port)), Self::tls(&mqtts, &pin)])
    }

    fn port(&self) -> Result<u16> {
        let port = self.address.rsplit(':').next().unwrap_or_default();
        port.parse().with_context(|| format!("no port in {}", self.address))
    }
}

/// A board, switched on.
pub(crate) struct RunningBoard {
    pub(crate) board: EmulatedBoard,
    door: Door,
    pub(crate) emulator: Emulator,
    dir: TempDir,
}

/// Every packet of the board goes into this file in its folder.
const CAPTURE: &str = "capture.pcap";

impl RunningBoard {
    /// Switches a board on, without waiting for anything.
    pub(crate) fn start(board: EmulatedBoard, door: &Door, words: &[&str], qemu: &[&str]) -> Result<Self> {
        let dir = workspace::temporary_dir()?;
        let elf = if door.pin.is_some() { board.build_with_tls()? } else { board.build()? };
        let mut settings = EmulatorSettings::new(board, &elf, dir.path(), &door.address);
        settings.words = words.iter().map(ToString::to_string).collect();
        if let Some(pin) = &door.pin {
            // Beside the same board without TLS.
            settings.words.extend([format!("device={board}-tls"), format!("pin={pin}")]);
        }
        let capture = format!("filter-dump,id=capture,netdev=network,file={CAPTURE}");
        settings.qemu = qemu.iter().chain(&["-object", &capture]).map(ToString::to_string).collect();
        Ok(Self { board, door: door.clone(), emulator: Emulator::start(&settings)?, dir })
    }

    fn connections(&self) -> Result<usize> {
        Ok(self.emulator.log()?.matches(CONNECTED).count())
    }
}

impl fmt::Display for RunningBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.board, if self.door.pin.is_some() { " with TLS" } else { "" })
    }
}

/// A folder, and a host in it that is not started yet.
fn place() -> Result<(TempDir, HostSettings)> {
    let dir = workspace::temporary_dir()?;
    let settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    Ok((dir, settings))
}

/// Whether there is an emulator; if not, says that `test` is skipped.
pub(crate) fn can_emulate(test: &str) -> Result<bool> {
    let Err(error) = tools::qemu_system_arm() else { return Ok(true) };
    skip::report(test, &format!("no qemu-system-arm: {error:#}"))?;
    Ok(false)
}

/// A broker, a host behind it and every emulated board, without TLS and with it.
pub(crate) struct Site {
    broker: Broker,
    host: Option<HostProcess>,
    settings: HostSettings,
    pub(crate) machines: Vec<RunningBoard>,
    _dir: TempDir,
}

/// Whom the boards publish to.
enum Broker {
    /// The host's own endpoint.
    Gateway,
    Rabbitmq(Rabbitmq),
    Mosquitto(Mosquitto),
}

impl Site {
    /// Starts a host and the boards, each with these words on its command line; every board is connected.
    pub(crate) fn start(words: &[&str]) -> Result<Self> {
        let (dir, mut settings) = place()?;
        let doors = Door::both(&mut settings, dir.path())?;
        Self::connect(Broker::Gateway, doors, settings, dir, words)
    }

    /// As [`Site::start`], with a RabbitMQ between the boards and the host.
    pub(crate) fn with_rabbitmq(words: &[&str]) -> Result<Self> {
        let (dir, settings) = place()?;
        let pin = tls_init(&settings.binary, dir.path())?;
        let node = RabbitmqNode::new(&dir.path().join("rabbitmq"), ports::free()?)?;
        let rabbitmq = Rabbitmq::start_node(node.with_tls(dir.path(), ports::free()?)?)?;
        let tls = rabbitmq.tls_address().context("it has a port with TLS")?;
        let doors = [Door::plain(&rabbitmq.address()), Door::tls(&tls, &pin)];
        Self::connect(Broker::Rabbitmq(rabbitmq), doors, settings, dir, words)
    }

    /// As [`Site::start`], with a mosquitto between the boards and the host.
    pub(crate) fn with_mosquitto(words: &[&str]) -> Result<Self> {
        let (dir, settings) = place()?;
        let pin = tls_init(&settings.binary, dir.path())?;
        let mosquitto = Mosquitto::start_with_tls(dir.path(), dir.path())?;
        let tls = mosquitto.tls_address().context("it has a port with TLS")?;
        let doors = [Door::plain(&mosquitto.address()), Door::tls(&tls, &pin)];
        Self::connect(Broker::Mosquitto(mosquitto), doors, settings, dir, words)
    }

    fn connect(
        broker: Broker,
        doors: [Door; 2],
        mut settings: HostSettings,
        dir: TempDir,
        words: &[&str],
    ) -> Result<Self> {
        settings.broker = match &broker {
            Broker::Gateway => None,
            Broker::Rabbitmq(rabbitmq) => Some(rabbitmq.url()),
            Broker::Mosquitto(mosquitto) => Some(mosquitto.url()),
        };
        let host = Some(HostProcess::start(&settings)?);
        let mut machines = Vec::new();
        for door in &doors {
            for board in EmulatedBoard::EMULATED {
                machines.push(RunningBoard::start(board, door, words, &[])?);
            }
        }
        let mut site = Self { broker, host, settings, machines, _dir: dir };
        site.wait_for_connections(&vec![0; site.machines.len()], CONNECT_LIMIT)?;
        Ok(site)
    }

    /// Stops the gateway in order, and starts it again after `pause`.
    pub(crate) fn stop_gateway(&mut self, pause: Duration) -> Result<()> {
        self.host.take().context("the host runs")?.stop()?;
        thread::sleep(pause);
        self.host = Some(HostProcess::start(&self.settings)?);
        Ok(())
    }

    /// `kill -9` to whom the boards publish to, and a start on the same data. mosquitto, which has acknowledged messages
    /// on no disk then, is asked to end.
    pub(crate) fn kill_broker(&mut self) -> Result<()> {
        match &mut self.broker {
            Broker::Gateway => {
                self.host.take().context("the host runs")?.kill();
                self.host = Some(HostProcess::start(&self.settings)?);
                Ok(())
            }
            Broker::Rabbitmq(rabbitmq) => rabbitmq.restart(),
            Broker::Mosquitto(mosquitto) => mosquitto.restart(),
        }
    }

    /// Whom the boards publish to stands still for so long.
    pub(crate) fn freeze_broker(&self, pause: Duration) -> Result<()> {
        let process = match &self.broker {
            Broker::Gateway => self.host.as_ref().context("the host runs")?.process(),
            Broker::Rabbitmq(rabbitmq) => rabbitmq.process(),
            Broker::Mosquitto(mosquitto) => mosquitto.process(),
        };
        // RabbitMQ's broker is a descendant.
        process.signal_all(Signal::STOP)?;
        thread::sleep(pause);
        process.signal_all(Signal::CONT)
    }

    /// Pulls every board's network out, and plugs it in when `until` has come back.
    pub(crate) fn pull_links(&mut self, until: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        for machine in &self.machines {
            machine.emulator.link_down()?;
        }
        until(self)?;
        for machine in &self.machines {
            machine.emulator.link_up()?;
        }
        Ok(())
    }

    /// How often each board has connected.
    pub(crate) fn connections(&self) -> Result<Vec<usize>> {
        self.machines.iter().map(RunningBoard::connections).collect()
    }

    /// Waits until each board has connected more often than `before`, and tells how long each took.
    pub(crate) fn wait_for_connections(
        &mut self,
        before: &[usize],
        limit: Duration,
    ) -> Result<Vec<Duration>> {
        let start = Instant::now();
        let mut took = vec![None; self.machines.len()];
        wait::until("every board to connect", limit, || {
            for ((machine, before), took) in self.machines.iter_mut().zip(before).zip(&mut took) {
                machine.emulator.check_alive()?;
                if machine.connections()? > *before {
                    took.get_or_insert(start.elapsed());
                }
            }
            Ok(took.iter().copied().collect::<Option<Vec<_>>>())
        })
    }

    /// Waits until the host has counted so many more.
    pub(crate) fn wait_for_flow(&mut self, more: u64, limit: Duration) -> Result<()> {
        let before = self.counted()?.total();
        wait::until("samples to be counted", limit, || {
            Ok((self.counted()?.total() >= before + more).then_some(()))
        })
    }

    /// What the host has counted.
    pub(crate) fn counted(&self) -> Result<StatusCounts> {
        self.host.as_ref().map_or(Ok(StatusCounts::default()), HostProcess::all_counts)
    }

    /// Stops the boards and checks that nothing is missing: every sample was sent in its turn and acknowledged,
    /// and the host counted each one once. In which turn cannot be seen over TLS.
    pub(crate) fn finish(self) -> Result<Vec<BoardReport>> {
        let mut reports = Vec::new();
        let mut acknowledged = StatusCounts::default();
        for RunningBoard { board, door, emulator, dir } in self.machines {
            let log = emulator.log()?;
            let report = emulator.stop()?;
            println!("{board} at {door:?}: {report:?}");
            let totals = &report.totals;
            assert_eq!(totals.acknowledged.total(), totals.sampled, "{board} kept or lost samples\n{log}");
            assert_eq!((totals.dropped, totals.outbox), (0, 0), "{board}\n{log}");
            if door.pin.is_none() {
                order::check(&dir.path().join(CAPTURE), door.port()?, totals.sampled)
                    .with_context(|| board.name())?;
            }
            acknowledged += totals.acknowledged;
            reports.push(report);
        }
        if let Some(host) = self.host {
            // A broker acknowledges what it has stored itself, so the host may still be on its way.
            wait::until("the host to count it all", COUNT_LIMIT, || {
                Ok((host.all_counts()?.total() >= acknowledged.total()).then_some(()))
            })?;
            assert_eq!(host.all_counts()?, acknowledged, "counted and acknowledged differ");
            host.stop()?;
        }
        Ok(reports)
    }
}
