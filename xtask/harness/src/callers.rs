//! Firmware that crashes tells addresses only. Here they become functions, files and lines, by the ELF file's tables.

use std::fmt::Write;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Result, anyhow};

/// What the firmware writes before an address to which a function would have returned.
const RETURN: &str = "called from 0x";

/// What it writes before the address of the instruction that failed.
const FAULT: &str = "hard fault at 0x";

/// A line for each function that was at work where `log` tells an address, the innermost first.
///
/// # Errors
/// When there is an address and `elf` cannot be read.
pub(crate) fn of(elf: &Path, log: &str) -> Result<String> {
    let mut text = String::new();
    let mut addresses = log.lines().filter_map(instruction).peekable();
    if addresses.peek().is_none() {
        return Ok(text);
    }
    let unreadable =
        |error: Box<dyn std::error::Error>| anyhow!("cannot read the tables of {}: {error}", elf.display());
    let tables = Loader::new(elf).map_err(unreadable)?;
    for address in addresses {
        let mut frames = tables.find_frames(address).map_err(unreadable)?;
        while let Some(frame) = frames.next()? {
            let function = frame.function.as_ref().and_then(|function| function.demangle().ok());
            let place = frame.location.and_then(|location| Some((location.file?, location.line)));
            // Where several places share an instruction, the tables know their file and function, and no line.
            let (file, line) = place.unwrap_or(("?", None));
            let line = line.filter(|line| *line > 0).map_or(String::new(), |line| format!(":{line}"));
            writeln!(text, "  {} at {file}{line}", function.as_deref().unwrap_or("?"))?;
        }
    }
    Ok(text)
}

/// An address within the instruction that a line tells of. An instruction that calls is 2 or 4 bytes long; where it
/// returns to has its lowest bit set, as every address of Thumb code.
fn instruction(line: &str) -> Option<u64> {
    if let Some(address) = line.strip_prefix(RETURN) {
        return u64::from_str_radix(address, 16).ok()?.checked_sub(2);
    }
    u64::from_str_radix(line.strip_prefix(FAULT)?, 16).ok()
}
