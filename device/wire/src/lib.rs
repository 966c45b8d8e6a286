//! What devices and host agree on: ids, topics, slots, the JSON payloads and how their time is told.
//!
//! Guarantees: no allocation, no `std`, no I/O, no panic on any input; what [`codec::encode`] writes,
//! [`codec::decode`] reads back, and so in [`presence`]. It knows neither of sessions nor of stores.

#![no_std]
#![forbid(unsafe_code)]

pub mod codec;
pub mod mutant;
pub mod presence;
pub mod reading;
mod scan;
pub mod topic;

pub use presence::{Announcement, ConnectionId};
pub use reading::{BootId, DeviceId, Reading, RunId, SampleId, Sequence, Status, Taken};
pub use topic::{Kind, Slot, Topic};
