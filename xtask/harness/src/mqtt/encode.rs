//! Packets as bytes. Layouts: MQTT 5.0, sections 2.1 and 3, and the same of MQTT 3.1.1.

use super::property::message_expiry_interval;
use super::{PublishPacket, Version};

/// What a client says first.
#[derive(Clone, Copy, Debug)]
pub struct ConnectPacket<'a> {
    /// Which protocol follows.
    pub version: Version,
    /// The client's id.
    pub client_id: &'a str,
    /// Whether an earlier session is forgotten.
    pub clean_start: bool,
    /// The longest silence, in seconds; 0 is any.
    pub keep_alive_s: u16,
    /// Properties; version 3.1.1 has none.
    pub properties: &'a [u8],
    /// What to publish when the client is gone without a word.
    pub will: Option<Will<'a>>,
    /// User and password.
    pub login: Option<(&'a str, &'a str)>,
}

/// A message that a server publishes for a client that is gone.
#[derive(Clone, Copy, Debug)]
pub struct Will<'a> {
    /// 0 to 3.
    pub qos: u8,
    /// Whether a broker keeps it.
    pub retain: bool,
    /// Properties; version 3.1.1 has none.
    pub properties: &'a [u8],
    /// Where it goes.
    pub topic: &'a str,
    /// What it says.
    pub payload: &'a [u8],
}

impl<'a> ConnectPacket<'a> {
    /// A new session without a password.
    pub fn new(version: Version, client_id: &'a str) -> Self {
        let (properties, will, login) = (&[], None, None);
        Self { version, client_id, clean_start: true, keep_alive_s: 60, properties, will, login }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let login_flags = if self.login.is_some() { 0xc0 } else { 0 };
        let will_flags = self.will.map_or(0, |will| 0b100 | will.qos << 3 | u8::from(will.retain) << 5);
        let mut body = string(b"MQTT");
        body.extend([self.version as u8, login_flags | will_flags | u8::from(self.clean_start) << 1]);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.version == Version::V5 {
            append_length(&mut body, self.properties.len());
            body.extend(self.properties);
        }
        body.extend(string(self.client_id.as_bytes()));
        if let Some(will) = self.will {
            if self.version == Version::V5 {
                append_length(&mut body, will.properties.len());
                body.extend(will.properties);
            }
            body.extend(string(will.topic.as_bytes()));
            body.extend(string(will.payload));
        }
        if let Some((user, password)) = self.login {
            body.extend(string(user.as_bytes()));
            body.extend(string(password.as_bytes()));
        }
        packet(0x10, &body)
    }
}

impl PublishPacket<'_> {
    /// Appends its bytes: a load generator encodes many into one buffer.
    pub fn encode_to(&self, version: Version, out: &mut Vec<u8>) {
        let id = self.id.map(u16::to_be_bytes);
        let properties = (version == Version::V5).then_some(self.properties);
        let properties_length = properties.map_or(0, |bytes| length_of_length(bytes.len()) + bytes.len());
        let id_length = id.map_or(0, |id| id.len());
        out.push(self.first);
        append_length(out, 2 + self.topic.len() + id_length + properties_length + self.payload.len());
        append_string(out, self.topic.as_bytes());
        out.extend(id.iter().flatten());
        if let Some(properties) = properties {
            append_length(out, properties.len());
            out.extend_from_slice(properties);
        }
        out.extend_from_slice(self.payload);
    }
}

/// A PUBLISH of QoS 1; in version 5 with a Message Expiry Interval if given.
pub fn publish(version: Version, id: u16, topic: &str, payload: &[u8], expiry_s: Option<u32>) -> Vec<u8> {
    publish_with(version, 0x32, Some(id), topic, payload, expiry_s)
}

/// A PUBLISH with this first byte, which holds QoS and flags.
pub fn publish_with(
    version: Version,
    first: u8,
    id: Option<u16>,
    topic: &str,
    payload: &[u8],
    expiry_s: Option<u32>,
) -> Vec<u8> {
    let expiry = expiry_s.map(message_expiry_interval);
    let properties = expiry.as_ref().map_or(&[][..], |expiry| expiry);
    let mut bytes = Vec::new();
    PublishPacket { first, id, topic, properties, payload }.encode_to(version, &mut bytes);
    bytes
}

/// A SUBSCRIBE to one filter with QoS 1.
pub fn subscribe(version: Version, id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.extend(string(filter.as_bytes()));
    body.push(1);
    packet(0x82, &body)
}

