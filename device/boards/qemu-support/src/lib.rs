//! What the emulated Cortex-M machines have in common: time, an executor that sleeps, semihosting, the serial
//! log, fault reports, and the emitter on top of smoltcp.
//!
//! A machine brings its Ethernet driver, its UART and its interrupt table; [`node::run`] does the rest.
//!
//! It must not know a machine's registers. None of it is for boards one can buy: semihosting stops a
//! processor that has no debugger, and the randomness is the emulator's host's.
#![no_std]

pub mod console;
mod executor;
mod fault;
pub mod interrupts;
mod memory;
mod net;
pub mod node;
mod options;
mod parse;
mod report;
mod semihosting;
mod stack;
mod time;
#[cfg(feature = "tls")]
mod tls;

pub use cortex_m_rt::entry;
pub use semihosting::exit;
