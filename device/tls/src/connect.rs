//! The way to a connection.

use core::cell::RefCell;
use core::convert::Infallible;
use core::net::SocketAddr;
use core::pin::Pin;

use embedded_nal_async::TcpConnect;

use crate::error::{Error, Failure};
use crate::socket::{Engine, TlsSocket};
use crate::tunnel::Tunnel;

/// TLS over the TCP of `net`, as a TCP of its own; one connection at a time.
///
/// ```
/// # use core::pin::pin;
/// # use rollcall_device_tls::{Pins, TlsConnect, Tunnel, engine};
/// # fn example(tcp: impl embedded_nal_async::TcpConnect, pins: Pins, rng: impl rand_core::CryptoRng) {
/// let tunnel: Tunnel = Tunnel::new();
/// let engine = pin!(engine(&tunnel, pins, rng));
/// let net = TlsConnect::new(&tcp, &tunnel, engine);
/// # }
/// ```
pub struct TlsConnect<'e, T, const IN: usize, const OUT: usize> {
    net: &'e T,
    tunnel: &'e Tunnel<IN, OUT>,
    engine: Engine<'e>,
}

impl<'e, T, const IN: usize, const OUT: usize> TlsConnect<'e, T, IN, OUT> {
    /// TLS over `net` by the [`engine`](crate::engine()) that was made of `tunnel`.
    pub const fn new(
        net: &'e T,
        tunnel: &'e Tunnel<IN, OUT>,
        engine: Pin<&'e mut (dyn Future<Output = Infallible> + 'e)>,
    ) -> Self {
        Self { net, tunnel, engine: RefCell::new(engine) }
    }
}

impl<T: TcpConnect, const IN: usize, const OUT: usize> TcpConnect for TlsConnect<'_, T, IN, OUT> {
    type Error = Error<T::Error>;
    type Connection<'a>
        = TlsSocket<'a, T::Connection<'a>, IN, OUT>
    where
        Self: 'a;

    async fn connect<'a>(&'a self, remote: SocketAddr) -> Result<Self::Connection<'a>, Self::Error> {
        let claim = self.tunnel.claim().ok_or(Error::Busy)?;
        let socket = self.net.connect(remote).await.map_err(Error::Transport)?;
        let mut connection = TlsSocket { socket, claim, engine: &self.engine };
        let opened = connection.open().await;
        if let Err(Error::Failed(failure)) = &opened {
            say(*failure);
        }
        opened.map(|()| connection)
    }
}

/// Why a server was refused. The emitter hears of a kind of error alone.
fn say(failure: Failure) {
    #[cfg(feature = "defmt")]
    defmt::warn!("TLS: {}", failure);
    #[cfg(all(feature = "log", not(feature = "defmt")))]
    log::warn!("TLS: {failure}");
    #[cfg(not(any(feature = "log", feature = "defmt")))]
    let _ = failure;
}
