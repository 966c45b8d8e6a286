//! Numbers and addresses as text, in a fifth of the flash that `core`'s take: one kind of number, and addresses that are
//! made of it.

use core::fmt;
use core::net::SocketAddrV4;
use core::num::NonZeroU32;

use embassy_net::{Ipv4Address, Ipv4Cidr};

/// What is before the first `separator` and what is behind it.
pub(crate) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// One decimal digit or more.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// A number above 0.
pub(crate) fn positive(text: &[u8]) -> Option<NonZeroU32> {
    NonZeroU32::new(number(text)?.try_into().ok()?)
}

/// `10.0.2.15`
pub(crate) fn address(text: &[u8]) -> Option<Ipv4Address> {
    let mut octets = [0; 4];
    let mut parts = text.split(|byte| *byte == b'.');
    for octet in &mut octets {
        *octet = number(parts.next()?)?.try_into().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// `10.0.2.15/24`
pub(crate) fn cidr(text: &[u8]) -> Option<Ipv4Cidr> {
    let (before, length) = split_once(text, b'/')?;
    let length = u8::try_from(number(length)?).ok().filter(|length| *length <= 32)?;
    Some(Ipv4Cidr::new(address(before)?, length))
}

/// `10.0.2.2:1883`
pub(crate) fn broker(text: &[u8]) -> Option<SocketAddrV4> {
    let (before, port) = split_once(text, b':')?;
    Some(SocketAddrV4::new(address(before)?, number(port)?.try_into().ok()?))
}

/// An address to be shown.
pub(crate) struct Dotted(pub(crate) Ipv4Address);

impl fmt::Display for Dotted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0.octets().map(u64::from);
        write!(f, "{a}.{b}.{c}.{d}")
    }
}
