//! A TCP proxy between an ingest and its broker, which can hold back what the ingest says, or lead elsewhere.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rollcall_harness::ports;

/// A proxy on a loopback port; it lives as long as the test process.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: AtomicU16,
    hold: AtomicBool,
}

impl Proxy {
    pub(crate) fn start(upstream: u16) -> Result<Self> {
        let port = ports::free()?;
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let shared = Arc::new(Shared { upstream: AtomicU16::new(upstream), hold: AtomicBool::new(false) });
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
    pub(crate) fn url(&self, url: &str) -> String {
        let user = url.rsplit_once('@').map_or("mqtt://", |(user, _)| user);
        format!("{user}@127.0.0.1:{}", self.port)
    }

    /// From now on nothing that the ingest says arrives.
    pub(crate) fn hold(&self) {
        self.shared.hold.store(true, Ordering::SeqCst);
    }

    /// Leads new connections to another port.
    pub(crate) fn lead_to(&self, upstream: u16) {
        self.shared.upstream.store(upstream, Ordering::SeqCst);
    }
}

fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let Ok((client_too, server_too)) = client.try_clone().and_then(|c| Ok((c, server.try_clone()?))) else {
        return;
    };
    let shared = shared.clone();
    thread::spawn(move || copy(client, server, || shared.hold.load(Ordering::SeqCst)));
    thread::spawn(move || copy(server_too, client_too, || false));
}

fn copy(mut from: TcpStream, mut to: TcpStream, hold: impl Fn() -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        while hold() {
            thread::sleep(Duration::from_millis(5));
        }
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other direction ends with this one.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
