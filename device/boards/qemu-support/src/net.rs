//! TCP for the emitter, which waits for an address first.

use core::net::SocketAddr;

use embassy_net::Stack;
use embassy_net::tcp::client::TcpClient;
use embassy_time::{Duration, with_timeout};
use embedded_nal_async::TcpConnect;

/// How long a connection may take before it is tried anew. TCP itself would send the next SYN after 1, 2, 4, …
/// seconds, and so notice late that the network is back.
const ATTEMPT: Duration = Duration::from_millis(1500);

/// embassy-net's client refuses at once while there is no address, and the emitter would back off for up to
/// half a second although DHCP answers in milliseconds. The emitter's own time limit covers the wait.
pub(crate) struct Net<'d, const N: usize, const TX: usize, const RX: usize> {
    pub(crate) stack: Stack<'d>,
    pub(crate) tcp: TcpClient<'d, N, TX, RX>,
}

impl<'d, const N: usize, const TX: usize, const RX: usize> TcpConnect for Net<'d, N, TX, RX> {
    type Error = <TcpClient<'d, N, TX, RX> as TcpConnect>::Error;
    type Connection<'a>
        = <TcpClient<'d, N, TX, RX> as TcpConnect>::Connection<'a>
    where
        Self: 'a;

    async fn connect(&self, remote: SocketAddr) -> Result<Self::Connection<'_>, Self::Error> {
        loop {
            self.stack.wait_config_up().await;
            if let Ok(outcome) = with_timeout(ATTEMPT, self.tcp.connect(remote)).await {
                return outcome;
            }
        }
    }
}
