//! What is particular to this chip: its flash, where things lie in it, and its random bits.

use embassy_rp::Peri;
use embassy_rp::clocks::RoscRng;
use embassy_rp::flash::{Blocking, Flash};
use embassy_rp::peripherals::FLASH;
#[cfg(feature = "tls")]
use rollcall_board_support::boots;
use rollcall_provision::{BLOCK_SIZE, Block};

/// Where the flash is mapped (RP2040 data sheet, "Address map").
const FLASH_START: usize = 0x1000_0000;

/// How much of the ring oscillator is looked at, in bytes.
const NOISE_SIZE: usize = 128;

/// The board's flash chip.
const FLASH_SIZE: usize = 2 * 1024 * 1024;

#[expect(unsafe_code, reason = "memory.x names an address")]
mod linker {
    // SAFETY: memory.x defines the symbol. Only its address is taken.
    unsafe extern "C" {
        pub(super) static _configuration: u8;
        #[cfg(feature = "tls")]
        pub(super) static _boots: u8;
        #[cfg(feature = "flash-outbox")]
        pub(super) static _outbox_start: u8;
        #[cfg(feature = "flash-outbox")]
        pub(super) static _outbox_end: u8;
    }
}

fn offset(symbol: *const u8) -> u32 {
    (symbol.addr() - FLASH_START) as u32
}

/// Where the outbox lies in the flash.
#[cfg(feature = "flash-outbox")]
pub(crate) fn outbox() -> core::ops::Range<u32> {
    offset(&raw const linker::_outbox_start)..offset(&raw const linker::_outbox_end)
}

/// The flash chip.
pub(crate) struct Memory(FlashChip);

/// Its driver.
pub(crate) type FlashChip = Flash<'static, FLASH, Blocking, FLASH_SIZE>;

impl Memory {
    pub(crate) fn new(flash: Peri<'static, FLASH>) -> Self {
        Self(Flash::new_blocking(flash))
    }

    /// The flash chip's 64-bit number: the RP2040 has none of its own.
    pub(crate) fn unique_number(&mut self) -> [u8; 8] {
        let mut number = [0; 8];
        if let Err(problem) = self.0.blocking_unique_id(&mut number) {
            defmt::warn!("the flash does not tell its number: {}", problem);
        }
        number
    }

    /// A number that no other boot has.
    #[cfg(feature = "tls")]
    pub(crate) fn boot_number(&mut self) -> Result<u64, boots::NoNumber> {
        boots::next(&mut self.0, offset(&raw const linker::_boots))
    }

    /// The driver, when all is read.
    #[cfg(feature = "flash-outbox")]
    pub(crate) fn into_chip(self) -> FlashChip {
        self.0
    }

    /// The block in the configuration's sector.
    pub(crate) fn configuration(&mut self) -> Block {
        let offset = offset(&raw const linker::_configuration);
        let mut bytes = [0; BLOCK_SIZE];
        // It fails outside of the flash only; the zeroes are no configuration then.
        let _ = self.0.blocking_read(offset, &mut bytes);
        Block::from_bytes(bytes)
    }
}

/// Bits of the ring oscillator. They are not independent of one another and not for cryptography (RP2040 data sheet,
/// "ROSC").
pub(crate) fn noise() -> [u8; NOISE_SIZE] {
    let mut bits = [0; NOISE_SIZE];
    RoscRng.fill_bytes(&mut bits);
    bits
}

/// 64 bits, condensed from 1,024 of the ring oscillator's with 64-bit FNV-1a. That makes boot ids that differ; it
/// makes no keys.
pub(crate) fn random() -> u64 {
    noise()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
