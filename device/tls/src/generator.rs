//! Random numbers for keys, for a board whose chip has no source that is good enough alone.
//!
//! Guarantees: without the seed nobody can tell one of its numbers from chance, whatever is known of the boot's number, of
//! the noise and of earlier or later numbers. Two boots never have one stream, if they do not have one number: not even
//! where the noise stands still. It knows no flash and no oscillator.
//!
//! It is HMAC_DRBG with SHA-256 (NIST SP 800-90A, section 10.1.2). The seed is its entropy, 256 bits of it; the number is
//! its nonce. What is drawn within a boot stays below the bounds of the standard for one seed, 2⁴⁸ requests.

use core::fmt;

use hmac::{Hmac, Mac};
use rand_core::{CryptoRng, RngCore};
use sha2::Sha256;

/// The size of a seed, in bytes.
pub const SEED_SIZE: usize = 32;

/// The size of a hash, and of a block of the hash, in bytes.
const HASH_SIZE: usize = 32;
const BLOCK_SIZE: usize = 64;

/// What it is for, so that the same seed may be used for something else one day.
const PURPOSE: &[u8] = b"rollcall tls";

/// A generator of random numbers, for one boot.
pub struct Generator {
    key: [u8; HASH_SIZE],
    value: [u8; HASH_SIZE],
}

impl Generator {
    /// The generator of one boot.
    ///
    /// `seed` is random bytes that no other board has and nobody else knows. `boot` is a number that no other boot with
    /// this seed has had, or 64 bits of a good source. `noise` is whatever else the chip can say that is hard to guess: it
    /// can do no harm, and helps should the seed get known.
    ///
    /// # Errors
    /// [`NoSeed`] where there is none.
    pub fn new(seed: &[u8; SEED_SIZE], boot: u64, noise: &[u8]) -> Result<Self, NoSeed> {
        // What erased flash, or memory that nobody filled, reads as.
        if seed.iter().all(|byte| *byte == seed[0]) {
            return Err(NoSeed);
        }
        Ok(Self::instantiate(&[seed, &boot.to_be_bytes(), PURPOSE, noise]))
    }

    fn instantiate(material: &[&[u8]]) -> Self {
        let mut generator = Self { key: [0; HASH_SIZE], value: [1; HASH_SIZE] };
        generator.update(material);
        generator
    }

    fn update(&mut self, material: &[&[u8]]) {
        for round in 0..=u8::from(!material.is_empty()) {
            let mut mac = self.mac();
            mac.update(&self.value);
            mac.update(&[round]);
            material.iter().for_each(|part| mac.update(part));
            self.key = mac.finalize().into_bytes().into();
            self.step();
        }
    }

    /// The next value.
    fn step(&mut self) {
        let mut mac = self.mac();
        mac.update(&self.value);
        self.value = mac.finalize().into_bytes().into();
    }

    fn mac(&self) -> Hmac<Sha256> {
        // A key that is shorter than a block is filled up with zeros.
        let mut block = [0; BLOCK_SIZE];
        block[..HASH_SIZE].copy_from_slice(&self.key);
        <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into())
    }
}

impl RngCore for Generator {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(HASH_SIZE) {
            self.step();
            part.copy_from_slice(&self.value[..part.len()]);
        }
        // What was drawn cannot be found in what is kept.
        self.update(&[]);
    }
}

impl CryptoRng for Generator {}

/// Does not show what comes next.
impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").finish_non_exhaustive()
    }
}

/// There is no seed: the configuration was not made by `cargo xtask provision --tls-pin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSeed;

impl fmt::Display for NoSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has no random bytes to make keys of")
    }
}

impl core::error::Error for NoSeed {}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; SEED_SIZE] = *b"0123456789abcdef0123456789abcdef";

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }

    fn draw(mut generator: Generator) -> [u8; 64] {
        let mut bytes = [0; 64];
        generator.fill_bytes(&mut bytes);
        bytes
    }

    /// NIST's test vectors of HMAC_DRBG, SHA-256 without reseeding, the first of those without further input: the bits
    /// of the second request.
    #[test]
    fn it_is_hmac_drbg() {
        let entropy: [u8; 32] = hex("ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488");
        let nonce: [u8; 16] = hex("659ba96c601dc69fc902940805ec0ca8");
        let mut generator = Generator::instantiate(&[&entropy, &nonce]);
        let mut bytes = [0; 128];
        generator.fill_bytes(&mut bytes);
        generator.fill_bytes(&mut bytes);
        let expected: [u8; 128] = hex("e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89\
             d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1\
             07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668\
             961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn another_boot_has_another_stream_though_the_noise_stands_still() {
        let streams = [0, 1, 2, u64::MAX].map(|boot| draw(Generator::new(&SEED, boot, &[0; 128]).unwrap()));
        for (index, stream) in streams.iter().enumerate() {
            assert!(!streams[..index].contains(stream));
        }
        let again = draw(Generator::new(&SEED, 1, &[0; 128]).unwrap());
        assert_eq!(streams[1], again, "it is made of nothing but its arguments");
    }

    #[test]
    fn another_seed_or_noise_has_another_stream() {
        let first = draw(Generator::new(&SEED, 7, &[1]).unwrap());
        assert_ne!(first, draw(Generator::new(&SEED, 7, &[2]).unwrap()));
        let mut seed = SEED;
        seed[31] ^= 1;
        assert_ne!(first, draw(Generator::new(&seed, 7, &[1]).unwrap()));
    }

    #[test]
    fn nothing_is_drawn_twice() {
        let mut generator = Generator::new(&SEED, 7, &[]).unwrap();
        let mut drawn = [0; 4_096].map(|_: u64| generator.next_u64());
        drawn.sort_unstable();
        assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn without_a_seed_there_is_no_generator() {
        for byte in [0, 0xff] {
            assert_eq!(Generator::new(&[byte; SEED_SIZE], 7, &[1, 2, 3]).unwrap_err(), NoSeed);
        }
    }
}
