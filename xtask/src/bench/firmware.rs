//! What firmware takes, without TLS and with it: flash, RAM, instructions, bytes on the wire, time to the first PUBACK.
//!
//! QEMU counts instructions (`-icount`): each one takes as long as on a processor with the machine's clock, and the
//! time that the machine sleeps is leapt over. So the figures do not depend on how quick this computer is. Boards that
//! one can buy are linked, and not run.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::capture;
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{BoardReport, Emulator, EmulatorSettings};
use rollcall_harness::hardware_board;
use rollcall_harness::host::{HostProcess, HostSettings, tls_init};

use super::Fresh;
use super::table::{self, Target};
use crate::firmware::Size;

/// Cycles an instruction: an instruction takes 64 ns at 12.5 MHz, and 32 ns at 25 MHz, which are 80 ns and 40 ns a
/// cycle.
const CYCLES_PER_INSTRUCTION: f64 = 64.0 / 80.0;

/// QEMU's `shift`: the logarithm of an instruction's nanoseconds.
const fn shift(board: EmulatedBoard) -> u32 {
    match board {
        EmulatedBoard::QemuLm3s6965 => 6,
        EmulatedBoard::QemuMps2 => 5,
    }
}

/// The machine leaps over what it sleeps, or sleeps as long as it says, where it waits for the host.
#[derive(Clone, Copy, PartialEq)]
enum Sleep {
    Leaping,
    Waiting,
}

/// 300 samples of 24 bytes.
const OUTBOX_SIZE: u64 = 7_200;

/// Longer than any run here lasts: only the first sample is taken.
const NEVER: &str = "period_ms=3600000";
const EACH_SECOND: &str = "period_ms=1000";

/// Seconds of the machine's time. Two runs that differ in one thing have their start and end in common.
const BOOT: u64 = 2;
const SHORT: u64 = 20;
const LONG: u64 = 140;

const RUN_LIMIT: Duration = Duration::from_secs(120);

struct Run {
    report: BoardReport,
    wire_bytes: u64,
}

impl Run {
    fn instructions(&self) -> f64 {
        self.report.awake_cycles as f64 / CYCLES_PER_INSTRUCTION
    }
}

/// Prints the figures of every board; `fresh` is for a host that takes their samples.
pub(super) fn measure(fresh: &Fresh) -> Result<()> {
    let mut settings = fresh.settings.clone();
    let pin = tls_init(&settings.binary, &settings.logs)?;
    let mqtts = settings.listen_with_tls(&settings.logs.clone())?;
    let host = HostProcess::start(&settings)?;
    for board in EmulatedBoard::EMULATED {
        let plain = Subject::new(board, board.build()?, &settings, &host.broker(), None);
        let with_tls = Subject::new(board, board.build_with_tls()?, &settings, &mqtts, Some(&pin));
        let without = plain.measure(&Targets::of(board, false))?;
        let with = with_tls.measure(&Targets::of(board, true))?;
        table::print("instructions of a handshake", with - without, "", Target::None);
    }
    host.stop()?;
    for board in hardware_board::all()? {
        board.add_target()?;
        for (features, with) in [("", "without TLS"), ("tls", "with TLS")] {
            table::heading(&format!("firmware of {} {with}, not run", board.name));
            print_size(Size::of(&board.build_with(features)?)?, Target::None);
        }
    }
    Ok(())
}

fn print_size(size: Size, text: Target) {
    table::print("text", size.text as f64, "bytes", text);
    table::print("data and bss", (size.data + size.bss) as f64, "bytes", Target::None);
}

/// What a board is meant to take.
struct Targets {
    text: Target,
    ram: Target,
    first_ms: Target,
}

