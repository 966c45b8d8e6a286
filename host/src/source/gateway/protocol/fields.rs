//! What ntex-mqtt's codec does not look at, read from the packet's own bytes. Whatever is found there is not decoded
//! twice: each check names the line of ntex-mqtt 8.2.1 that makes it necessary.

use std::ops::Range;

use super::Reason;

/// Packet types, and the bits of a first byte.
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;
const DUP: u8 = 0b1000;
const QOS: u8 = 0b0110;

/// Bits of the byte that says what a CONNECT holds.
const USER_NAME: u8 = 0b1000_0000;
const PASSWORD: u8 = 0b0100_0000;
const WILL_RETAIN: u8 = 0b0010_0000;
const WILL_QOS: u8 = 0b0001_1000;
const WILL: u8 = 0b0000_0100;

/// What precedes the keep-alive in a CONNECT: the protocol's name, its level and the flags.
const FLAGS_AT: usize = 2 + 4 + 1;

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V311,
    V5,
}

/// Bytes of a packet, from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Reason::MalformedPacket)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Reason> {
        Ok(self.take(1)?[0])
    }

    /// Text or binary data: both have their length in two bytes before them.
    fn data(&mut self) -> Result<&'a [u8], Reason> {
        let length = self.take(2)?;
        self.take(u16::from_be_bytes([length[0], length[1]]).into())
    }

    /// A number of at most four bytes, seven bits a byte, and how many bytes it took.
    fn variable(&mut self) -> Result<(usize, usize), Reason> {
        let mut value = 0;
        for at in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok((value, at + 1));
            }
        }
        Err(Reason::MalformedPacket)
    }

    fn properties(&mut self) -> Result<&'a [u8], Reason> {
        let (length, _) = self.variable()?;
        self.take(length)
    }

    fn skip_property(&mut self, identifier: u8) -> Result<(), Reason> {
        match identifier {
            0x01 => self.take(1).map(drop),
            0x23 => self.take(2).map(drop),
            0x02 | 0x18 => self.take(4).map(drop),
            0x0b => self.variable().map(drop),
            0x03 | 0x08 | 0x09 => self.data().map(drop),
            0x26 => self.data().and_then(|_| self.data()).map(drop),
            // None of a message's.
            _ => Err(Reason::MalformedPacket),
        }
    }
}

/// Looks at a packet of a client that is let in.
///
/// # Errors
/// What the connection has to end for.
pub(super) fn check(packet: &[u8], version: Version) -> Result<(), Reason> {
    let mut fields = Fields(packet);
    let first = fields.byte()?;
    let (length, bytes) = fields.variable()?;
    // MQTT-1.5.5-1 (utils.rs:139)
    if version == Version::V5 && bytes > 1 && length >> (7 * (bytes - 1)) == 0 {
        return Err(Reason::MalformedPacket);
    }
    match first >> 4 {
        // MQTT-3.3.1-2 (v3/codec/decode.rs:130, v5/codec/packet/publish.rs:72)
        PUBLISH if first & DUP != 0 && first & QOS == 0 => Err(Reason::MalformedPacket),
        SUBSCRIBE => check_subscribe(fields, version),
        // v3/codec/decode.rs:32 and v5/codec/decode.rs:9 leave their rest alone.
        PINGREQ if length > 0 => Err(Reason::MalformedPacket),
        DISCONNECT if length > 0 && version == Version::V311 => Err(Reason::MalformedPacket),
        _ => Ok(()),
    }
}

/// The reserved bits of each filter: MQTT-3.8.3-4 of 3.1.1 (v3/codec/decode.rs:156), MQTT-3.8.3-5 of 5
/// (v5/codec/packet/subscribe.rs:231).
fn check_subscribe(mut fields: Fields<'_>, version: Version) -> Result<(), Reason> {
    fields.take(2)?;
    let reserved = match version {
        Version::V311 => 0b1111_1100,
        Version::V5 => {
            fields.properties()?;
            0b1100_0000
        }
    };
    while !fields.0.is_empty() {
        fields.data()?;
        if fields.byte()? & reserved != 0 {
            return Err(Reason::MalformedPacket);
        }
    }
    Ok(())
}

/// Looks at what follows the fixed header of a CONNECT.
///
/// # Errors
/// It is malformed.
pub(super) fn check_connect(body: &[u8], version: Version) -> Result<(), Reason> {
    let flags = *body.get(FLAGS_AT).ok_or(Reason::MalformedPacket)?;
    // MQTT-3.1.2-11 of 3.1.1, MQTT-3.1.2-11 and -13 of 5 (v3/codec/decode.rs:67, v5/codec/packet/connect.rs:147)
    let will_of_none = flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0;
    // MQTT-3.1.2-22 of 3.1.1 (v3/codec/decode.rs:84); 5 allows it.
    let password_of_nobody = version == Version::V311 && flags & USER_NAME == 0 && flags & PASSWORD != 0;
    if will_of_none || password_of_nobody {
        return Err(Reason::MalformedPacket);
    }
    let mut fields = Fields(body);
    fields.take(FLAGS_AT + 1 + 2)?;
    if version == Version::V5 {
        fields.properties()?;
    }
    fields.data()?;
    if flags & WILL != 0 {
        if version == Version::V5 {
            fields.properties()?;
        }
        fields.data()?;
        fields.data()?;
    }
    for flag in [USER_NAME, PASSWORD] {
        if flags & flag != 0 {
            fields.data()?;
        }
    }
    // Nothing follows (v3/codec/decode.rs:89, v5/codec/packet/connect.rs:164).
    if fields.0.is_empty() { Ok(()) } else { Err(Reason::MalformedPacket) }
}

/// A Message Expiry Interval of 0 is none of the standard's errors, and one of the codec's
/// (v5/codec/packet/publish.rs:29, v5/codec/packet/connect.rs:52): in a PUBLISH or the will of a CONNECT of version 5
/// it is made 1. Was there one?
pub(super) fn lift_zero_expiry(packet: &mut [u8]) -> bool {
    let Some(properties) = message_properties(packet) else { return false };
    let Some(last_byte) = zero_expiry(&packet[properties.clone()]) else { return false };
    packet[properties.start + last_byte] = 1;
    true
}

/// Where the properties of a message stand, if there is one and it is well formed.
fn message_properties(packet: &[u8]) -> Option<Range<usize>> {
    let mut fields = Fields(packet);
    let first = fields.byte().ok()?;
    fields.variable().ok()?;
    if first >> 4 == PUBLISH {
        fields.data().ok()?;
        fields.take(if first & QOS == 0 { 0 } else { 2 }).ok()?;
    } else {
        if fields.0.get(FLAGS_AT)? & WILL == 0 {
            return None;
        }
        fields.take(FLAGS_AT + 1 + 2).ok()?;
        fields.properties().ok()?;
        fields.data().ok()?;
    }
    let length = fields.properties().ok()?.len();
    let end = packet.len() - fields.0.len();
    Some(end - length..end)
}

/// The last byte of a Message Expiry Interval that is 0.
fn zero_expiry(properties: &[u8]) -> Option<usize> {
    let mut fields = Fields(properties);
    loop {
        let identifier = fields.byte().ok()?;
        let before = fields.0;
        fields.skip_property(identifier).ok()?;
        if identifier == 0x02 && before.starts_with(&[0; 4]) {
            return Some(properties.len() - fields.0.len() - 1);
        }
    }
}
