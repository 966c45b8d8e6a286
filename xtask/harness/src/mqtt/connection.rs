//! A blocking connection that reads and writes whole packets.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::decode::take_length;
use super::{CONNACK, ConnectPacket, Packet};

/// A TCP connection to somebody who speaks MQTT.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects and says nothing yet. What the peer does not say within `patience` is an error.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: impl ToSocketAddrs, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self { stream })
    }

    /// Says CONNECT and waits for the CONNACK.
    ///
    /// # Errors
    /// When it says anything but success, or does not come.
    pub fn connect(&mut self, connect: &ConnectPacket<'_>) -> Result<Packet> {
        self.send(&connect.encode())?;
        let reply = self.receive()?;
        match reply {
            Some(connack) if connack.kind() == CONNACK && connack.reason() == 0 => Ok(connack),
            refusal => Err(Error::new(ErrorKind::ConnectionRefused, format!("not welcome: {refusal:02x?}"))),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next packet; `None` when the peer has closed.
    ///
    /// # Errors
    /// When it does not come in time, or the connection breaks.
    pub fn receive(&mut self) -> Result<Option<Packet>> {
        let mut first = [0];
        match self.stream.read_exact(&mut first) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            outcome => outcome?,
        }
        // A byte at a time: what follows the packet is left to whoever reads next.
        let mut digits = Vec::new();
        let length = loop {
            let mut digit = [0];
            self.stream.read_exact(&mut digit)?;
            digits.extend(digit);
            if let Some((length, _)) = take_length(&digits)? {
                break length;
            }
        };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Some(Packet { first: first[0], body }))
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn finish(&mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The connection itself, for whoever reads it in another way.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
