//! Starts Rollcall's programs, boards and other people's servers as real processes, speaks MQTT to them, and owns the
//! seed: for tests, and for the commands of xtask.
//!
//! Guarantees: whatever it starts has ended when it ends, and what it makes on disk is under `target/`. It
//! links neither host nor device: it starts them and speaks MQTT and HTTP to them. Without the feature `processes`
//! only [`mqtt`] and the seed are left, which need next to nothing: the device's tests compile in a moment.

#[cfg(feature = "processes")]
mod callers;
#[cfg(feature = "processes")]
pub mod capture;
#[cfg(feature = "processes")]
pub mod cargo;
#[cfg(feature = "processes")]
pub mod counts;
#[cfg(feature = "processes")]
pub mod emulated_board;
#[cfg(feature = "processes")]
pub mod emulator;
#[cfg(feature = "processes")]
pub mod fleet;
#[cfg(feature = "processes")]
pub mod floods;
#[cfg(feature = "processes")]
pub mod hardware_board;
#[cfg(feature = "processes")]
pub mod host;
pub mod mqtt;
#[cfg(feature = "processes")]
pub mod pace;
#[cfg(feature = "processes")]
pub mod ports;
#[cfg(feature = "processes")]
pub mod process;
#[cfg(feature = "processes")]
pub mod proxy;
mod seed;
#[cfg(feature = "processes")]
pub mod services;
#[cfg(feature = "processes")]
pub mod signals;
#[cfg(feature = "processes")]
pub mod skip;
#[cfg(feature = "processes")]
pub mod tools;
#[cfg(feature = "processes")]
pub mod wait;
#[cfg(feature = "processes")]
pub mod workspace;

pub use self::seed::{number_from_environment, random, seed};
