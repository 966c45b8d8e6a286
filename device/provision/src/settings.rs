//! The settings of a board, each checked where it is made: a value of these types is valid.

use core::fmt;
use core::net::Ipv4Addr;
use core::num::{NonZeroU16, NonZeroU32};

use rollcall_wire::DeviceId;

/// The longest host name, in bytes (RFC 1035, section 2.3.4, as text and without the root's dot).
pub const HOST_MAX: usize = 253;

/// The longest label of a host name, in bytes (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;

/// The longest user name, in bytes: what the emitter takes.
pub const USER_MAX: usize = 64;

/// The longest password, in bytes: what the emitter takes.
pub const PASSWORD_MAX: usize = 128;

/// What a board is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings<'a> {
    /// Where to publish.
    pub broker: Broker<'a>,
    /// Who the board is; `None` lets it make an id of its chip's unique number.
    pub device: Option<DeviceId>,
    /// User and password, where the broker asks for them.
    pub login: Option<Login<'a>>,
    /// From one sample to the next, in milliseconds.
    pub period_ms: NonZeroU32,
    /// What TLS needs, where the broker is to be reached by it.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::tls::Tls>,
}

/// A broker's host and TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broker<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The TCP port.
    pub port: NonZeroU16,
}

/// How a broker's host is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// By its address; boards speak IPv4.
    Address(Ipv4Addr),
    /// By a name that the board asks its DNS server for, at every connection.
    Name(HostName<'a>),
}

impl<'a> Host<'a> {
    /// Reads an IPv4 address or a host name.
    ///
    /// # Errors
    /// [`InvalidHost`] when it is neither.
    pub fn parse(text: &'a str) -> Result<Self, InvalidHost> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        HostName::new(text).map(Self::Name)
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name.as_str()),
        }
    }
}

/// A host name: labels of letters, digits and hyphens (RFC 1123, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostName<'a>(&'a str);

impl<'a> HostName<'a> {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`InvalidHost`] for anything that cannot be asked of DNS, and for what looks like an address.
    pub fn new(name: &'a str) -> Result<Self, InvalidHost> {
        let is_label = |label: &str| {
            (1..=LABEL_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // RFC 1123, section 2.1: the last label is never all digits, so that 192.0.2.300 is no name.
        let last = name.rsplit('.').next().unwrap_or_default();
        let looks_numeric = last.bytes().all(|byte| byte.is_ascii_digit());
        if name.len() > HOST_MAX || looks_numeric || !name.split('.').all(is_label) {
            return Err(InvalidHost);
        }
        Ok(Self(name))
    }

    /// The name as text.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

/// Neither an IPv4 address nor a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHost;

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an IPv4 address such as 192.0.2.7 nor a host name such as broker.example")
    }
}

impl core::error::Error for InvalidHost {}

/// An MQTT user and password. `Debug` does not show the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    user: &'a str,
    password: &'a [u8],
}

impl<'a> Login<'a> {
    /// Checks the lengths; a user is never empty.
    ///
    /// # Errors
    /// [`InvalidLogin`] for an empty user, and above [`USER_MAX`] or [`PASSWORD_MAX`].
    pub const fn new(user: &'a str, password: &'a [u8]) -> Result<Self, InvalidLogin> {
        if user.is_empty() || user.len() > USER_MAX || password.len() > PASSWORD_MAX {
            return Err(InvalidLogin);
        }
        Ok(Self { user, password })
    }

    /// The user.
    pub const fn user(&self) -> &'a str {
        self.user
    }

    /// The password.
    pub const fn password(&self) -> &'a [u8] {
        self.password
    }
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// An empty user, a user above [`USER_MAX`] or a password above [`PASSWORD_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLogin;

impl fmt::Display for InvalidLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a user has 1 to {USER_MAX} bytes and a password at most {PASSWORD_MAX}")
    }
}

impl core::error::Error for InvalidLogin {}
