//! Panics, so that the system test can see the report and the exit code.
#![no_std]
#![no_main]

use core::hint::black_box;

use rollcall_qemu_support::console;

#[path = "support/board.rs"]
mod board;

#[rollcall_qemu_support::entry]
fn main() -> ! {
    console::init(board::put);
    let none: &[u8] = black_box(&[]);
    board::put(none[0]);
    loop {
        cortex_m::asm::nop();
    }
}
