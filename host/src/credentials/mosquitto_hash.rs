//! What mosquitto keeps of a password: `$7$iterations$salt$hash`, PBKDF2 with HMAC-SHA512. mosquitto 2.0 takes a salt
//! of 12 bytes and nothing else; 2.1 takes that too.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2::{PBKDF2_HMAC_SHA512, derive};

use super::secret::{NoRandomness, Secret, random};

/// mosquitto's number for PBKDF2.
const KIND: &str = "7";

const SALT_BYTES: usize = 12;

const HASH_BYTES: usize = 64;

/// Further ones make guessing slow. Nobody guesses 256 bits, and mosquitto computes them in its only thread.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN;

/// The hash of one password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct MosquittoHash {
    iterations: NonZeroU32,
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

impl MosquittoHash {
    /// With a salt of its own.
    pub(super) fn of(secret: &Secret) -> Result<Self, NoRandomness> {
        Ok(Self::with_salt(ITERATIONS, random()?, secret.text().as_bytes()))
    }

    fn with_salt(iterations: NonZeroU32, salt: [u8; SALT_BYTES], secret: &[u8]) -> Self {
        let mut hash = [0; HASH_BYTES];
        derive(PBKDF2_HMAC_SHA512, iterations, &salt, secret, &mut hash);
        Self { iterations, salt, hash }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('$')?.split('$');
        let mut part = || parts.next();
        if part()? != KIND {
            return None;
        }
        let iterations = part()?;
        let digits = iterations.bytes().all(|byte| byte.is_ascii_digit()) && !iterations.starts_with('0');
        let iterations = if digits { iterations.parse().ok()? } else { return None };
        let (salt, hash) = (STANDARD.decode(part()?).ok()?, STANDARD.decode(part()?).ok()?);
        let parsed = Self { iterations, salt: salt.try_into().ok()?, hash: hash.try_into().ok()? };
        parts.next().is_none().then_some(parsed)
    }
}

impl fmt::Display for MosquittoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, hash) = (STANDARD.encode(self.salt), STANDARD.encode(self.hash));
        write!(f, "${KIND}${}${salt}${hash}", self.iterations)
    }
}

impl fmt::Debug for MosquittoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MosquittoHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Python's `hashlib.pbkdf2_hmac("sha512", b"test12", bytes(range(12)), iterations, 64)`.
    const EXAMPLES: [(u32, &str); 2] = [
        (
            1,
            "$7$1$AAECAwQFBgcICQoL$aipEU9WeYHouJrSnGE/doTRxUS6Omh03MiqIGYH+8w+BViDm/S94Thpz3ln8yhsSuKIDVo7SjFrOJF9ZZpWedA==",
        ),
        (
            101,
            "$7$101$AAECAwQFBgcICQoL$GpWYklerDHy36MpQqP3g25dOxsyatz+C36xx1iPxaftONmIOQ9jLsMWlz+FMTC7wLFvtusPUZUpQODkLQAckAg==",
        ),
    ];

    #[test]
    fn a_hash_is_that_of_another_implementation() {
        let salt = std::array::from_fn(|at| at as u8);
        for (iterations, text) in EXAMPLES {
            let hash = MosquittoHash::with_salt(iterations.try_into().unwrap(), salt, b"test12");
            assert_eq!(hash.to_string(), text);
            assert_eq!(MosquittoHash::parse(text), Some(hash));
        }
    }

    #[test]
    fn what_mosquitto_would_not_take_is_not_read() {
        let text = EXAMPLES[0].1;
        for text in [
            "",
            "$",
            &text[1..],
            &text[..text.len() - 4],
            &text.replace("$7$", "$6$"),
            &text.replace("$1$", "$0$"),
            &text.replace("$1$", "$-1$"),
            &text.replace("$1$", "$+1$"),
            &text.replace("$1$", "$99999999999$"),
            &text.replace("AAEC", ""),
            &format!("{text}$"),
        ] {
            assert_eq!(MosquittoHash::parse(text), None, "{text}");
        }
    }
}
