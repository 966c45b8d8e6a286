//! Whom the machine believes, and what it makes keys of.

use rand::{CryptoRng, RngCore};
use rollcall_device_tls::Pins;

use crate::options::Options;
use crate::semihosting;

/// The exit code when the host has no random bytes any longer.
const EXIT_NO_ENTROPY: u8 = 1;

/// `None` without a pin, and with one that is no point of the curve.
pub(crate) fn pins(options: &Options) -> Option<Pins> {
    Pins::new(*options.pin?.as_bytes(), options.pin_next.map(|next| *next.as_bytes())).ok()
}

/// The generator of the emulator's host: as good for keys as the host's own.
pub(crate) struct HostRng;

impl RngCore for HostRng {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        semihosting::entropy().unwrap_or_else(|| semihosting::exit(EXIT_NO_ENTROPY))
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next_u64().to_le_bytes()[..part.len()]);
        }
    }
}

impl CryptoRng for HostRng {}
