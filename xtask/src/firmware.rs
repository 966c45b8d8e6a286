//! The boards that QEMU runs, and how large a firmware is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;

/// An emulated board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// An LM3S6965 in QEMU.
    QemuLm3s6965,
    /// An MPS2 with the AN385 image in QEMU.
    QemuMps2,
}

impl Board {
    /// Every one.
    pub const EMULATED: [Self; 2] = [Self::QemuLm3s6965, Self::QemuMps2];

    /// As the command line and the folder call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::QemuLm3s6965 => "qemu-lm3s6965",
            Self::QemuMps2 => "qemu-mps2",
        }
    }

    /// The board that is called `name`.
    ///
    /// # Errors
    /// When there is none; with those that there are.
    pub fn find(name: &str) -> Result<Self> {
        let Some(board) = Self::EMULATED.into_iter().find(|board| board.name() == name) else {
            bail!(
                "there is no firmware for {name:?}; the boards are: {}",
                Self::EMULATED.map(Self::name).join(", ")
            )
        };
        Ok(board)
    }

    /// Its package in the boards' workspace; the program has the same name.
    pub fn package(self) -> String {
        format!("rollcall-device-{}", self.name())
    }

    /// What its processor is to the compiler.
    pub fn target(self) -> &'static str {
        match self {
            Self::QemuLm3s6965 | Self::QemuMps2 => "thumbv7m-none-eabi",
        }
    }

    /// A cargo command about the firmware, for its target.
    ///
    /// # Errors
    /// When the target cannot be had.
    pub fn cargo(self, command: &str) -> Result<Command> {
        cargo::add_target(self.target())?;
        let package = self.package();
        let arguments = [command, "--package", &package, "--profile", "firmware", "--target", self.target()];
        Ok(cargo::firmware(&arguments))
    }

    /// Builds an example that stands beside the firmware, and says where it is.
    ///
    /// # Errors
    /// As [`Board::build`].
    pub fn build_example(self, name: &str) -> Result<PathBuf> {
        let mut command = self.cargo("build")?;
        command.args(["--example", name, "--message-format=json-render-diagnostics"]);
        cargo::executable(command, name)
    }

    /// Builds the firmware, with cargo's progress on stderr, and says where it is.
    ///
    /// # Errors
    /// When it does not build, or its target cannot be had.
    pub fn build(self) -> Result<PathBuf> {
        let mut command = self.cargo("build")?;
        command.arg("--message-format=json-render-diagnostics");
        cargo::executable(command, &self.package())
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many bytes a program takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// In flash: code and constants.
    pub text: u64,
    /// In RAM and, for its first values, in flash.
    pub data: u64,
    /// In RAM, zero at first.
    pub bss: u64,
}

/// `sh_type` and `sh_flags` of the ELF specification.
const SHT_NOBITS: u32 = 8;
const SHF_WRITE: u32 = 1;
const SHF_ALLOC: u32 = 2;

impl Size {
    /// Adds up the sections of a 32-bit little-endian ELF file that are in the machine's memory.
    ///
    /// # Errors
    /// When the file cannot be read, or is something else.
    pub fn of(elf: &Path) -> Result<Self> {
        let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
        ensure!(bytes.starts_with(b"\x7fELF\x01\x01"), "{} is no 32-bit ELF file", elf.display());
        Self::parse(&bytes).with_context(|| format!("{} is cut off", elf.display()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        // e_shoff, e_shentsize and e_shnum of the file's header.
        let (sections, step, count) = (word(32)? as usize, half(46)?, half(48)?);
        let mut size = Self::default();
        for section in (0..count).map(|index| sections + index * step) {
            let (kind, flags, bytes) = (word(section + 4)?, word(section + 8)?, word(section + 20)?);
            let total = match (flags & SHF_ALLOC != 0, kind == SHT_NOBITS, flags & SHF_WRITE != 0) {
                (false, _, _) => continue,
                (true, true, _) => &mut size.bss,
                (true, false, true) => &mut size.data,
                (true, false, false) => &mut size.text,
            };
            *total += u64::from(bytes);
        }
        Some(size)
    }
}
