//! The gateway over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/host.rs"]
mod host;

mod bounds;
mod connecting;
mod publishing;
mod standard;
mod wills;

use std::time::Duration;

use rollcall_host::model::Message;
use rollcall_wire::{DeviceId, Kind, Topic};
use tokio::sync::mpsc;

const GOOD: &[u8] = br#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":0}"#;

/// Where the device sim-0 publishes its status.
fn topic() -> String {
    Topic { device: DeviceId::new("sim-0").unwrap(), kind: Kind::Status }.name().to_string()
}

/// A message that takes longer than this does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The next message that the gateway hands on.
fn next(messages: &mut mpsc::Receiver<Message>) -> Message {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let next = runtime.block_on(async { tokio::time::timeout(PATIENCE, messages.recv()).await });
    next.expect("no message came").unwrap()
}
