//! TLS against servers in memory: rustls, and servers of the tests' own that do what no honest one does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod dropped;
mod honest;
mod hostile;
mod mutated;
mod net;
mod own_server;
mod rustls_server;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;

use embedded_nal_async::TcpConnect;
use rollcall_device_tls::{Error, INWARD_SIZE, OUTWARD_SIZE, Pins, TlsConnect, TlsSocket, Tunnel, engine};

use crate::net::{Net, run};

/// Of no matter: there is one server.
const REMOTE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8883);

/// Keys that are the same each time, and no secret.
struct TestRng(fastrand::Rng);

impl rand_core::RngCore for TestRng {
    fn next_u32(&mut self) -> u32 {
        self.0.u32(..)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

impl rand_core::CryptoRng for TestRng {}

fn random_bytes(random: &mut fastrand::Rng, length: Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(length)];
    random.fill(&mut bytes);
    bytes
}

fn pins(now: &[u8], next: Option<&[u8]>) -> Pins {
    Pins::new(now.try_into().unwrap(), next.map(|next| next.try_into().unwrap())).unwrap()
}

type Connection<'a, S> = TlsSocket<'a, net::Socket<'a, S>, INWARD_SIZE, OUTWARD_SIZE>;

/// Makes a connection to `net`'s server and does `then` with it. `None` where that never ends.
fn with_connection<S: net::Server, O>(
    net: &Net<S>,
    pins: Pins,
    then: impl AsyncFnOnce(&mut Connection<'_, S>) -> O,
) -> Option<Result<O, Error<Infallible>>> {
    let tunnel: Tunnel = Tunnel::new();
    let engine = pin!(engine(&tunnel, pins, TestRng(fastrand::Rng::with_seed(net.random()))));
    let tls = TlsConnect::new(net, &tunnel, engine);
    run(async {
        let mut connection = tls.connect(REMOTE).await?;
        Ok(then(&mut connection).await)
    })
}
