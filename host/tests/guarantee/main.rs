//! The guarantee as a property: over any interleaving of connections, prefetch, redelivery, overtaking, forged ids
//! and restarts, what was acknowledged with success is counted exactly once or listed as undecided. Each (device,
//! boot, sequence) is compared with plain sets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod gateway;
mod history;
#[path = "../common/host.rs"]
mod host;
mod intake;
mod oracle;
mod store;
