//! A connection as a load uses it: it is opened and greeted before the load begins, read when there is something to
//! read, and with TLS or without.

use std::io::{Read, Write};
use std::net::TcpStream;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rollcall_harness::mqtt::{self, ConnectPacket};

/// A handshake with 10,000 others waiting.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Where clients come in.
#[derive(Clone)]
pub(super) enum Door {
    /// `HOST:PORT`.
    Plain(String),
    /// The same, and what clients trust.
    #[cfg(feature = "tls")]
    Tls(String, Arc<rustls::ClientConfig>),
}

/// See the module.
pub(super) struct Wire {
    stream: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<Box<rustls::ClientConnection>>,
}

impl Wire {
    /// Connects, says CONNECT and waits until it is welcome.
    pub(super) fn open(door: &Door, connect: &ConnectPacket<'_>) -> Result<Self> {
        match door {
            Door::Plain(address) => {
                let mut connection = mqtt::Connection::open(address, CONNECT_LIMIT)?;
                connection.connect(connect)?;
                Ok(Self {
                    stream: connection.into_stream(),
                    #[cfg(feature = "tls")]
                    tls: None,
                })
            }
            #[cfg(feature = "tls")]
            Door::Tls(address, config) => {
                let stream = mqtt::Connection::open(address, CONNECT_LIMIT)?.into_stream();
                let name = rustls::pki_types::ServerName::try_from("localhost")?;
                let tls = rustls::ClientConnection::new(config.clone(), name)?;
                let mut wire = Self { stream, tls: Some(Box::new(tls)) };
                wire.write_all(&connect.encode())?;
                let mut received = Vec::new();
                let reason = loop {
                    if let Some((packet, _)) = mqtt::split_packet(&received)? {
                        break (packet.kind(), packet.reason());
                    }
                    wire.read(&mut received)?;
                };
                ensure!(reason == (mqtt::CONNACK, 0), "not welcome: {received:02x?}");
                Ok(wire)
            }
        }
    }

    /// The socket, to wait for.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Appends what is there, or waits until something is.
    pub(super) fn read(&mut self, received: &mut Vec<u8>) -> Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            let count = tls.read_tls(&mut self.stream)?;
            ensure!(count > 0, "the host closed a connection");
            let state = tls.process_new_packets()?;
            let at = received.len();
            received.resize(at + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut received[at..])?;
            return self.flush();
        }
        let mut buffer = [0; 4096];
        let length = self.stream.read(&mut buffer)?;
        ensure!(length > 0, "the host closed a connection");
        received.extend_from_slice(&buffer[..length]);
        Ok(())
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return self.flush();
        }
        self.stream.write_all(bytes)?;
        Ok(())
    }

    /// Sends what TLS has to send: what is written before it has begun waits in it, and is sent once it has.
    #[cfg(feature = "tls")]
    fn flush(&mut self) -> Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
        Ok(())
    }
}
