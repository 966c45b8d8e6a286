//! What devices and host agree on: ids, topics, slots, the JSON payload and how its time is told.
//!
//! Guarantees: no allocation, no `std`, no I/O, no panic on any input; what [`codec::encode`] writes,
//! [`codec::decode`] reads back. It knows neither of sessions nor of stores.

#![no_std]
#![forbid(unsafe_code)]

pub mod codec;
pub mod mutant;
pub mod reading;
mod scan;
pub mod topic;

pub use reading::{BootId, DeviceId, Reading, RunId, SampleId, Sequence, Status, Taken};
pub use topic::{Kind, OFFLINE, ONLINE, Slot, Topic};
