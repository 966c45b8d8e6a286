//! Whom the device talks to: has the server proved that it holds a pinned key?

use embedded_tls::{
    CertificateEntryRef, CertificateRef, CertificateVerifyRef, CryptoProvider, CryptoRngCore, Sha256,
    SignatureScheme, TlsError, TlsVerifier,
};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::signature::digest::Digest;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::elliptic_curve::rand_core as rand_core_06;
use rand_core::CryptoRng;

use crate::certificate::public_key;
use crate::error::Failure;
use crate::pins::Pins;
use crate::suite::Suite;

/// RFC 8446, section 4.4.3: what a server signs begins with it, after 64 spaces.
const CONTEXT: &[u8; 34] = b"TLS 1.3, server CertificateVerify\0";
const SPACES: usize = 64;

/// The size of a transcript's hash, in bytes.
const HASH_SIZE: usize = 32;

/// How far the proof is.
enum Proof {
    None,
    /// A certificate with a pinned key, and the transcript's hash up to it, which is to be signed.
    Certificate(VerifyingKey, [u8; HASH_SIZE]),
    Verified,
}

/// Checks a server against the pins, message by message, each of which comes once and in its order.
pub(crate) struct PinVerifier<'p> {
    pins: &'p Pins,
    proof: Proof,
    /// What was wrong. What embedded-tls hands on says less.
    failure: Option<Failure>,
}

impl<'p> PinVerifier<'p> {
    pub(crate) const fn new(pins: &'p Pins) -> Self {
        Self { pins, proof: Proof::None, failure: None }
    }

    /// Has this handshake shown that the server holds a pinned key?
    pub(crate) const fn is_proved(&self) -> bool {
        matches!(self.proof, Proof::Verified)
    }

    pub(crate) const fn failure(&self) -> Option<Failure> {
        self.failure
    }

    fn check_certificate(
        &self,
        transcript: &Sha256,
        certificate: &CertificateRef<'_>,
    ) -> Result<Proof, Failure> {
        let (Proof::None, Some(CertificateEntryRef::X509(first))) =
            (&self.proof, certificate.entries.first())
        else {
            return Err(Failure::Certificate);
        };
        let point = public_key(first).ok_or(Failure::Certificate)?;
        let key = self.pins.find(point).ok_or(Failure::WrongKey)?;
        Ok(Proof::Certificate(key, transcript.clone().finalize().into()))
    }

    fn check_signature(&self, verify: &CertificateVerifyRef<'_>) -> Result<Proof, Failure> {
        let Proof::Certificate(key, hash) = &self.proof else { return Err(Failure::Unproved) };
        if verify.signature_scheme != SignatureScheme::EcdsaSecp256r1Sha256 {
            return Err(Failure::Signature);
        }
        let mut signed = [b' '; SPACES + CONTEXT.len() + HASH_SIZE];
        signed[SPACES..][..CONTEXT.len()].copy_from_slice(CONTEXT);
        signed[SPACES + CONTEXT.len()..].copy_from_slice(hash);
        let signature = Signature::from_der(verify.signature).map_err(|_| Failure::Signature)?;
        key.verify(&signed, &signature).map_err(|_| Failure::Signature)?;
        Ok(Proof::Verified)
    }

    fn settle(&mut self, outcome: Result<Proof, Failure>) -> Result<(), TlsError> {
        match outcome {
            Ok(proof) => {
                self.proof = proof;
                Ok(())
            }
            Err(failure) => {
                self.failure = Some(failure);
                Err(TlsError::InvalidCertificate)
            }
        }
    }
}

impl TlsVerifier<Suite> for PinVerifier<'_> {
    fn set_hostname_verification(&mut self, _: &str) -> Result<(), TlsError> {
        Ok(())
    }

    fn verify_certificate(
        &mut self,
        transcript: &Sha256,
        certificate: CertificateRef<'_>,
    ) -> Result<(), TlsError> {
        let outcome = self.check_certificate(transcript, &certificate);
        self.settle(outcome)
    }

    fn verify_signature(&mut self, verify: CertificateVerifyRef<'_>) -> Result<(), TlsError> {
        let outcome = self.check_signature(&verify);
        self.settle(outcome)
    }
}

/// What embedded-tls asks for.
pub(crate) struct Provider<'p, R> {
    pub(crate) rng: Rng<R>,
    pub(crate) verifier: PinVerifier<'p>,
}

impl<R: CryptoRng> CryptoProvider for Provider<'_, R> {
    type CipherSuite = Suite;
    /// The device has no certificate of its own.
    type Signature = [u8; 0];

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.rng
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Suite>, TlsError> {
        Ok(&mut self.verifier)
    }
}

/// A generator with the traits of today, as one with those that embedded-tls knows.
pub(crate) struct Rng<R>(pub(crate) R);

impl<R: CryptoRng> rand_core_06::RngCore for Rng<R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: CryptoRng> rand_core_06::CryptoRng for Rng<R> {}
