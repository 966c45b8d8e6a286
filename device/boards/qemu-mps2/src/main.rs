//! Rollcall's firmware for `qemu-system-arm -M mps2-an385`: a Cortex-M3 with a LAN9118.
//!
//! What it is told at run time is on the semihosting command line; `cargo xtask run-device` writes it.
#![no_std]
#![no_main]

mod ethernet;
mod interrupts;
mod uart;

use rollcall_qemu_support::node::{self, Machine};

/// The device id when the command line gives none.
const NAME: &str = "qemu-mps2";

/// AN385, section 3.3: SYSCLK.
const CORE_HZ: u32 = 25_000_000;

#[rollcall_qemu_support::entry]
fn main() -> ! {
    let ethernet = ethernet::Ethernet::start();
    uart::start();
    interrupts::enable();
    node::run(Machine { name: NAME, core_hz: CORE_HZ, put: uart::put, ethernet })
}
