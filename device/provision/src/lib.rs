//! What a board is told once: broker, device id, credentials, period and what TLS needs, and the block in flash that
//! holds it. Written by `cargo xtask provision`, read by the boards' firmware.
//!
//! Guarantees: no `std`, no allocation, no unsafe, no panic on any input. A block is read whole or not at
//! all: settings come only from one whose magic, version, length, CRC and every field are right. It knows
//! no flash driver and no board.

#![no_std]

mod block;
mod crc;
mod issued;
mod settings;
#[cfg(feature = "tls")]
mod tls;

pub use block::{BLOCK_SIZE, Block, BlockError, Field, VERSION};
pub use issued::{BadLine, issued};
pub use settings::{
    Broker, HOST_MAX, Host, HostName, InvalidHost, InvalidLogin, Login, PASSWORD_MAX, Settings, USER_MAX,
};
#[cfg(feature = "tls")]
pub use tls::{InvalidPin, PIN_SIZE, Pin, SEED_SIZE, Tls};
