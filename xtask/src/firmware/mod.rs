//! `cargo xtask firmware`: how much flash and RAM each board's firmware takes, beside the recorded sizes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pico_args::Arguments;
use rollcall_harness::cargo::{Profile, Program};
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{Emulator, EmulatorSettings};
use rollcall_harness::hardware_board::{self, HardwareBoard};
use rollcall_harness::host::{HostProcess, HostSettings, tls_init};
use rollcall_harness::{cargo, workspace};
use serde_json::{Value, json};

pub(crate) use self::size::Size;
use crate::help;

mod size;

pub(crate) const HELP: &str = "\
Builds the firmware of every board, or of one, without TLS and with it, and prints what it takes in bytes beside what was
recorded: text and data are in flash, data, bss and stack in RAM. The stack is what an emulated board used at most
while it published for five seconds; there is no figure for boards that were not run.

  cargo xtask firmware [BOARD] [--record]

  --record   writes the sizes to device/boards/sizes.json instead of comparing

The exit code is 1 when a figure is more than 2 % above the recorded one, or above what the board may take at all, as in
cargo xtask ci.

Examples:
  cargo xtask firmware
  cargo xtask firmware qemu-lm3s6965 --record
";

/// The figures of a board, in the order in which they are shown.
const FIGURES: [&str; 4] = ["text", "data", "bss", "stack"];

/// How much a figure may grow without being recorded.
const GROWTH_MAX: f64 = 0.02;

/// What a board may take at all, recorded or not.
const LIMITS: [(&str, &str, u64); 2] =
    [("qemu-lm3s6965", "text", 64 * 1024), ("qemu-lm3s6965-tls", "text", 120 * 1024)];

/// A board is run this long, at so many samples a second that the outbox and the window are in use.
const WORDS: [&str; 2] = ["seconds=5", "period_ms=10"];

/// With TLS, so that a sample interrupts the handshake wherever the stack is deepest.
const WORDS_WITH_TLS: [&str; 2] = ["seconds=5", "period_ms=5"];

const RUN_LIMIT: Duration = Duration::from_secs(60);

/// Bytes, by figure.
type Figures = BTreeMap<String, u64>;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let record = arguments.contains("--record");
    let only: Option<String> = arguments.opt_free_from_str()?;
    help::reject_unknown(arguments, HELP)?;
    let measured = measure(only.as_deref())?;
    if record {
        return write(measured).map(|()| ExitCode::SUCCESS);
    }
    Ok(if compare(&measured)?.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fails when any board's firmware has grown, or takes more than it may.
pub(crate) fn check() -> Result<()> {
    let found = compare(&measure(None)?)?;
    ensure!(
        found.is_empty(),
        "{}; what is meant to grow, and may: cargo xtask firmware --record",
        found.join(", ")
    );
    Ok(())
}

/// Every board is there twice; the feature for TLS is called the same everywhere.
fn measure(only: Option<&str>) -> Result<BTreeMap<String, Figures>> {
    let is_wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut measured = BTreeMap::new();
    for board in EmulatedBoard::EMULATED.into_iter().filter(|board| is_wanted(board.name())) {
        for (elf, has_tls) in [(board.build()?, false), (board.build_with_tls()?, true)] {
            let mut figures = figures(Size::of(&elf)?);
            figures.insert("stack".to_owned(), stack_peak(board, &elf, has_tls)?);
            measured.insert(row(board.name(), has_tls), figures);
        }
    }
    for board in hardware_board::all()?.into_iter().filter(|board| is_wanted(&board.name)) {
        board.add_target()?;
        for (features, has_tls) in [("", false), ("tls", true)] {
            measured.insert(row(&board.name, has_tls), figures(Size::of(&board.build_with(features)?)?));
        }
    }
    if measured.is_empty() {
        bail!("there is no board {:?} with firmware; the boards are: {}", only.unwrap_or_default(), names()?);
    }
    Ok(measured)
}

fn row(board: &str, has_tls: bool) -> String {
    format!("{board}{}", if has_tls { "-tls" } else { "" })
}

fn names() -> Result<String> {
    let emulated = EmulatedBoard::EMULATED.map(|board| board.name().to_owned());
    let hardware = hardware_board::all()?.into_iter().map(|HardwareBoard { name, .. }| name);
    Ok(emulated.into_iter().chain(hardware).collect::<Vec<_>>().join(", "))
}

fn figures(Size { text, data, bss }: Size) -> Figures {
    [("text", text), ("data", data), ("bss", bss)].map(|(name, bytes)| (name.to_owned(), bytes)).into()
}

/// The most that the board had on its stack, in bytes, against a host of its own.
fn stack_peak(board: EmulatedBoard, elf: &Path, has_tls: bool) -> Result<u64> {
    let dir = workspace::temporary_dir()?;
    let mut host = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    let mut settings =
        EmulatorSettings::new(board, elf, dir.path(), &format!("127.0.0.1:{}", host.mqtt_port));
    settings.words = WORDS.map(str::to_owned).to_vec();
    if has_tls {
        settings.words = WORDS_WITH_TLS.map(str::to_owned).to_vec();
        settings.words.push(format!("pin={}", tls_init(&host.binary, dir.path())?));
        settings.broker = host.listen_with_tls(dir.path())?;
    }
    let host = HostProcess::start(&host)?;
    let report = Emulator::start(&settings)?.finish(RUN_LIMIT)?;
    host.stop()?;
    Ok(report.stack_peak)
}

fn path() -> PathBuf {
    workspace::boards().join("sizes.json")
}

fn read() -> Result<Value> {
    let path = path();
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}; cargo xtask firmware --record makes it", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// Writes the measured boards' figures; those of other boards stay.
fn write(measured: BTreeMap<String, Figures>) -> Result<()> {
    let mut recorded = if path().exists() { read()? } else { json!({}) };
    for (board, figures) in measured {
        recorded[board] = json!(figures);
    }
    fs::write(path(), serde_json::to_string_pretty(&recorded)? + "\n")?;
    println!("recorded in {}", path().display());
    Ok(())
}

fn limit(board: &str, figure: &str) -> Option<u64> {
    LIMITS.iter().find(|(of, what, _)| (*of, *what) == (board, figure)).map(|(.., limit)| *limit)
}

/// Prints the table, and gives what is too large.
fn compare(measured: &BTreeMap<String, Figures>) -> Result<Vec<String>> {
    let recorded = read()?;
    let mut found = Vec::new();
    println!("{:<18} {:<6} {:>9} {:>9}", "", "", "bytes", "recorded");
    for (board, figures) in measured {
        for figure in FIGURES {
            let Some(bytes) = figures.get(figure) else { continue };
            let before = recorded[board][figure].as_u64();
            let (shown, verdict) = match before {
                None => ("-".to_owned(), "not recorded".to_owned()),
                Some(before) if before == *bytes => (before.to_string(), String::new()),
                Some(before) => {
                    let change = *bytes as f64 / before as f64 - 1.0;
                    (before.to_string(), format!("{:+.1} %", change * 100.0))
                }
            };
            println!("{board:<18} {figure:<6} {bytes:>9} {shown:>9}  {verdict}");
            if before.is_none_or(|before| *bytes as f64 > before as f64 * (1.0 + GROWTH_MAX)) {
                found.push(format!("{figure} of {board} grew by more than {} %", GROWTH_MAX * 100.0));
            }
            if limit(board, figure).is_some_and(|limit| *bytes > limit) {
                found.push(format!("{figure} of {board} is beyond what it may take at all"));
            }
        }
    }
    Ok(found)
}
