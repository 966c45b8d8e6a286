//! Packets out of bytes.

use std::io::{Error, ErrorKind, Result};

use super::{CONNACK, DISCONNECT, Version};

/// A control packet: the first byte, and what follows the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<B = Vec<u8>> {
    /// Type and flags.
    pub first: u8,
    /// The rest without the length.
    pub body: B,
}

impl<B: AsRef<[u8]>> Packet<B> {
    /// Its type, as [`super::PUBACK`].
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The reason code of a CONNACK, PUBACK or DISCONNECT; an absent one is 0.
    pub fn reason(&self) -> u8 {
        let at = match self.kind() {
            CONNACK => 1,
            DISCONNECT => 0,
            _ => 2,
        };
        self.body.as_ref().get(at).copied().unwrap_or(0)
    }
}

/// The Receive Maximum that a CONNACK of MQTT 5 announces; without one it is the largest (section 3.2.2.3.3).
///
/// # Errors
/// When its properties are cut off, or not those of a CONNACK.
pub fn receive_maximum<B: AsRef<[u8]>>(connack: &Packet<B>) -> Result<u16> {
    let cut_off = || malformed("it is cut off");
    let (_, rest) = connack.body.as_ref().split_at_checked(2).ok_or_else(cut_off)?;
    let (length, digits) = take_length(rest)?.ok_or_else(cut_off)?;
    let (mut properties, _) = split(&rest[digits..], length)?;
    while let Some((identifier, rest)) = properties.split_first() {
        let length = match identifier {
            0x21 => return number(rest).map(|(maximum, _)| maximum),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x13 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => 2 + usize::from(number(rest)?.0),
            // A name and its value.
            0x26 => {
                let name = 2 + usize::from(number(rest)?.0);
                name + 2 + usize::from(number(split(rest, name)?.1)?.0)
            }
            _ => return Err(malformed("a property that no CONNACK has")),
        };
        (_, properties) = split(rest, length)?;
    }
    Ok(u16::MAX)
}

/// A packet in the buffer that it came in.
pub type PacketInBuffer<'a> = Packet<&'a [u8]>;

/// The first packet of `bytes` and how many bytes it takes; `None` while it is not whole.
///
/// # Errors
/// When its length has more than four bytes.
pub fn split_packet(bytes: &[u8]) -> Result<Option<(PacketInBuffer<'_>, usize)>> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, digits)) = take_length(rest)? else { return Ok(None) };
    let body = rest.get(digits..digits + length);
    Ok(body.map(|body| (Packet { first, body }, 1 + digits + length)))
}

/// A variable byte integer and how many bytes it takes; `None` while it is not whole.
pub(super) fn take_length(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(malformed("a length of more than four bytes")) }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishPacket<'a> {
    /// Type, QoS and flags.
    pub first: u8,
    /// The packet id; QoS 0 has none.
    pub id: Option<u16>,
    /// Where it goes.
    pub topic: &'a str,
    /// Properties; version 3.1.1 has none.
    pub properties: &'a [u8],
    /// What it says.
    pub payload: &'a [u8],
}

impl<'a> PublishPacket<'a> {
    /// Reads a PUBLISH.
    ///
    /// # Errors
    /// When it is cut off, or its topic is not UTF-8.
    pub fn parse(version: Version, packet: &PacketInBuffer<'a>) -> Result<Self> {
        let first = packet.first;
        let (length, rest) = number(packet.body)?;
        let (topic, mut rest) = split(rest, length.into())?;
        let topic = str::from_utf8(topic).map_err(|error| malformed(&error.to_string()))?;
        let mut id = None;
        if first & 0b0110 != 0 {
            let (number, after) = number(rest)?;
            (id, rest) = (Some(number), after);
        }
        let mut properties = &[][..];
        if version == Version::V5 {
            let (length, digits) = take_length(rest)?.ok_or_else(|| malformed("it is cut off"))?;
            (properties, rest) = split(&rest[digits..], length)?;
        }
        Ok(Self { first, id, topic, properties, payload: rest })
    }

    /// Whether the broker is to keep it.
    pub fn is_retained(&self) -> bool {
        self.first & 1 == 1
    }
}

fn number(bytes: &[u8]) -> Result<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk().ok_or_else(|| malformed("it is cut off"))?;
    Ok((u16::from_be_bytes(*number), rest))
}

fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8])> {
    bytes.split_at_checked(at).ok_or_else(|| malformed("it is cut off"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{PUBLISH, connack, property, puback, publish_with};

    #[test]
    fn packets_are_split_off_whole() {
        let bytes = [puback(1, 0, &[]), puback(2, 0x97, &[]), vec![0x40, 2, 0]].concat();
        let (first, length) = split_packet(&bytes).unwrap().unwrap();
        assert_eq!((first.body, first.reason(), length), (&[0, 1][..], 0, 4));
        let (second, more) = split_packet(&bytes[length..]).unwrap().unwrap();
        assert_eq!((second.body, second.reason(), more), (&[0, 2, 0x97, 0][..], 0x97, 6));
        assert_eq!(split_packet(&bytes[length + more..]).unwrap(), None);
        assert_eq!(split_packet(&[]).unwrap(), None);
        assert_eq!(split_packet(&[0x30, 0xff, 0xff]).unwrap(), None);
        assert!(split_packet(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }

    #[test]
    fn what_was_encoded_is_read_back() {
        for version in [Version::V311, Version::V5] {
            for (first, id) in [(0x30, None), (0x33, Some(7))] {
                let payload = [b'x'; 20_000];
                let bytes = publish_with(version, first, id, "a/b", &payload, Some(9));
                let (packet, length) = split_packet(&bytes).unwrap().unwrap();
                assert_eq!((packet.kind(), length), (PUBLISH, bytes.len()));
                let publish = PublishPacket::parse(version, &packet).unwrap();
                assert_eq!((publish.first, publish.id, publish.topic), (first, id, "a/b"));
                assert_eq!((publish.is_retained(), publish.payload), (id.is_some(), &payload[..]));
                let expiry = property::message_expiry_interval(9);
                let expected = if version == Version::V5 { &expiry[..] } else { &[] };
                assert_eq!(publish.properties, expected);
            }
        }
    }

    #[test]
    fn the_receive_maximum_is_found_among_other_properties() {
        let before = [&property::maximum_qos(1)[..], &property::reason_string("!!")].concat();
        let of = |properties: &[u8]| {
            let bytes = connack(false, 0, properties);
            receive_maximum(&split_packet(&bytes).unwrap().unwrap().0)
        };
        assert_eq!(of(&[&before[..], &property::receive_maximum(256)].concat()).unwrap(), 256);
        assert_eq!(
            of(&[&b"\x26\x00\x01\x21\x00\x01\x21"[..], &property::receive_maximum(8)].concat()).unwrap(),
            8
        );
        assert_eq!(of(&before).unwrap(), u16::MAX);
        assert!(of(&[0x21, 1]).is_err());
        assert!(of(&[0x01, 1]).is_err());
    }

    #[test]
    fn a_publish_that_is_cut_off_is_an_error() {
        let body = b"\x00\x01t\x00\x07\x05\x02\x00\x00\x00\x09";
        assert!(PublishPacket::parse(Version::V5, &Packet { first: 0x32, body: &body[..] }).is_ok());
        for end in 0..body.len() {
            let cut = Packet { first: 0x32, body: &body[..end] };
            assert!(PublishPacket::parse(Version::V5, &cut).is_err(), "{end}");
        }
    }
}
