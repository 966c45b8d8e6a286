//! Secrets, and the salted hash that is kept of each.
//!
//! A secret is 256 random bits of the operating system. Nobody finds one by trying, so a fast hash is enough, and ten
//! thousand devices that come back at once cost ten thousand SHA-256s. The hash has RabbitMQ's own form, so that it can
//! be handed to a RabbitMQ as it is.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

/// Random bytes in a secret.
const SECRET_BYTES: usize = 32;

/// Bytes of salt before a hash: RabbitMQ's number.
const SALT_BYTES: usize = 4;

const HASH_BYTES: usize = 32;

/// A password, or the secret part of a token: 64 hexadecimal digits, which need no quotes in a shell, a table or a
/// settings file. `Debug` does not show it.
pub struct Secret(String);

impl Secret {
    /// One that nobody has seen yet.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn random() -> Result<Self, NoRandomness> {
        let bytes = random::<SECRET_BYTES>()?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// As it is to be shown, once.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// What is kept of a secret: a salt, and SHA-256 of salt and secret. As text it is their base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaltedHash {
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

impl SaltedHash {
    /// No secret's: what an unknown name is compared with, so that it takes as long as a known one.
    pub(super) const NOBODY: Self = Self { salt: [0; SALT_BYTES], hash: [0; HASH_BYTES] };

    /// With a salt of its own.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn of(secret: &Secret) -> Result<Self, NoRandomness> {
        Ok(Self::with_salt(random()?, secret.text().as_bytes()))
    }

    fn with_salt(salt: [u8; SALT_BYTES], secret: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&salt);
        context.update(secret);
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(context.finish().as_ref());
        Self { salt, hash }
    }

    /// Reads the base64.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let (salt, hash) = bytes.split_first_chunk()?;
        Some(Self { salt: *salt, hash: hash.try_into().ok()? })
    }

    /// Is it that secret's? It takes as long where they differ early as where they differ late.
    pub fn is_of(&self, secret: &[u8]) -> bool {
        Self::with_salt(self.salt, secret).hash.ct_eq(&self.hash).into()
    }
}

impl fmt::Display for SaltedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode([&self.salt[..], &self.hash].concat()))
    }
}

/// Not the secret, but nobody's business either.
impl fmt::Debug for SaltedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_rabbitmqs_own() {
        // The example in RabbitMQ's guide to password hashing.
        let text = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        let hash = SaltedHash::parse(text).unwrap();
        assert!(hash.is_of(b"test12"));
        assert!(!hash.is_of(b"test13") && !hash.is_of(b""));
        assert_eq!(hash.to_string(), text);
    }

    #[test]
    fn secrets_and_their_salts_differ_and_each_fits_its_own_hash_only() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one.text(), other.text());
        assert_eq!(one.text().len(), 64);
        let hash = SaltedHash::of(&one).unwrap();
        assert!(hash.is_of(one.text().as_bytes()) && !hash.is_of(other.text().as_bytes()));
        assert_ne!(SaltedHash::of(&one).unwrap(), hash, "the same salt twice");
        assert_eq!(SaltedHash::parse(&hash.to_string()), Some(hash));
    }

    #[test]
    fn what_is_no_hash_is_not_read() {
        let hash = SaltedHash::NOBODY.to_string();
        assert!(SaltedHash::parse(&hash).is_some());
        for text in ["", "=", "secret", &hash[1..], &hash[..44], &format!("{hash}AAAA"), &format!("{hash} ")]
        {
            assert_eq!(SaltedHash::parse(text), None, "{text}");
        }
    }

    #[test]
    fn neither_shows_in_debug_output() {
        let secret = Secret::random().unwrap();
        let hash = SaltedHash::of(&secret).unwrap();
        assert_eq!(format!("{secret:?} {hash:?}"), "Secret(…) SaltedHash(…)");
    }
}
