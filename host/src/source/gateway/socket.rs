//! The bytes of a connection, with or without TLS: read when there are some, written when there is room, never waited
//! for, and a farewell that can be read. What they mean is not known here.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
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
    tls: Option<Box<ServerConnection>>,
    /// Bytes that are not decoded yet.
    pub(super) input: Vec<u8>,
    /// Bytes that are not sent yet.
    pub(super) output: Vec<u8>,
    /// The client sends nothing more.
    pub(super) left: bool,
    /// The client reads nothing more.
    pub(super) mute: bool,
    /// What came was no TLS, or not as it should be.
    pub(super) tls_failed: bool,
}

impl Socket {
    /// # Errors
    /// When TLS cannot begin.
    pub(super) fn new(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Result<Self, rustls::Error> {
        let tls = tls.map(|config| ServerConnection::new(config).map(Box::new)).transpose()?;
        let (input, output) = (Vec::new(), Vec::new());
        Ok(Self { stream, tls, input, output, left: false, mute: false, tls_failed: false })
    }

    /// Completes when there is something to read, if only that the client has left.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Completes when there is room to write.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Is there something to write?
    pub(super) fn wants_write(&self) -> bool {
        !self.mute && (!self.output.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write()))
    }

    /// Waits for bytes and reads them; TLS begins meanwhile.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn more(&mut self) -> io::Result<()> {
        tokio::select! {
            readable = self.stream.readable() => {
                readable?;
                self.read();
            }
            writable = self.stream.writable(), if self.wants_write() => writable?,
        }
        self.write();
        Ok(())
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
        let read = match &mut self.tls {
            None => read_once(&mut NonBlocking(&self.stream), &mut self.input),
            Some(tls) => match tls.read_tls(&mut NonBlocking(&self.stream)) {
                Ok(_) => {
                    let taken = tls.process_new_packets();
                    self.tls_failed |= taken.is_err();
                    // What came before the fault has been checked.
                    read_all(&mut tls.reader(), &mut self.input).and_then(|()| match taken {
                        Ok(_) => Ok(()),
                        Err(error) => Err(io::Error::new(ErrorKind::InvalidData, error)),
                    })
                }
                Err(error) => Err(error),
            },
        };
        self.left |= read.is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
    }

    /// Writes what can be written. A client that reads nothing more may still have sent something.
    pub(super) fn write(&mut self) {
        while self.wants_write() {
            let mut stream = NonBlocking(&self.stream);
            let written = match &mut self.tls {
                None => stream.write(&self.output).map(|count| drop(self.output.drain(..count))),
                // Output goes into TLS only when all before it is sent, so that it is bounded where it waits.
                Some(tls) if tls.wants_write() => tls.write_tls(&mut stream).map(drop),
                Some(tls) => tls.writer().write(&self.output).map(|count| drop(self.output.drain(..count))),
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.mute = true,
            }
        }
        self.output = Vec::new();
    }

    /// Sends what is left to be said, and closes so that it can be read: a socket that is closed with bytes
    /// unread takes back what it had sent.
    pub(super) async fn goodbye(&mut self) {
        let goodbye = async {
            self.flush().await?;
            if let Some(tls) = &mut self.tls {
                tls.send_close_notify();
                self.flush().await?;
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

    async fn flush(&mut self) -> io::Result<()> {
        self.write();
        while self.wants_write() {
            self.stream.writable().await?;
            self.write();
        }
        Ok(())
    }
}

/// A socket as TLS wants it: it reads and writes what it can at once, or says that it would have to wait.
struct NonBlocking<'a>(&'a TcpStream);

impl Read for NonBlocking<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends what is read at once.
///
/// # Errors
/// When there is nothing yet, or will be nothing more.
fn read_once(from: &mut impl Read, to: &mut Vec<u8>) -> io::Result<()> {
    let mut bytes = [0; READ_BYTES];
    match from.read(&mut bytes)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        count => {
            to.extend_from_slice(&bytes[..count]);
            Ok(())
        }
    }
}

/// Appends all that is there.
fn read_all(from: &mut impl Read, to: &mut Vec<u8>) -> io::Result<()> {
    loop {
        match read_once(from, to) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
