//! `cargo xtask firmware`: how much flash and RAM each board's firmware takes, beside the recorded sizes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pico_args::Arguments;
use rollcall_harness::cargo::{Profile, Program};
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{Emulator, EmulatorSettings};
use rollcall_harness::hardware_board::{self, HardwareBoard};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::{cargo, workspace};
use serde_json::{Value, json};

pub(crate) use self::size::Size;
use crate::help;

mod size;

pub(crate) const HELP: &str = "\
Builds the firmware of every board, or of one, and prints what it takes in bytes beside what was recorded: text and
data are in flash, data, bss and stack in RAM. The stack is what an emulated board used at most while it published
for five seconds; there is no figure for boards that were not run.

  cargo xtask firmware [BOARD] [--record]

  --record   writes the sizes to device/boards/sizes.json instead of comparing

The exit code is 1 when a figure is more than 2 % above the recorded one, as in cargo xtask ci.

Examples:
  cargo xtask firmware
  cargo xtask firmware qemu-lm3s6965 --record
";

/// The figures of a board, in the order in which they are shown.
const FIGURES: [&str; 4] = ["text", "data", "bss", "stack"];

/// How much a figure may grow without being recorded.
const GROWTH_MAX: f64 = 0.02;

/// A board is run this long, at so many samples a second that the outbox and the window are in use.
const WORDS: [&str; 2] = ["seconds=5", "period_ms=10"];

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

/// Fails when any board's firmware has grown.
pub(crate) fn check() -> Result<()> {
    let grown = compare(&measure(None)?)?;
    ensure!(
        grown.is_empty(),
        "{} grew by more than {} %; if it is meant to: cargo xtask firmware --record",
        grown.join(", "),
        GROWTH_MAX * 100.0
    );
    Ok(())
}

fn measure(only: Option<&str>) -> Result<BTreeMap<String, Figures>> {
    let is_wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut measured = BTreeMap::new();
    for board in EmulatedBoard::EMULATED.into_iter().filter(|board| is_wanted(board.name())) {
        let elf = board.build()?;
        let mut figures = figures(Size::of(&elf)?);
        figures.insert("stack".to_owned(), stack_peak(board, elf)?);
        measured.insert(board.name().to_owned(), figures);
    }
    for board in hardware_board::all()?.into_iter().filter(|board| is_wanted(&board.name)) {
        board.add_target()?;
        measured.insert(board.name.clone(), figures(Size::of(&board.build()?)?));
    }
    if measured.is_empty() {
        bail!("there is no board {:?} with firmware; the boards are: {}", only.unwrap_or_default(), names()?);
    }
    Ok(measured)
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
fn stack_peak(board: EmulatedBoard, elf: PathBuf) -> Result<u64> {
    let dir = workspace::temporary_dir()?;
    let host =
        HostProcess::start(&HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?)?;
    let mut settings = EmulatorSettings::new(board, &elf, dir.path(), &host.broker());
    settings.words = WORDS.map(str::to_owned).to_vec();
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

/// Prints the table, and gives what has grown too much.
fn compare(measured: &BTreeMap<String, Figures>) -> Result<Vec<String>> {
    let recorded = read()?;
    let mut grown = Vec::new();
    println!("{:<16} {:<6} {:>9} {:>9}", "", "", "bytes", "recorded");
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
            println!("{board:<16} {figure:<6} {bytes:>9} {shown:>9}  {verdict}");
            if before.is_none_or(|before| *bytes as f64 > before as f64 * (1.0 + GROWTH_MAX)) {
                grown.push(format!("{figure} of {board}"));
            }
        }
    }
    Ok(grown)
}
