//! Every emulated board at one host, and the proof at the end that what they say and what it counted agree.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{BoardReport, Emulator, EmulatorSettings};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::{skip, tools, wait, workspace};
use tempfile::TempDir;

use crate::order;

/// Boot, address and connection take a tenth of a second; the rest is for a busy machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// What the firmware logs when a broker has accepted its connection.
const CONNECTED: &str = ": connected\n";

/// A board, switched on.
pub(crate) struct RunningBoard {
    pub(crate) board: EmulatedBoard,
    pub(crate) emulator: Emulator,
    dir: TempDir,
}

/// Every packet of the board goes into this file in its folder.
const CAPTURE: &str = "capture.pcap";

impl RunningBoard {
    /// Switches a board on, without waiting for anything.
    pub(crate) fn start(board: EmulatedBoard, broker: &str, words: &[&str], qemu: &[&str]) -> Result<Self> {
        let dir = workspace::temporary_dir()?;
        let mut settings = EmulatorSettings::new(board, &board.build()?, dir.path(), broker);
        settings.words = words.iter().map(ToString::to_string).collect();
        let capture = format!("filter-dump,id=capture,netdev=network,file={CAPTURE}");
        settings.qemu = qemu.iter().chain(&["-object", &capture]).map(ToString::to_string).collect();
        Ok(Self { board, emulator: Emulator::start(&settings)?, dir })
    }

    fn connections(&self) -> Result<usize> {
        Ok(self.emulator.log()?.matches(CONNECTED).count())
    }
}

/// Whether there is an emulator; if not, says that `test` is skipped.
pub(crate) fn can_emulate(test: &str) -> Result<bool> {
    let Err(error) = tools::qemu_system_arm() else { return Ok(true) };
    skip::report(test, &format!("no qemu-system-arm: {error:#}"))?;
    Ok(false)
}

/// A host and every emulated board.
pub(crate) struct Site {
    pub(crate) host: Option<HostProcess>,
    pub(crate) settings: HostSettings,
    pub(crate) machines: Vec<RunningBoard>,
    _dir: TempDir,
}

impl Site {
    /// Starts a host and the boards, each with these words on its command line; every board is connected.
    pub(crate) fn start(words: &[&str]) -> Result<Self> {
        let dir = workspace::temporary_dir()?;
        let settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
        let host = HostProcess::start(&settings)?;
        let broker = host.broker();
        let start = |board| RunningBoard::start(board, &broker, words, &[]);
        let machines = EmulatedBoard::EMULATED.into_iter().map(start).collect::<Result<_>>()?;
        let mut site = Self { host: Some(host), settings, machines, _dir: dir };
        site.wait_for_connections(&vec![0; site.machines.len()], CONNECT_LIMIT)?;
        Ok(site)
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
    /// and the host counted each one once.
    pub(crate) fn finish(self) -> Result<Vec<BoardReport>> {
        let mut reports = Vec::new();
        let mut acknowledged = StatusCounts::default();
        for RunningBoard { board, emulator, dir } in self.machines {
            let log = emulator.log()?;
            let report = emulator.stop()?;
            println!("{board}: {report:?}");
            let totals = &report.totals;
            assert_eq!(totals.acknowledged.total(), totals.sampled, "{board} kept or lost samples\n{log}");
            assert_eq!((totals.dropped, totals.outbox), (0, 0), "{board}\n{log}");
            order::check(&dir.path().join(CAPTURE), self.settings.mqtt_port, totals.sampled)
                .with_context(|| board.name())?;
            acknowledged += totals.acknowledged;
            reports.push(report);
        }
        if let Some(host) = self.host {
            assert_eq!(host.all_counts()?, acknowledged, "counted and acknowledged differ");
            host.stop()?;
        }
        Ok(reports)
    }
}
