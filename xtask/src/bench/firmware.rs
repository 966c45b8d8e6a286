//! What the firmware on the LM3S6965 takes: flash, RAM, instructions, bytes on the wire, time to the first PUBACK.
//!
//! QEMU counts instructions (`-icount`): each one takes 64 ns of the machine's time, and the time that the
//! machine sleeps is leapt over. So the figures do not depend on how quick this computer is.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::capture;
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{BoardReport, Emulator, EmulatorSettings};
use rollcall_harness::host::HostProcess;

use super::Fresh;
use super::table::{self, Target};
use crate::firmware::Size;

const BOARD: EmulatedBoard = EmulatedBoard::QemuLm3s6965;

/// The machine's clock, 12.5 MHz, in nanoseconds a cycle; and an instruction's, 2⁶.
const CYCLE_NS: f64 = 80.0;
const INSTRUCTION_NS: f64 = 64.0;
const LEAPING: &str = "shift=6,sleep=off";

/// The same, but the machine sleeps as long as it says: for what waits for the host.
const WAITING: &str = "shift=6";

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
        self.report.awake_cycles as f64 * CYCLE_NS / INSTRUCTION_NS
    }
}

/// Prints the figures of one board; `fresh` is for a host that takes its samples.
pub(super) fn measure(fresh: &Fresh) -> Result<()> {
    table::heading("firmware on the emulated LM3S6965, one sample a second, with its log");
    let elf = BOARD.build()?;
    let host = HostProcess::start(&fresh.settings)?;
    let mut settings = EmulatorSettings::new(BOARD, &elf, &fresh.settings.logs, &host.broker());
    let boot = run(&mut settings, WAITING, EACH_SECOND, BOOT)?;
    let idle_short = run(&mut settings, LEAPING, NEVER, SHORT)?;
    let idle = run(&mut settings, LEAPING, NEVER, LONG)?;
    let busy = run(&mut settings, LEAPING, EACH_SECOND, LONG)?;
    host.stop()?;

    let size = Size::of(&elf)?;
    table::print("text", size.text as f64, "bytes", Target::AtMost(65_536.0));
    let ram = (size.data + size.bss + busy.report.stack_peak - OUTBOX_SIZE) as f64;
    table::print("data, bss and peak stack, beyond the outbox", ram, "bytes", Target::AtMost(16_384.0));
    let first = boot.report.first_acknowledged_ms.context("nothing was acknowledged")? as f64;
    table::print("from boot to the first PUBACK", first, "ms", Target::AtMost(300.0));
    let each_idle_second = (idle.instructions() - idle_short.instructions()) / (LONG - SHORT) as f64;
    table::print("instructions an idle second", each_idle_second, "", Target::None);
    let samples = (busy.report.totals.sampled - idle.report.totals.sampled) as f64;
    let each = (busy.instructions() - idle.instructions()) / samples;
    table::print("instructions a published sample", each, "", Target::None);
    let bytes = (busy.wire_bytes as f64 - idle.wire_bytes as f64) / samples;
    table::print(
        "bytes on the wire a sample, both ways, Ethernet headers included",
        bytes,
        "bytes",
        Target::None,
    );
    Ok(())
}

fn run(settings: &mut EmulatorSettings, icount: &str, period: &str, seconds: u64) -> Result<Run> {
    let dump = settings.dir.join("dump.pcap");
    settings.words = vec![period.to_owned(), format!("seconds={seconds}")];
    let filter = "filter-dump,id=dump,netdev=network,file=dump.pcap";
    settings.qemu = ["-icount", icount, "-object", filter].map(str::to_owned).to_vec();
    // The serial log of an earlier run must not be taken for this one's.
    let _ = fs::remove_file(settings.dir.join("qemu.out"));
    let report = Emulator::start(settings)?.finish(RUN_LIMIT)?;
    ensure!(report.totals.acknowledged.total() == report.totals.sampled, "samples were lost: {report:?}");
    let dump = fs::read(&dump)?;
    let wire_bytes = capture::packets(&dump)?.iter().map(|packet| packet.len() as u64).sum();
    Ok(Run { report, wire_bytes })
}
