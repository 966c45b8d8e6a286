//! A board in QEMU at the terminal: its serial log as it comes, and Ctrl-C as the board's own.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{Emulator, EmulatorSettings};
use rollcall_harness::signals::StopRequest;
use rollcall_harness::workspace;

/// How soon a line of the log and Ctrl-C are noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Our flags and what the firmware's command line calls them.
const FLAGS: [(&str, &str); 6] = [
    ("--device-id", "device"),
    ("--period-ms", "period_ms"),
    ("--seed", "seed"),
    ("--seconds", "seconds"),
    (TLS_PIN, "pin"),
    (TLS_PIN_NEXT, "pin_next"),
];

/// With it, the firmware is one with TLS.
const TLS_PIN: &str = "--tls-pin";

const TLS_PIN_NEXT: &str = "--tls-pin-next";

/// The firmware's command line, from ours.
pub(super) struct Words {
    words: Vec<String>,
    has_tls: bool,
}

/// Reads them.
pub(super) fn words(arguments: &mut Arguments) -> Result<Words> {
    let (mut words, mut has_tls) = (Vec::new(), false);
    for (flag, name) in FLAGS {
        let value: Option<String> = arguments.opt_value_from_str(flag)?;
        has_tls |= flag == TLS_PIN && value.is_some();
        ensure!(flag != TLS_PIN_NEXT || value.is_none() || has_tls, "{TLS_PIN_NEXT} needs {TLS_PIN}");
        words.extend(value.map(|value| format!("{name}={value}")));
    }
    Ok(Words { words, has_tls })
}

/// Builds the board's firmware and runs it until it ends.
pub(super) fn run(board: EmulatedBoard, broker: &str, words: Words) -> Result<ExitCode> {
    let elf = if words.has_tls { board.build_with_tls()? } else { board.build()? };
    let dir = workspace::temporary_dir()?;
    let mut settings = EmulatorSettings::new(board, &elf, dir.path(), broker);
    settings.words = words.words;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_a_server_will_have_next_needs_the_one_that_it_has() {
        let read = |flags: &[&str]| {
            words(&mut Arguments::from_vec(flags.iter().map(Into::into).collect())).map(|words| words.words)
        };
        let refused = read(&["--tls-pin-next", "B"]).unwrap_err();
        assert_eq!(refused.to_string(), "--tls-pin-next needs --tls-pin");
        assert_eq!(read(&["--tls-pin", "A", "--tls-pin-next", "B"]).unwrap(), ["pin=A", "pin_next=B"]);
        assert!(read(&[]).unwrap().is_empty());
    }
}
