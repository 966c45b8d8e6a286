//! `cargo xtask flash`: builds a board's firmware, writes it and shows its log.

use std::process::ExitCode;

use anyhow::{Context, Result};
use pico_args::Arguments;
use rollcall_harness::hardware_board;

use crate::help;
use crate::probe::DebugProbe;

pub(crate) const HELP: &str = "\
Builds the firmware of a board, writes it through a debug probe and shows the board's log until Ctrl-C.

  cargo xtask flash BOARD [--features F] [--no-log]

  BOARD          nucleo-h563zi or w5500-evb-pico; device/boards/BOARD/README.md says what to connect
  --features F   of the board's firmware: tls, and on w5500-evb-pico flash-outbox, or both with a comma between
  --no-log       only write and reset

It needs probe-rs (cargo install probe-rs-tools --locked). The board's configuration stays as it is; write that
with cargo xtask provision. The firmware of neither board has run on hardware yet.

Examples:
  cargo xtask flash nucleo-h563zi
  cargo xtask flash w5500-evb-pico --no-log
";

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let no_log = arguments.contains("--no-log");
    let features: Option<String> = arguments.opt_value_from_str("--features")?;
    let name: String = arguments.free_from_str().context("which board? cargo xtask flash BOARD")?;
    help::reject_unknown(arguments, HELP)?;
    let board = hardware_board::find(&name)?;
    // Before the build, which takes minutes.
    let probe = DebugProbe::find(&board)?;
    board.add_target()?;
    let firmware = board.build_with(features.as_deref().unwrap_or_default())?;
    if no_log {
        probe.run("download", &[&firmware])?;
        probe.run::<&str>("reset", &[])?;
    } else {
        probe.run("run", &[&firmware])?;
    }
    Ok(ExitCode::SUCCESS)
}
