//! Starts Rollcall's programs, boards and other people's servers as real processes: for tests, and for the commands
//! of xtask.
//!
//! Guarantees: whatever it starts has ended when it ends, and what it makes on disk is under `target/`. It
//! links neither host nor device: it starts them and speaks MQTT and HTTP to them.

mod callers;
pub mod capture;
pub mod cargo;
pub mod counts;
pub mod emulated_board;
pub mod emulator;
pub mod fleet;
pub mod hardware_board;
pub mod host;
pub mod ports;
pub mod process;
pub mod services;
pub mod signals;
pub mod skip;
pub mod tools;
pub mod wait;
pub mod workspace;
