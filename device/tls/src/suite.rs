//! TLS_AES_128_GCM_SHA256, with a look at what was decrypted before embedded-tls has it.
//!
//! embedded-tls panics on a record in which there is nothing, and on handshake messages that come after the
//! handshake. A ticket, the only one of those that a server may send unasked, is of no use here: it becomes a
//! record without content.

use aes_gcm::Aes128Gcm;
use aes_gcm::aead::consts::{U0, U12, U16, U54};
use aes_gcm::aead::{AeadCore, AeadInPlace, Error, Key, KeyInit, KeySizeUser, Nonce, Tag};
use embedded_tls::{Sha256, TlsCipherSuite};

use crate::wire::{ALERT, APPLICATION_DATA, HANDSHAKE, VERSION, VERSION_ONCE_OPEN};

/// RFC 8446, section 4.
const NEW_SESSION_TICKET: u8 = 4;

/// The one suite that is offered.
pub(crate) struct Suite;

impl TlsCipherSuite for Suite {
    const CODE_POINT: u16 = 0x1301;
    type Cipher = CheckedAes128Gcm;
    type KeyLen = U16;
    type IvLen = U12;
    type Hash = Sha256;
    /// The hash's 32 bytes and 22 around it.
    type LabelBufferSize = U54;
}

/// AES-128-GCM for records, with a look at what it decrypted.
pub(crate) struct CheckedAes128Gcm(Aes128Gcm);

impl KeySizeUser for CheckedAes128Gcm {
    type KeySize = U16;
}

impl KeyInit for CheckedAes128Gcm {
    fn new(key: &Key<Self>) -> Self {
        Self(Aes128Gcm::new(key))
    }
}

impl AeadCore for CheckedAes128Gcm {
    type NonceSize = U12;
    type TagSize = U16;
    type CiphertextOverhead = U0;
}

impl AeadInPlace for CheckedAes128Gcm {
    fn encrypt_in_place_detached(
        &self,
        nonce: &Nonce<Self>,
        header: &[u8],
        content: &mut [u8],
    ) -> Result<Tag<Self>, Error> {
        self.0.encrypt_in_place_detached(nonce, header, content)
    }

    fn decrypt_in_place_detached(
        &self,
        nonce: &Nonce<Self>,
        header: &[u8],
        content: &mut [u8],
        tag: &Tag<Self>,
    ) -> Result<(), Error> {
        let [kind, major, minor, length @ ..] = *<&[u8; 5]>::try_from(header).map_err(|_| Error)?;
        let is_open = [major, minor] == VERSION_ONCE_OPEN;
        let header = [kind, VERSION[0], VERSION[1], length[0], length[1]];
        self.0.decrypt_in_place_detached(nonce, &header, content, tag)?;
        // Section 5.4: the last byte that is not zero is the type.
        let end = content.iter().rposition(|byte| *byte != 0).ok_or(Error)?;
        match (content[end], is_open) {
            (ALERT, _) | (HANDSHAKE, false) | (APPLICATION_DATA, true) => Ok(()),
            (HANDSHAKE, true) if content[0] == NEW_SESSION_TICKET => {
                content.fill(0);
                content[0] = APPLICATION_DATA;
                Ok(())
            }
            _ => Err(Error),
        }
    }
}
