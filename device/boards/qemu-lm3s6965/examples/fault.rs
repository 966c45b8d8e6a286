//! Reads where no memory is, so that the system test can see the report and the exit code.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::ptr;

use rollcall_qemu_support::console;

#[path = "support/board.rs"]
mod board;

/// Between the chip's SRAM and its peripherals (LM3S6965 data sheet, table 2-4).
const NOWHERE: usize = 0x3000_0000;

#[rollcall_qemu_support::entry]
fn main() -> ! {
    console::init(board::put);
    board::put(read(black_box(NOWHERE)));
    loop {
        cortex_m::asm::nop();
    }
}

#[expect(unsafe_code, reason = "a bus fault is what is wanted")]
fn read(address: usize) -> u8 {
    // SAFETY: no read of a byte changes anything, and this one faults.
    unsafe { ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}
