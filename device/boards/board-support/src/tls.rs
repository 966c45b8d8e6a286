//! Whom a board believes, and what it makes keys of.

use core::fmt;

use rollcall_device_tls::{Generator, Pins};
use rollcall_provision::Settings;

/// What TLS needs. A board without random numbers for keys cannot make one, and so has no firmware with TLS.
pub struct Trust {
    pub(crate) pins: Pins,
    pub(crate) generator: Generator,
}

impl Trust {
    /// What `settings` say, for a boot with this number, which no other boot has, or 64 bits of a source that is good
    /// enough for keys. `noise` is what else the chip has to say that is hard to guess.
    ///
    /// # Errors
    /// [`NoTls`].
    pub fn new(settings: &Settings<'_>, boot: u64, noise: &[u8]) -> Result<Self, NoTls> {
        let tls = settings.tls.as_ref().ok_or(NoTls::NotAsked)?;
        let pins = Pins::new(*tls.pin.as_bytes(), tls.next.map(|next| *next.as_bytes()));
        let generator = Generator::new(&tls.seed, boot, noise);
        Ok(Self { pins: pins.map_err(|_| NoTls::Pin)?, generator: generator.map_err(|_| NoTls::Seed)? })
    }
}

/// Why a board with TLS sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTls {
    /// The configuration has no pin, and this firmware sends nothing without TLS.
    NotAsked,
    /// A pin is no key of P-256.
    Pin,
    /// The configuration has no random bytes to make keys of.
    Seed,
    /// The flash keeps no number for this boot, without which keys could repeat.
    Boot,
}

impl fmt::Display for NoTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "the configuration has no pin, and this firmware sends nothing without TLS",
            Self::Pin => "the configuration's pin is no key of P-256",
            Self::Seed => "the configuration has no random bytes to make keys of",
            Self::Boot => "the flash keeps no number for this boot, so that keys could repeat",
        })
    }
}

impl core::error::Error for NoTls {}
