//! What an emitter is told before it runs, and the fixed limits that it keeps.

use core::fmt;
use core::net::SocketAddr;
use core::num::NonZeroU32;

use rollcall_wire::{BootId, DeviceId, RunId};

/// Publishes in flight at most: what minimq can track. The broker's Receive Maximum may lower it.
pub const WINDOW: usize = 8;

/// An outbox holds this many samples unless a board says otherwise: 5 minutes at one a second.
pub const OUTBOX_CAPACITY: usize = 300;

/// Longest wait for a TCP connection, in milliseconds.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// Longest wait for CONNACK, in milliseconds.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;

/// Longest wait until a PUBLISH is handed to the network stack, in milliseconds. embassy-net's flush
/// waits until the peer's TCP has taken it.
pub const WRITE_TIMEOUT_MS: u64 = 10_000;

/// Longest wait for a PUBACK, in milliseconds. MQTT's keep-alive alone would not notice a silent peer:
/// each publish postpones it.
pub const ACK_TIMEOUT_MS: u64 = 10_000;

/// Longest wait for a clean goodbye, in milliseconds; after it the last will speaks.
pub const FAREWELL_TIMEOUT_MS: u64 = 2_000;

/// MQTT keep-alive, in seconds: an idle device is pinged for, a vanished one is declared offline by the
/// broker after one and a half times this.
pub const KEEP_ALIVE_S: u16 = 60;

/// Longest user name, in bytes.
pub const USER_MAX: usize = 64;

/// Longest password, in bytes.
pub const PASSWORD_MAX: usize = 128;

/// What one emitter is told.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// Who it is; also its MQTT client id.
    pub device: DeviceId,
    /// This boot: 64 bits that no other boot of the device has drawn. A repeated one would make the
    /// host take new samples for redeliveries.
    pub boot: BootId,
    /// This run of it, where a store makes the boot go on over resets: 64 bits that no other run of the boot
    /// has drawn, for the host takes the clocks of two runs for two. `None` where each reset is a boot.
    pub run: Option<RunId>,
    /// Where the broker listens.
    pub broker: SocketAddr,
    /// From one sample to the next, in milliseconds.
    pub period_ms: NonZeroU32,
    /// User and password, where the broker asks for them.
    pub credentials: Option<Credentials<'a>>,
}

impl Config<'_> {
    /// One sample a second.
    pub const DEFAULT_PERIOD_MS: NonZeroU32 = NonZeroU32::new(1000).expect("1000 is not zero");

    /// One sample a second, without credentials.
    pub const fn new(device: DeviceId, boot: BootId, broker: SocketAddr) -> Self {
        Self { device, boot, run: None, broker, period_ms: Self::DEFAULT_PERIOD_MS, credentials: None }
    }
}

/// An MQTT user and password. `Debug` does not show the password.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    user: &'a str,
    password: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Checks the lengths, which size a buffer on the device.
    ///
    /// # Errors
    /// [`CredentialsTooLong`] above [`USER_MAX`] or [`PASSWORD_MAX`].
    pub const fn new(user: &'a str, password: &'a [u8]) -> Result<Self, CredentialsTooLong> {
        if user.len() > USER_MAX || password.len() > PASSWORD_MAX {
            return Err(CredentialsTooLong);
        }
        Ok(Self { user, password })
    }

    pub(crate) const fn user(&self) -> &'a str {
        self.user
    }

    pub(crate) const fn password(&self) -> &'a [u8] {
        self.password
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A user name above [`USER_MAX`] or a password above [`PASSWORD_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialsTooLong;

impl fmt::Display for CredentialsTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a user name has at most {USER_MAX} bytes and a password at most {PASSWORD_MAX}")
    }
}

impl core::error::Error for CredentialsTooLong {}
