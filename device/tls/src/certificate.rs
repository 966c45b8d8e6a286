//! The public key in a certificate. Nothing else of one is read: not its names, dates or issuer, for the key
//! itself is what is trusted.

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

use crate::pins::PIN_SIZE;

/// What a SubjectPublicKeyInfo of P-256 consists of before its point (RFC 5480, section 2): the two object
/// identifiers id-ecPublicKey and secp256r1, and a bit string without unused bits.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The version, which may be left out.
const VERSION: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N0 };

/// What lies before the key: serial number, algorithm of the signature, issuer, validity, subject.
const BEFORE: [Tag; 5] = [Tag::Integer, Tag::Sequence, Tag::Sequence, Tag::Sequence, Tag::Sequence];

/// The point of a certificate's P-256 key (RFC 5280, section 4.1); `None` for anything else.
pub(crate) fn public_key(certificate: &[u8]) -> Option<&[u8; PIN_SIZE]> {
    let mut outer = SliceReader::new(certificate).ok()?;
    let whole = value(&mut outer, Tag::Sequence)?;
    let signed = value(&mut SliceReader::new(whole).ok()?, Tag::Sequence)?;
    let mut fields = SliceReader::new(signed).ok()?;
    if fields.peek_tag().ok()? == VERSION {
        value(&mut fields, VERSION)?;
    }
    for tag in BEFORE {
        value(&mut fields, tag)?;
    }
    let key = fields.tlv_bytes().ok()?.strip_prefix(&P256_PREFIX)?;
    key.try_into().ok().filter(|_| outer.is_finished())
}

/// What a field of this kind holds, if it is the next.
fn value<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Option<&'a [u8]> {
    AnyRef::decode(reader).ok().filter(|field| field.tag() == tag).map(AnyRef::value)
}
