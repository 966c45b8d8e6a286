//! The bytes of a connection: read when there are some, written when there is room, never waited for, and a farewell
//! that can be read. What they mean is not known here.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 4 * 1024;

/// How long the last answers may take to be read by a client, and it to close its side.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Socket {
    stream: TcpStream,
    /// Bytes that are not decoded yet.
    pub(super) input: Vec<u8>,
    /// Bytes that are not sent yet.
    pub(super) output: Vec<u8>,
    /// The client sends nothing more.
    pub(super) left: bool,
    /// The client reads nothing more.
    pub(super) mute: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: Vec::new(), output: Vec::new(), left: false, mute: false }
    }

    /// Completes when there is something to read, if only that the client has left.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Completes when there is room to write.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Forgets the first bytes of the input. A connection whose input is empty keeps no buffer.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.input.drain(..bytes);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    /// Did the client close its side, whatever of it is still to be read?
    pub(super) async fn peer_has_closed(&self) -> bool {
        let ready = timeout(Duration::ZERO, self.stream.ready(Interest::READABLE | Interest::WRITABLE)).await;
        ready.is_ok_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
    }

    /// Reads what is there.
    pub(super) fn read(&mut self) {
        let mut bytes = [0; READ_BYTES];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => self.left = true,
            Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.left = true,
        }
    }

    /// Writes what can be written. A client that reads nothing more may still have sent something.
    pub(super) fn write(&mut self) {
        while !self.output.is_empty() && !self.mute {
            match self.stream.try_write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.mute = true,
            }
        }
        self.output = Vec::new();
    }

    /// Sends what is left to be said, and closes so that it can be read: a socket that is closed with bytes
    /// unread takes back what it had sent.
    pub(super) async fn goodbye(&mut self) {
        let goodbye = async {
            self.write();
            while !self.output.is_empty() {
                self.stream.writable().await?;
                self.write();
            }
            poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await?;
            while !self.left {
                self.stream.readable().await?;
                self.read();
                self.input.clear();
            }
            Ok::<_, io::Error>(())
        };
        let _ = timeout(GOODBYE_TIMEOUT, goodbye).await;
    }
}
