//! Finds the broker: by its address, or by a name that is looked up anew at each connection, so that a
//! broker may move.

use core::net::{IpAddr, SocketAddr};

use defmt::warn;
use embassy_net::Stack;
use embassy_net::dns::DnsQueryType;
use embassy_net::tcp::Error;
use embassy_net::tcp::client::{TcpClient, TcpConnection};
use embedded_nal_async::TcpConnect;
use rollcall_provision::Host;

/// A socket's buffers, in bytes: a full window of publishes, and its acknowledgements.
pub(crate) const TX_SIZE: usize = 1536;
pub(crate) const RX_SIZE: usize = 512;

/// Connects to one host, whatever address it is asked for: only the port counts.
pub(crate) struct Dialer<'a, const N: usize> {
    pub(crate) client: TcpClient<'a, N, TX_SIZE, RX_SIZE>,
    pub(crate) stack: Stack<'a>,
    pub(crate) host: Host<'a>,
}

impl<'a, const N: usize> TcpConnect for Dialer<'a, N> {
    type Error = Error;
    type Connection<'m>
        = TcpConnection<'m, N, TX_SIZE, RX_SIZE>
    where
        Self: 'm;

    async fn connect<'m>(&'m self, remote: SocketAddr) -> Result<Self::Connection<'m>, Error> {
        let address = match self.host {
            Host::Address(address) => IpAddr::V4(address),
            Host::Name(name) => match self.stack.dns_query(name.as_str(), DnsQueryType::A).await {
                Ok(addresses) => (*addresses.first().ok_or(Error::ConnectionReset)?).into(),
                Err(error) => {
                    warn!("no address for {}: {}", name.as_str(), error);
                    // The only error that a TCP connection knows; the line above says what it was.
                    return Err(Error::ConnectionReset);
                }
            },
        };
        self.client.connect(SocketAddr::new(address, remote.port())).await
    }
}
