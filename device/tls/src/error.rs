//! What can go wrong, by who must act.

use core::fmt;

use embedded_io_async::ErrorKind;
use embedded_tls::TlsError;

/// Why there is no connection, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The TCP beneath failed.
    Transport(E),
    /// There is a connection already, and buffers for one alone.
    Busy,
    /// The server closed the connection without the alert that says so.
    Closed,
    /// The server was refused, or refused.
    Failed(Failure),
}

/// Why a server was refused, or what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its key is not pinned: another server, or its key was changed before the devices were told.
    WrongKey,
    /// It showed no certificate that holds a P-256 key.
    Certificate,
    /// It did not prove that it holds the key of its certificate.
    Unproved,
    /// Its signature is wrong: it does not hold the key.
    Signature,
    /// What it sent is not the handshake that this device can do.
    Handshake,
    /// A record that may not come here, or was changed on its way.
    Record,
    /// A record of this many bytes, for which the buffer is too small.
    RecordTooLong(u16),
    /// It sent an alert (RFC 8446, section 6), whose number is known where it was not encrypted.
    Alert(Option<u8>),
    /// It had closed the connection in order before this was to be sent.
    Closed,
    /// The key has encrypted as many records as it may: a new connection has another.
    KeySpent,
    /// A buffer was too small: a fault of this crate.
    Buffer,
}

impl Failure {
    /// What embedded-tls says.
    pub(crate) const fn of(error: &TlsError) -> Self {
        match error {
            // What else could be one of these never comes past `wire` and `suite`.
            TlsError::InvalidRecord | TlsError::InternalError => Self::Alert(None),
            // After the server's own end of the connection, when nothing is sent any more.
            TlsError::MissingHandshake | TlsError::ConnectionClosed => Self::Closed,
            TlsError::CryptoError => Self::Record,
            TlsError::InsufficientSpace | TlsError::EncodeError | TlsError::Io(_) => Self::Buffer,
            _ => Self::Handshake,
        }
    }

    const fn kind(self) -> ErrorKind {
        match self {
            Self::WrongKey | Self::Certificate | Self::Unproved | Self::Signature => {
                ErrorKind::PermissionDenied
            }
            Self::Handshake | Self::Record | Self::RecordTooLong(_) => ErrorKind::InvalidData,
            Self::Alert(_) => ErrorKind::ConnectionRefused,
            Self::Closed | Self::KeySpent => ErrorKind::ConnectionAborted,
            Self::Buffer => ErrorKind::OutOfMemory,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKey => f.write_str("the server's key is not pinned: is it the right server?"),
            Self::Certificate => f.write_str("the server showed no certificate with a P-256 key"),
            Self::Unproved => f.write_str("the server did not prove that it holds its key"),
            Self::Signature => f.write_str("the server's signature is wrong"),
            Self::Handshake => f.write_str(
                "the server sent no handshake of TLS 1.3 with P-256 and AES-128-GCM, each message in one record",
            ),
            Self::Record => f.write_str("a record came that may not come here, or was changed on its way"),
            Self::RecordTooLong(bytes) => {
                write!(f, "the server sent a record of {bytes} bytes, which the buffer does not hold")
            }
            Self::Alert(Some(number)) => write!(f, "the server sent alert {number}"),
            Self::Alert(None) => f.write_str("the server sent an alert"),
            Self::Closed => f.write_str("the server had closed the connection"),
            Self::KeySpent => f.write_str("the key has encrypted as many records as it may"),
            Self::Buffer => f.write_str("a buffer is too small"),
        }
    }
}

impl core::error::Error for Failure {}

#[cfg(feature = "defmt")]
impl defmt::Format for Failure {
    fn format(&self, formatter: defmt::Formatter<'_>) {
        defmt::Display2Format(self).format(formatter);
    }
}

impl<E> From<Failure> for Error<E> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => error.fmt(f),
            Self::Busy => f.write_str("there is a connection already"),
            Self::Closed => f.write_str("the server closed the connection without an alert"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for Error<E> {}

impl<E: embedded_io_async::Error> embedded_io_async::Error for Error<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Transport(error) => error.kind(),
            Self::Busy => ErrorKind::AddrInUse,
            Self::Closed => ErrorKind::ConnectionAborted,
            Self::Failed(failure) => failure.kind(),
        }
    }
}
