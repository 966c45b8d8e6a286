//! Builds Rollcall's programs and runs them as real processes: for the commands and for the system tests.
//!
//! Guarantees: whatever it starts has ended when it ends, and what it makes on disk is under `target/`. It
//! links neither host nor device: it starts them and speaks MQTT and HTTP to them.

pub mod callers;
pub mod capture;
pub mod cargo;
pub mod counts;
pub mod emulator;
pub mod firmware;
pub mod fleet;
pub mod hardware;
pub mod host;
pub mod intel_hex;
pub mod ports;
pub mod process;
pub mod services;
pub mod signals;
pub mod skip;
pub mod tools;
pub mod wait;
pub mod workspace;
