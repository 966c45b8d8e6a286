//! Overflows the stack, so that the system test can see the report and the exit code.
#![no_std]
#![no_main]

use core::hint::black_box;

use rollcall_qemu_support::console;

#[path = "support/board.rs"]
mod board;

#[rollcall_qemu_support::entry]
fn main() -> ! {
    console::init(board::put);
    board::put(dig(0));
    loop {
        cortex_m::asm::nop();
    }
}

/// Deeper than any stack; what it adds up keeps the compiler from making a loop of it.
fn dig(depth: u8) -> u8 {
    let frame = black_box([depth; 256]);
    if black_box(true) { dig(frame[7].wrapping_add(1)).wrapping_add(frame[9]) } else { frame[3] }
}
