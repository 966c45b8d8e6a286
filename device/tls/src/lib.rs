//! TLS 1.3 for devices: [`TlsConnect`] is a TCP of its own over any other, to a server whose public key is
//! pinned.
//!
//! In flow order: [`TlsConnect`] → the pump in `socket` → the two buffers in `wire` → the engine, which
//! holds embedded-tls → `verifier` and `suite`, which decide what it may believe.
//!
//! Guarantees: no `std`, no allocation, no unsafe, no panic on any input. Not a byte that was written is sent to
//! a server that has not proved, in this very handshake, that it holds a pinned key. Any future of a
//! connection may be dropped at any await: what was received stays, what was taken to be sent is sent once,
//! and no record is encrypted twice.
//!
//! embedded-tls must not be used as it comes. It takes a server that sends neither Certificate nor
//! CertificateVerify: `verifier` remembers whether a signature was checked, and is asked before anything
//! else. Its futures lose bytes and repeat nonces when they are dropped half-way: here they belong to the
//! engine, which nobody drops, and wait for memory alone. It panics on records that hold nothing, and on
//! handshake messages after the handshake: `suite` and `wire` let neither through.
#![no_std]

mod certificate;
mod connect;
mod engine;
mod error;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod generator;
mod pins;
mod socket;
mod suite;
mod tunnel;
mod verifier;
mod wire;

pub use connect::TlsConnect;
pub use engine::engine;
pub use error::{Error, Failure};
pub use generator::{Generator, NoSeed, SEED_SIZE};
pub use pins::{InvalidPin, PIN_SIZE, Pins};
pub use socket::TlsSocket;
pub use tunnel::{INWARD_SIZE, OUTWARD_SIZE, Tunnel};
