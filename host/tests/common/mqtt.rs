//! An MQTT client that says exactly the bytes that a test wants, right or wrong, and tells what came back.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply that takes longer than this is missing.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311 = 4,
    V5 = 5,
}

/// A control packet: the first byte, and what follows the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

impl Packet {
    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The reason code of a PUBACK or DISCONNECT of MQTT 5; an absent one is 0.
    pub(crate) fn reason(&self) -> u8 {
        let at = if self.kind() == DISCONNECT { 0 } else { 2 };
        self.body.get(at).copied().unwrap_or(0)
    }
}

pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const SUBACK: u8 = 9;
pub(crate) const DISCONNECT: u8 = 14;

pub(crate) struct Client {
    stream: TcpStream,
    version: Version,
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let more = if left > 127 { 0x80 } else { 0 };
        bytes.push((left % 128) as u8 | more);
        left /= 128;
        if left == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A PUBLISH of QoS 1; in version 5 with a Message Expiry Interval if given.
pub(crate) fn publish(
    version: Version,
    id: u16,
    topic: &str,
    payload: &[u8],
    expiry_s: Option<u32>,
) -> Vec<u8> {
    publish_with(version, 0x32, Some(id), topic, payload, expiry_s)
}

pub(crate) fn publish_with(
    version: Version,
    first: u8,
    id: Option<u16>,
    topic: &str,
    payload: &[u8],
    expiry_s: Option<u32>,
) -> Vec<u8> {
    let mut body = string(topic.as_bytes());
    if let Some(id) = id {
        body.extend(id.to_be_bytes());
    }
    if version == Version::V5 {
        match expiry_s {
            Some(expiry) => {
                body.extend([5, 2]);
                body.extend(expiry.to_be_bytes());
            }
            None => body.push(0),
        }
    }
    body.extend(payload);
    packet(first, &body)
}

impl Client {
    /// Connects and says CONNECT; the CONNACK is yet to be read.
    pub(crate) fn hello(
        address: SocketAddr,
        version: Version,
        id: &str,
        login: Option<(&str, &str)>,
    ) -> Self {
        let mut client = Self::raw(address, version);
        client.send_connect(id, login);
        client
    }

    /// Connects, and is welcome.
    pub(crate) fn connect(address: SocketAddr, version: Version) -> Self {
        Self::try_connect(address, version).expect("not welcome")
    }

    /// Connects; `None` when nobody listens or the connection ends before it is welcome.
    pub(crate) fn try_connect(address: SocketAddr, version: Version) -> Option<Self> {
        let mut client = Self::try_raw(address, version).ok()?;
        client.send_connect("test", None);
        let connack = client.receive()?;
        (connack.kind() == CONNACK && connack.body[1] == 0).then_some(client)
    }

    /// A TCP connection that has said nothing yet.
    pub(crate) fn raw(address: SocketAddr, version: Version) -> Self {
        Self::try_raw(address, version).unwrap()
    }

    fn try_raw(address: SocketAddr, version: Version) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, version })
    }

    fn send_connect(&mut self, id: &str, login: Option<(&str, &str)>) {
        let mut body = string(b"MQTT");
        body.extend([self.version as u8, if login.is_some() { 0xc2 } else { 0x02 }, 0, 60]);
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend(string(id.as_bytes()));
        if let Some((user, password)) = login {
            body.extend(string(user.as_bytes()));
            body.extend(string(password.as_bytes()));
        }
        self.send(&packet(0x10, &body));
    }

    /// Sends bytes as they are; a peer that has closed meanwhile is not this method's business.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing follows, and waits until the peer has closed too.
    pub(crate) fn leave(mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        while self.receive().is_some() {}
    }

    /// Publishes with QoS 1 and waits for the answer.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) -> Option<Packet> {
        self.send(&publish(self.version, 7, topic, payload, None));
        self.receive()
    }

    pub(crate) fn subscribe(&mut self, filter: &str) -> Option<Packet> {
        let mut body = vec![0, 9];
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend(string(filter.as_bytes()));
        body.push(1);
        self.send(&packet(0x82, &body));
        self.receive()
    }

    /// The next packet, or `None` when the peer closed.
    pub(crate) fn receive(&mut self) -> Option<Packet> {
        let first = self.byte()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Packet { first, body })
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read_exact(&mut byte) {
            Ok(()) => Some(byte[0]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no answer within {PATIENCE:?}")
            }
            Err(_) => None,
        }
    }

    /// Is there nothing to read, at this moment?
    pub(crate) fn silent(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let silent =
            matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
        silent
    }
}
