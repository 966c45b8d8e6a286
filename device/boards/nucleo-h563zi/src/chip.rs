//! What is particular to this chip: clocks, the unique number, and where the configuration lies.

use embassy_stm32::flash::Flash;
use embassy_stm32::peripherals::FLASH;
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, Hse, HseMode, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk, VoltageScale,
};
use embassy_stm32::time::Hertz;
use embassy_stm32::{Config, Peri, pac};
use rollcall_provision::{BLOCK_SIZE, Block};

/// Where the flash begins (RM0481, "Memory organization").
const FLASH_START: usize = 0x0800_0000;

/// 250 MHz, the chip's highest, made of the 8 MHz that the board's ST-LINK gives the chip (UM3115, "HSE
/// clock": a digital signal, not a crystal). HSI48 is what the random number generator runs on.
pub(crate) fn clocks() -> Config {
    let mut config = Config::default();
    config.rcc.hsi = None;
    config.rcc.hsi48 = Some(Default::default());
    config.rcc.hse = Some(Hse { freq: Hertz(8_000_000), mode: HseMode::BypassDigital });
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSE,
        prediv: PllPreDiv::DIV2,
        mul: PllMul::MUL125,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV1;
    config.rcc.apb1_pre = APBPrescaler::DIV1;
    config.rcc.apb2_pre = APBPrescaler::DIV1;
    config.rcc.apb3_pre = APBPrescaler::DIV1;
    config.rcc.voltage_scale = VoltageScale::Scale0;
    config
}

/// The chip's 96-bit number.
///
/// Read in whole words: on the STM32H5 a byte read of this memory is a bus fault (embassy issue 2696, which
/// shows the reference manual's words), and so is a read through the instruction cache (NuttX pull request
/// 19978), which is off after a reset and stays off.
pub(crate) fn unique_number() -> [u8; 12] {
    let mut number = [0; 12];
    for (index, bytes) in number.chunks_exact_mut(4).enumerate() {
        bytes.copy_from_slice(&pac::UID.uid(index).read().to_le_bytes());
    }
    number
}

#[expect(unsafe_code, reason = "memory.x names an address")]
mod linker {
    // SAFETY: memory.x defines the symbol. Only its address is taken.
    unsafe extern "C" {
        pub(super) static _configuration: u8;
    }
}

/// The block in the configuration's sector.
pub(crate) fn configuration(flash: Peri<'_, FLASH>) -> Block {
    let offset = (&raw const linker::_configuration).addr() - FLASH_START;
    let mut bytes = [0; BLOCK_SIZE];
    // It fails outside of the flash only; the zeroes are no configuration then.
    let _ = Flash::new_blocking(flash).blocking_read(offset as u32, &mut bytes);
    Block::from_bytes(bytes)
}
