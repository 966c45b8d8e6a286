//! The public keys that a device believes.

use core::fmt;

use p256::ecdsa::VerifyingKey;

/// The size of a pin, in bytes: a P-256 public key as an uncompressed point (SEC 1, section 2.3.3).
pub const PIN_SIZE: usize = 65;

/// What an uncompressed point begins with.
const UNCOMPRESSED: u8 = 4;

/// One public key or two: the server's, and the one that it will have next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pins {
    now: [u8; PIN_SIZE],
    next: Option<[u8; PIN_SIZE]>,
}

impl Pins {
    /// Checks that they are points of the curve.
    ///
    /// # Errors
    /// [`InvalidPin`].
    pub fn new(now: [u8; PIN_SIZE], next: Option<[u8; PIN_SIZE]>) -> Result<Self, InvalidPin> {
        let is_key =
            |pin: &[u8; PIN_SIZE]| pin[0] == UNCOMPRESSED && VerifyingKey::from_sec1_bytes(pin).is_ok();
        if is_key(&now) && next.as_ref().is_none_or(is_key) {
            Ok(Self { now, next })
        } else {
            Err(InvalidPin)
        }
    }

    /// The key with this point, if it is pinned.
    pub(crate) fn find(&self, point: &[u8]) -> Option<VerifyingKey> {
        let is_pinned = self.now == point || self.next.is_some_and(|next| next == point);
        VerifyingKey::from_sec1_bytes(point).ok().filter(|_| is_pinned)
    }
}

/// Not a public key of P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPin;

impl fmt::Display for InvalidPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pin is a public key of P-256, as `rollcall tls init` prints it")
    }
}

impl core::error::Error for InvalidPin {}
