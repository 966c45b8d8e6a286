//! A board in QEMU at the terminal: its serial log as it comes, and Ctrl-C as the board's own.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use pico_args::Arguments;
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{Emulator, EmulatorSettings};
use rollcall_harness::signals::StopRequest;
use rollcall_harness::workspace;

/// How soon a line of the log and Ctrl-C are noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Our flags and what the firmware's command line calls them.
const FLAGS: [(&str, &str); 4] =
    [("--device-id", "device"), ("--period-ms", "period_ms"), ("--seed", "seed"), ("--seconds", "seconds")];

/// The firmware's command line, from ours.
pub(super) fn words(arguments: &mut Arguments) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for (flag, name) in FLAGS {
        let value: Option<String> = arguments.opt_value_from_str(flag)?;
        words.extend(value.map(|value| format!("{name}={value}")));
    }
    Ok(words)
}

/// Builds the board's firmware and runs it until it ends.
pub(super) fn run(board: EmulatedBoard, broker: &str, words: Vec<String>) -> Result<ExitCode> {
    let elf = board.build()?;
    let dir = workspace::temporary_dir()?;
    let mut settings = EmulatorSettings::new(board, &elf, dir.path(), broker);
    settings.words = words;
    let stop = StopRequest::new()?;
    let mut emulator = Emulator::start(&settings)?;
    let (mut shown, mut asked) = (0, false);
    loop {
        let ended = emulator.ended()?;
        let log = emulator.log()?;
        // Only whole lines: the last one may be cut within a character.
        let whole = log.rfind('\n').map_or(0, |end| end + 1).max(shown);
        stdout().write_all(log.get(shown..whole).unwrap_or_default().as_bytes())?;
        stdout().flush()?;
        shown = whole;
        if let Some(status) = ended {
            print!("{}", emulator.callers()?);
            let code = status.code().context("the emulator was killed")?;
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
        }
        if stop.asked() && !asked {
            asked = true;
            emulator.ask_to_stop()?;
        }
        thread::sleep(LOOK_EVERY);
    }
}
