//! Rollcall's emitter: takes a status every period and sees each one acknowledged over MQTT 5, QoS 1.
//!
//! In flow order: [`sensor`] → [`outbox`] → session → broker; [`emitter`] joins them, [`backoff`] paces
//! the retries, [`stats`] counts.
//!
//! Guarantees: no `std`, no allocation, no unsafe. Sampling never waits for the network, and where
//! a board runs the two halves of an emitter apart, for no calculation either. A sample leaves
//! the outbox only when its own PUBACK said success, or into a named drop counter:
//! `sampled = acknowledged + dropped + outbox` holds at every instant. With a [`store`], a sample outlasts a
//! reset too.
//!
//! It must not know a board, a network stack or a source of time: those are its arguments.
#![no_std]

mod fmt;
#[cfg(feature = "fuzz")]
pub mod fuzz;

pub mod backoff;
mod cadence;
pub mod clock;
pub mod config;
pub mod emitter;
#[cfg(feature = "flash")]
pub mod flash;
mod ledger;
pub mod outbox;
pub mod sensor;
mod session;
pub mod sharing;
pub mod stats;
pub mod store;
mod wait;
mod watch;

pub use clock::Clock;
pub use config::{Config, Credentials};
pub use emitter::{Board, Emitter, Sampler, Sender};
pub use rollcall_wire::{BootId, DeviceId, RunId, Status};
pub use sensor::{RandomSensor, Sensor};
pub use sharing::{OneTask, TwoTasks};
pub use stats::{Snapshot, Stats};
