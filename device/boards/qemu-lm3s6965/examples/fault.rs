//! Executes what is no instruction, so that the system test can see the report and the exit code.
//!
//! Not a read where no memory is: this machine of QEMU's gives 0 for it.
#![no_std]
#![no_main]

use rollcall_qemu_support::console;

#[path = "support/board.rs"]
mod board;

#[rollcall_qemu_support::entry]
fn main() -> ! {
    console::init(board::put);
    cortex_m::asm::udf()
}