impl Targets {
    fn of(board: EmulatedBoard, has_tls: bool) -> Self {
        let (text, ram, first_ms) = match (board, has_tls) {
            (EmulatedBoard::QemuLm3s6965, false) => {
                (Target::AtMost(65_536.0), Target::AtMost(16_384.0), Target::AtMost(300.0))
            }
            (EmulatedBoard::QemuLm3s6965, true) => {
                (Target::AtMost(122_880.0), Target::AtMost(65_536.0), Target::None)
            }
            (EmulatedBoard::QemuMps2, _) => (Target::None, Target::None, Target::None),
        };
        Self { text, ram, first_ms }
    }
}

/// A firmware to look at.
struct Subject {
    settings: EmulatorSettings,
    pin: Option<String>,
}

impl Subject {
    fn new(board: EmulatedBoard, elf: PathBuf, host: &HostSettings, broker: &str, pin: Option<&str>) -> Self {
        let settings = EmulatorSettings::new(board, &elf, &host.logs, broker);
        Self { settings, pin: pin.map(|pin| format!("pin={pin}")) }
    }

    /// Prints its figures, and gives the instructions until the first sample was acknowledged and nothing was left to do.
    fn measure(&self, targets: &Targets) -> Result<f64> {
        let with = if self.pin.is_some() { "with TLS" } else { "without TLS" };
        table::heading(&format!(
            "firmware on {} {with}, one sample a second, with its log",
            self.settings.board
        ));
        let boot = self.run(Sleep::Waiting, EACH_SECOND, BOOT)?;
        let idle_short = self.run(Sleep::Leaping, NEVER, SHORT)?;
        let idle = self.run(Sleep::Leaping, NEVER, LONG)?;
        let busy = self.run(Sleep::Leaping, EACH_SECOND, LONG)?;
        let size = Size::of(&self.settings.elf)?;
        print_size(size, targets.text);
        table::print("stack at most", busy.report.stack_peak as f64, "bytes", Target::None);
        let ram = (size.data + size.bss + busy.report.stack_peak - OUTBOX_SIZE) as f64;
        table::print("data, bss and peak stack, beyond the outbox", ram, "bytes", targets.ram);
        let first = boot.report.first_acknowledged_ms.context("nothing was acknowledged")? as f64;
        table::print("from boot to the first PUBACK", first, "ms", targets.first_ms);
        let idle_second = (idle.instructions() - idle_short.instructions()) / (LONG - SHORT) as f64;
        table::print("instructions an idle second", idle_second, "", Target::None);
        let samples = (busy.report.totals.sampled - idle.report.totals.sampled) as f64;
        let each = (busy.instructions() - idle.instructions()) / samples;
        table::print("instructions a published sample", each, "", Target::None);
        let bytes = (busy.wire_bytes as f64 - idle.wire_bytes as f64) / samples;
        let what = "bytes on the wire a sample, both ways, Ethernet headers included";
        table::print(what, bytes, "bytes", Target::None);
        Ok(idle_short.instructions() - idle_second * SHORT as f64)
    }

    fn run(&self, sleep: Sleep, period: &str, seconds: u64) -> Result<Run> {
        let mut settings = self.settings.clone();
        let dump = settings.dir.join("dump.pcap");
        settings.words = vec![period.to_owned(), format!("seconds={seconds}")];
        settings.words.extend(self.pin.clone());
        let filter = "filter-dump,id=dump,netdev=network,file=dump.pcap".to_owned();
        let leaping = if sleep == Sleep::Leaping { ",sleep=off" } else { "" };
        let icount = format!("shift={}{leaping}", shift(settings.board));
        settings.qemu = vec!["-icount".to_owned(), icount, "-object".to_owned(), filter];
        // The serial log of an earlier run must not be taken for this one's.
        let _ = fs::remove_file(settings.dir.join("qemu.out"));
        let report = Emulator::start(&settings)?.finish(RUN_LIMIT)?;
        ensure!(report.totals.acknowledged.total() == report.totals.sampled, "samples were lost: {report:?}");
        let dump = fs::read(&dump)?;
        let wire_bytes = capture::packets(&dump)?.iter().map(|packet| packet.len() as u64).sum();
        Ok(Run { report, wire_bytes })
    }
}
