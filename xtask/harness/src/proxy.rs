//! A TCP proxy between a client and a server, which can hold back what the client says, stall both at random, or lead
//! elsewhere.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::{ports, seed};

/// How long bytes are held up at random.
const STALL_MS: std::ops::Range<u64> = 0..9_000;

/// One piece in so many is.
const STALL_ONE_IN: u32 = 4;

/// A proxy on a loopback port; it lives as long as the test process.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: AtomicU16,
    hold: AtomicBool,
    stall: AtomicBool,
    /// Each direction of each connection has random numbers of its own.
    seed: AtomicU64,
}

impl Proxy {
    /// A proxy for the server at a loopback port.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(upstream: u16) -> Result<Self> {
        let port = ports::free()?;
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let shared = Arc::new(Shared {
            upstream: AtomicU16::new(upstream),
            hold: AtomicBool::new(false),
            stall: AtomicBool::new(false),
            seed: AtomicU64::new(seed()),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A broker that is away refuses, and so do we.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", serving.upstream.load(Ordering::SeqCst)))
                {
                    connect(client, server, &serving);
                }
            }
        });
        Ok(Self { port, shared })
    }

    /// A broker's URL with the proxy in its place.
    pub fn url(&self, url: &str) -> String {
        let user = url.rsplit_once('@').map_or("mqtt://", |(user, _)| user);
        format!("{user}@127.0.0.1:{}", self.port)
    }

    /// `HOST:PORT` of the proxy.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on bytes of both directions are held up for up to nine seconds at random, or no longer.
    pub fn stall(&self, stall: bool) {
        self.shared.stall.store(stall, Ordering::SeqCst);
    }

    /// From now on nothing that the client says arrives.
    pub fn hold(&self) {
        self.shared.hold.store(true, Ordering::SeqCst);
    }

    /// Leads new connections to another port.
    pub fn lead_to(&self, upstream: u16) {
        self.shared.upstream.store(upstream, Ordering::SeqCst);
    }
}

fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let Ok((client_too, server_too)) = client.try_clone().and_then(|c| Ok((c, server.try_clone()?))) else {
        return;
    };
    let (shared, shared_too) = (shared.clone(), shared.clone());
    thread::spawn(move || copy(client, server, &shared, || shared.hold.load(Ordering::SeqCst)));
    thread::spawn(move || copy(server_too, client_too, &shared_too, || false));
}

fn copy(mut from: TcpStream, mut to: TcpStream, shared: &Shared, hold: impl Fn() -> bool) {
    let mut random = fastrand::Rng::with_seed(shared.seed.fetch_add(1, Ordering::SeqCst));
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        while hold() {
            thread::sleep(Duration::from_millis(5));
        }
        if shared.stall.load(Ordering::SeqCst) && random.u32(..STALL_ONE_IN) == 0 {
            thread::sleep(Duration::from_millis(random.u64(STALL_MS)));
        }
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other direction ends with this one.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
