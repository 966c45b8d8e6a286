//! Rollcall's firmware for `qemu-system-arm -M lm3s6965evb`: a Cortex-M3 with 256 KB of flash and 64 KB of RAM.
//!
//! What it is told at run time is on the semihosting command line; `cargo xtask run-device` writes it.
#![no_std]
#![no_main]

mod ethernet;
mod interrupts;
mod uart;

use rollcall_qemu_support::node::{self, Machine};

/// The device id when the command line gives none.
const NAME: &str = "qemu-lm3s6965";

/// QEMU's reset value of RCC divides the PLL's 200 MHz by 16.
const CORE_HZ: u32 = 12_500_000;

#[rollcall_qemu_support::entry]
fn main() -> ! {
    let ethernet = ethernet::Ethernet::start();
    uart::start();
    interrupts::enable();
    node::run(Machine { name: NAME, core_hz: CORE_HZ, put: uart::put, ethernet })
}