/// A CONNACK of MQTT 5.
pub fn connack(session_present: bool, reason: u8, properties: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::from(session_present), reason];
    append_length(&mut body, properties.len());
    body.extend(properties);
    packet(0x20, &body)
}

/// A PUBACK: in its short form, which both versions have, when it says success and nothing else.
pub fn puback(id: u16, reason: u8, properties: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if reason != 0 || !properties.is_empty() {
        body.push(reason);
        append_length(&mut body, properties.len());
        body.extend(properties);
    }
    packet(0x40, &body)
}

/// PINGRESP.
pub const PING_RESPONSE: &[u8] = &[0xd0, 0];

/// A DISCONNECT of MQTT 5; with reason 0 in its short form, which both versions have.
pub fn disconnect(reason: u8) -> Vec<u8> {
    packet(0xe0, if reason == 0 { &[] } else { std::slice::from_ref(&reason) })
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    append_length(&mut bytes, body.len());
    bytes.extend(body);
    bytes
}

/// Text with its length before it.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_string(&mut bytes, text);
    bytes
}

fn append_string(out: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).expect("MQTT's strings have at most 65,535 bytes");
    out.extend(length.to_be_bytes());
    out.extend_from_slice(text);
}

/// A variable byte integer: 7 bits a byte, the lowest first.
fn append_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn length_of_length(length: usize) -> usize {
    (1..).find(|bytes| length >> (7 * bytes) == 0).expect("a usize has an end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::property;

    #[test]
    fn packets_have_the_bytes_of_the_standard() {
        let connect = ConnectPacket { keep_alive_s: 0, ..ConnectPacket::new(Version::V5, "ab") };
        assert_eq!(connect.encode(), b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02ab");
        let connect = ConnectPacket { login: Some(("u", "pw")), ..ConnectPacket::new(Version::V311, "ab") };
        assert_eq!(connect.encode(), b"\x10\x15\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02ab\x00\x01u\x00\x02pw");
        let connect = ConnectPacket {
            clean_start: false,
            properties: &property::session_expiry_interval(3_600),
            ..ConnectPacket::new(Version::V5, "")
        };
        assert_eq!(connect.encode(), b"\x10\x12\x00\x04MQTT\x05\x00\x00\x3c\x05\x11\x00\x00\x0e\x10\x00\x00");
        let will = Will { qos: 1, retain: true, properties: &[], topic: "t", payload: b"m" };
        let connect = ConnectPacket { will: Some(will), ..ConnectPacket::new(Version::V311, "ab") };
        assert_eq!(connect.encode(), b"\x10\x14\x00\x04MQTT\x04\x2e\x00\x3c\x00\x02ab\x00\x01t\x00\x01m");
        let connect = ConnectPacket { version: Version::V5, ..connect };
        assert_eq!(
            connect.encode(),
            b"\x10\x16\x00\x04MQTT\x05\x2e\x00\x3c\x00\x00\x02ab\x00\x00\x01t\x00\x01m"
        );
        assert_eq!(subscribe(Version::V5, 9, "a/#"), b"\x82\x09\x00\x09\x00\x00\x03a/#\x01");
        assert_eq!(subscribe(Version::V311, 9, "a/#"), b"\x82\x08\x00\x09\x00\x03a/#\x01");
        assert_eq!(connack(true, 0, &property::receive_maximum(8)), b"\x20\x06\x01\x00\x03\x21\x00\x08");
        assert_eq!(puback(0x0102, 0, &[]), b"\x40\x02\x01\x02");
        let named = puback(0x0102, 0x99, &property::reason_string("no"));
        assert_eq!(named, b"\x40\x09\x01\x02\x99\x05\x1f\x00\x02no");
        assert_eq!(disconnect(0), b"\xe0\x00");
        assert_eq!(disconnect(0x8e), b"\xe0\x01\x8e");
    }

    #[test]
    fn a_long_publish_has_a_length_of_two_bytes_and_its_expiry() {
        let topic = "rollcall/5/porch/status";
        let packet = publish(Version::V5, 0x0102, topic, &[b'x'; 100], Some(2_592_000));
        let length = 2 + 23 + 2 + 6 + 100;
        assert_eq!(packet[..3], [0x32, 0x80 | (length - 128) as u8, 1]);
        assert_eq!(packet.len(), 3 + length);
        assert_eq!(packet[28..36], [0x01, 0x02, 5, 2, 0x00, 0x27, 0x8d, 0x00]);
        let packet = publish_with(Version::V311, 0x30, None, "t", b"m", Some(9));
        assert_eq!(packet, b"\x30\x04\x00\x01tm");
    }
}
