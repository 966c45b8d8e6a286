//! What boards with embassy share: from settings, a network driver and a random number to an emitter that
//! runs, a watchdog that is fed only while it gets on, and a lamp that says how it goes.
//!
//! Guarantees: no allocation; no unsafe, but for a future that is polled in an interrupt. It knows no chip and no pin:
//! a board hands it closures.

#![no_std]

pub mod boots;
pub mod identity;
#[cfg(feature = "interrupt")]
pub mod interrupt;
pub mod lamp;
pub mod progress;

#[cfg(feature = "firmware")]
mod broker;
#[cfg(feature = "firmware")]
mod clock;
#[cfg(feature = "firmware")]
mod memory;
#[cfg(feature = "firmware")]
mod node;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "firmware")]
pub use clock::EmbassyClock;
#[cfg(feature = "firmware")]
pub use embassy_net::Runner;
#[cfg(feature = "firmware")]
pub use memory::{Memory, Unreadable};
#[cfg(feature = "firmware")]
pub use node::{Hardware, Network, Node, NodeClock, NodeEmitter, NodeSampler, NodeSensor, Sockets, refuse};
#[cfg(feature = "tls")]
pub use tls::{NoTls, Trust};
