//! A client for tests: it says exactly the bytes that a test wants, right or wrong, and tells what came back. A peer
//! that does not answer fails the test.

use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use super::{CONNACK, ConnectPacket, Connection, Packet, Version, encode};

/// A reply that takes longer than this is missing.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of one version.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    version: Version,
}

impl Client {
    /// Connects and says CONNECT; the CONNACK is yet to be read.
    pub fn hello(address: SocketAddr, version: Version, id: &str, login: Option<(&str, &str)>) -> Self {
        Self::say(address, &ConnectPacket { login, ..ConnectPacket::new(version, id) })
    }

    /// Connects and says this CONNECT, whatever is in it; the CONNACK is yet to be read.
    pub fn say(address: SocketAddr, connect: &ConnectPacket<'_>) -> Self {
        let mut client = Self::raw(address, connect.version);
        client.send(&connect.encode());
        client
    }

    /// Connects, and is welcome.
    pub fn connect(address: SocketAddr, version: Version) -> Self {
        Self::try_connect(address, version).expect("not welcome")
    }

    /// Connects; `None` when nobody listens or the connection ends before it is welcome.
    pub fn try_connect(address: SocketAddr, version: Version) -> Option<Self> {
        // Without an id of its own: it is none that another client has, which would end that one's connection.
        Self::try_connect_as(address, version, "").map(|(client, _)| client)
    }

    /// As [`Client::try_connect`] with an id of its own; with the CONNACK.
    pub fn try_connect_as(address: SocketAddr, version: Version, id: &str) -> Option<(Self, Packet)> {
        let mut client = Self::try_raw(address, version).ok()?;
        client.send(&ConnectPacket::new(version, id).encode());
        let connack = client.receive()?;
        (connack.kind() == CONNACK && connack.reason() == 0).then_some((client, connack))
    }

    /// A TCP connection that has said nothing yet.
    pub fn raw(address: SocketAddr, version: Version) -> Self {
        Self::try_raw(address, version).expect("nobody listens")
    }

    fn try_raw(address: SocketAddr, version: Version) -> Result<Self> {
        Ok(Self { connection: Connection::open(address, PATIENCE)?, version })
    }

    /// Sends bytes as they are; a peer that has closed meanwhile is not this method's business.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.connection.send(bytes);
    }

    /// Says that nothing follows, and waits until the peer has closed too.
    pub fn leave(mut self) {
        let _ = self.connection.finish();
        while self.receive().is_some() {}
    }

    /// Publishes with QoS 1 and waits for the answer.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Option<Packet> {
        self.send(&encode::publish(self.version, 7, topic, payload, None));
        self.receive()
    }

    /// Subscribes and waits for the answer.
    pub fn subscribe(&mut self, filter: &str) -> Option<Packet> {
        self.send(&encode::subscribe(self.version, 9, filter));
        self.receive()
    }

    /// The next packet, or `None` when the peer closed.
    ///
    /// # Panics
    /// When neither comes in time.
    pub fn receive(&mut self) -> Option<Packet> {
        match self.connection.receive() {
            Ok(packet) => packet,
            Err(error) => {
                let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!is_late, "no answer within {PATIENCE:?}");
                None
            }
        }
    }

    /// Is there nothing to read, at this moment?
    pub fn silent(&self) -> bool {
        let stream = self.connection.stream();
        stream.set_nonblocking(true).expect("a connected socket");
        let silent = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).expect("a connected socket");
        silent
    }
}
