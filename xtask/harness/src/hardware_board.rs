//! The boards that one can buy, as their own folders describe them: target and chip in `Cargo.toml` under
//! `package.metadata.rollcall`, addresses in `memory.x`. So adding a board edits nothing here.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo::{self, Workspace};

/// The region of a board's memory.x that holds its configuration.
const CONFIGURATION: &str = "CONFIGURATION";

/// One board.
#[derive(Clone, Debug)]
pub struct HardwareBoard {
    /// How commands call it.
    pub name: String,
    /// What cargo calls its firmware.
    pub package: String,
    /// What the firmware is compiled for.
    pub target: String,
    /// What probe-rs calls its chip.
    pub chip: String,
    /// What to connect to flash it.
    pub connect: String,
    dir: PathBuf,
}

/// Every board in the boards' workspace that describes itself.
///
/// # Errors
/// When cargo does not tell, or a description is not whole.
pub fn all() -> Result<Vec<HardwareBoard>> {
    let mut command = Workspace::Boards.cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let output = command.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    packages.iter().filter(|package| !package["metadata"]["rollcall"].is_null()).map(hardware).collect()
}

/// The board with this name.
///
/// # Errors
/// When there is none: with the names that there are.
pub fn find(name: &str) -> Result<HardwareBoard> {
    let boards = all()?;
    let names: Vec<_> = boards.iter().map(|board| board.name.clone()).collect();
    let Some(board) = boards.into_iter().find(|board| board.name == name) else {
        bail!("there is no board {name:?} to flash; the boards are: {}", names.join(", "));
    };
    Ok(board)
}

fn hardware(package: &Value) -> Result<HardwareBoard> {
    let text = |value: &Value, what: &str| {
        let found = value.as_str().map(str::to_owned);
        found.with_context(|| format!("{}: package.metadata.rollcall lacks {what}", package["name"]))
    };
    let description = &package["metadata"]["rollcall"];
    let manifest = PathBuf::from(text(&package["manifest_path"], "a manifest")?);
    Ok(HardwareBoard {
        name: text(&description["board"], "board")?,
        package: text(&package["name"], "a name")?,
        target: text(&description["target"], "target")?,
        chip: text(&description["chip"], "chip")?,
        connect: text(&description["connect"], "connect")?,
        dir: manifest.parent().unwrap_or(&manifest).to_owned(),
    })
}

impl HardwareBoard {
    /// Where the configuration lies in the address space: a whole number of sectors.
    ///
    /// # Errors
    /// When the board's memory.x does not say.
    pub fn configuration(&self) -> Result<Range<u32>> {
        let path = self.dir.join("memory.x");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let context = || format!("{} has no region {CONFIGURATION} with plain numbers", path.display());
        region(&text, CONFIGURATION).with_context(context)
    }

    /// A cargo command for the firmware alone: another board's features must not mix with its own.
    fn cargo(&self, command: &str) -> Command {
        cargo::firmware(&[command, "--package", &self.package, "--target", &self.target])
    }

    /// Sees to it that cargo can build for the board.
    ///
    /// # Errors
    /// When rustup is not there, or cannot fetch the target.
    pub fn add_target(&self) -> Result<()> {
        cargo::add_target(&self.target)
    }

    /// Lints the firmware without its features and with all of them, for its own target; a warning is an error.
    ///
    /// # Errors
    /// When there is one.
    pub fn clippy(&self) -> Result<()> {
        for features in [&[][..], &["--all-features"]] {
            let mut command = self.cargo("clippy");
            command.args(features).args(["--", "--deny", "warnings"]);
            cargo::run(command)?;
        }
        Ok(())
    }

    /// Builds and links the firmware with these of its features, and says where it is.
    ///
    /// # Errors
    /// When it does not build.
    pub fn build_with(&self, features: &str) -> Result<PathBuf> {
        let mut command = self.cargo("build");
        command.args(["--profile", "firmware", "--features", features]);
        command.arg("--message-format=json-render-diagnostics");
        cargo::executable(command, &self.package)
    }
}

/// The addresses of `NAME : ORIGIN = 0x…, LENGTH = …K` in a linker script.
fn region(script: &str, name: &str) -> Option<Range<u32>> {
    let line = script.lines().find(|line| line.split(':').next().is_some_and(|word| word.trim() == name))?;
    let (_, fields) = line.split_once(':')?;
    let (origin, length) = fields.split_once(',')?;
    let start = u32::from_str_radix(value(origin, "ORIGIN")?.strip_prefix("0x")?, 16).ok()?;
    let kib: u32 = value(length, "LENGTH")?.strip_suffix('K')?.parse().ok()?;
    Some(start..start.checked_add(kib.checked_mul(1024)?)?)
}

fn value<'a>(field: &'a str, key: &str) -> Option<&'a str> {
    let (name, value) = field.split_once('=')?;
    (name.trim() == key).then_some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_read_from_a_linker_script() {
        let script = "MEMORY\n{\n  FLASH : ORIGIN = 0x08000000, LENGTH = 2040K\n  \
            CONFIGURATION : ORIGIN = 0x081FE000, LENGTH = 8K\n}\n_configuration = ORIGIN(CONFIGURATION);\n";
        assert_eq!(region(script, "CONFIGURATION"), Some(0x081f_e000..0x0820_0000));
        assert_eq!(region(script, "OUTBOX"), None);
        assert_eq!(region("CONFIGURATION : ORIGIN = 0x10000100, LENGTH = 2K - 8", "CONFIGURATION"), None);
    }

    #[test]
    fn the_boards_describe_themselves() {
        for board in all().unwrap() {
            let configuration = board.configuration().unwrap();
            // 4 KB is the smallest sector that any of them erases.
            assert!(configuration.start.is_multiple_of(4096) && configuration.len() >= 4096, "{board:?}");
        }
        assert!(find("nucleo-h563zi").is_ok() && find("w5500-evb-pico").is_ok());
        let error = find("toaster").unwrap_err().to_string();
        assert!(error.contains("nucleo-h563zi, w5500-evb-pico"), "{error}");
    }
}
