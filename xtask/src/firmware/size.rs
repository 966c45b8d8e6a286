//! How many bytes a firmware takes in flash and in RAM, by its ELF file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// How many bytes a program takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// In flash: code and constants.
    pub(crate) text: u64,
    /// In RAM and, for its first values, in flash.
    pub(crate) data: u64,
    /// In RAM, zero at first.
    pub(crate) bss: u64,
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
    pub(crate) fn of(elf: &Path) -> Result<Self> {
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
