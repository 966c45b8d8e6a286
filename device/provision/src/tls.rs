//! What a board needs for TLS.

use core::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The size of a pin, in bytes: a P-256 public key as an uncompressed point (SEC 1, section 2.3.3).
pub const PIN_SIZE: usize = 65;

/// The size of a seed, in bytes.
pub const SEED_SIZE: usize = 32;

/// What an uncompressed point begins with.
const UNCOMPRESSED: u8 = 4;

/// Whom to believe, and what to make keys of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tls {
    /// The server's public key.
    pub pin: Pin,
    /// The one that it will have next.
    pub next: Option<Pin>,
    /// Random bytes that no other board has and nobody else knows.
    pub seed: [u8; SEED_SIZE],
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("pin", &self.pin).field("next", &self.next).finish_non_exhaustive()
    }
}

/// A server's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin([u8; PIN_SIZE]);

impl Pin {
    /// Checks what can be checked without the curve: length and form.
    ///
    /// # Errors
    /// [`InvalidPin`].
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidPin> {
        let bytes: [u8; PIN_SIZE] = bytes.try_into().map_err(|_| InvalidPin)?;
        if bytes[0] == UNCOMPRESSED { Ok(Self(bytes)) } else { Err(InvalidPin) }
    }

    /// Reads base64, as `rollcall tls init` prints it.
    ///
    /// # Errors
    /// [`InvalidPin`].
    pub fn parse(text: &str) -> Result<Self, InvalidPin> {
        // Its decoder asks for room for whole groups of three.
        let mut bytes = [0; PIN_SIZE.next_multiple_of(3)];
        let length = BASE64_STANDARD.decode_slice(text, &mut bytes).map_err(|_| InvalidPin)?;
        Self::new(&bytes[..length])
    }

    /// The point.
    pub const fn as_bytes(&self) -> &[u8; PIN_SIZE] {
        &self.0
    }
}

/// Not a public key of P-256 in this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPin;

impl fmt::Display for InvalidPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a pin as `rollcall tls init` prints it: a public key of P-256, 88 characters of base64",
        )
    }
}

impl core::error::Error for InvalidPin {}
