//! Loopback ports that nothing listens on.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below Linux's ephemeral range (32768 and up), on purpose. A client that keeps on connecting to an
/// *ephemeral* port while its server is down can be given that very port as its own and so connect to
/// itself, after which the server cannot come back.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// How many ports of this process were looked at; no port is given out twice.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// Whether `port` can be listened on.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port that can be listened on again and again, by a server that is restarted.
///
/// # Errors
/// When every port is taken.
pub fn free() -> Result<u16> {
    // Processes start at different places, so that two test runs at once seldom meet.
    let start = (std::process::id() as u16).wrapping_mul(97) % COUNT;
    for _ in 0..COUNT {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + tried % COUNT) % COUNT;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("every port from {FIRST} to {} is taken", FIRST + COUNT - 1)
}

/// `wanted` when it is free, else another.
///
/// # Errors
/// When every port is taken.
pub fn free_or(wanted: u16) -> Result<u16> {
    if is_free(wanted) { Ok(wanted) } else { free() }
}
