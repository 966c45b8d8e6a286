//! The gateway over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/host.rs"]
mod host;

mod connecting;
mod publishing;
mod standard;

use rollcall_wire::{DeviceId, Kind, Topic};

const GOOD: &[u8] = br#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":0}"#;

/// Where the device sim-0 publishes its status.
fn topic() -> String {
    Topic { device: DeviceId::new("sim-0").unwrap(), kind: Kind::Status }.name().to_string()
}
