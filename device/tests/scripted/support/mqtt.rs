//! As much of MQTT 5 as a scripted broker needs, written from the specification and not from minimq.

use rollcall_wire::codec::decode;
use rollcall_wire::{Reading, Topic};

/// What a device sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packet {
    Connect(Vec<u8>),
    Publish(Publish),
    PingRequest,
    Disconnect(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Publish {
    pub(crate) bytes: Vec<u8>,
    pub(crate) topic: String,
    pub(crate) retained: bool,
    pub(crate) packet_id: u16,
    pub(crate) properties: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    pub(crate) fn is_status(&self) -> bool {
        self.topic.ends_with("/status")
    }

    pub(crate) fn reading(&self) -> Reading {
        Topic::parse(&self.topic).expect("one of Rollcall's topics");
        decode(&self.payload).expect("a payload that the host reads")
    }

    pub(crate) fn seq(&self) -> u64 {
        self.reading().id.expect("an identity").seq.get()
    }
}

/// Takes the first whole packet from `bytes`.
pub(crate) fn take_packet(bytes: &mut Vec<u8>) -> Option<Packet> {
    let (length, header) = length(bytes.get(1..)?)?;
    let total = 1 + header + length;
    if bytes.len() < total {
        return None;
    }
    let packet: Vec<u8> = bytes.drain(..total).collect();
    let body = packet[1 + header..].to_vec();
    Some(match (packet[0] >> 4, packet[0] & 0x0f) {
        (1, 0) => Packet::Connect(body),
        (3, flags) => Packet::Publish(publish(packet, flags, &body)),
        (12, 0) => Packet::PingRequest,
        (14, 0) => Packet::Disconnect(body),
        (kind, flags) => panic!("a device does not send packets of type {kind}, flags {flags:#x}"),
    })
}

fn publish(bytes: Vec<u8>, flags: u8, body: &[u8]) -> Publish {
    assert_eq!(flags & 0b0110, 0b0010, "QoS 1");
    assert_eq!(flags & 0b1000, 0, "never a repeat of old bytes: the age in them would be wrong");
    let (topic, rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
    let (packet_id, rest) = rest.split_at(2);
    let (count, header) = length(rest).expect("a property length");
    let (properties, payload) = rest[header..].split_at(count);
    Publish {
        bytes,
        topic: String::from_utf8(topic.to_vec()).unwrap(),
        retained: flags & 1 == 1,
        packet_id: u16::from_be_bytes([packet_id[0], packet_id[1]]),
        properties: properties.to_vec(),
        payload: payload.to_vec(),
    }
}

/// A variable byte integer and its own length.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// CONNACK with a reason code and encoded properties.
pub(crate) fn connack(session_present: u8, reason: u8, properties: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x20, 3 + properties.len() as u8, session_present, reason, properties.len() as u8];
    packet.extend(properties);
    packet
}

pub(crate) fn receive_maximum(count: u16) -> Vec<u8> {
    [&[0x21][..], &count.to_be_bytes()].concat()
}

pub(crate) fn maximum_packet_size(bytes: u32) -> Vec<u8> {
    [&[0x27][..], &bytes.to_be_bytes()].concat()
}

pub(crate) const MAXIMUM_QOS_0: &[u8] = &[0x24, 0];

/// The name that the host gives a refusal, as a PUBACK's reason string.
const REASON: &[u8] = b"cannot_tell";

/// PUBACK: in two bytes for success, with a reason string otherwise, so that both forms are met.
pub(crate) fn puback(packet_id: u16, reason: u8) -> Vec<u8> {
    let [high, low] = packet_id.to_be_bytes();
    match reason {
        0 => vec![0x40, 2, high, low],
        _ => {
            let (properties, text) = (3 + REASON.len() as u8, REASON.len() as u8);
            let head = [0x40, 4 + properties, high, low, reason, properties, 0x1f, 0, text];
            [&head, REASON].concat()
        }
    }
}

pub(crate) const PING_RESPONSE: &[u8] = &[0xd0, 0];

pub(crate) fn disconnect(reason: u8) -> Vec<u8> {
    vec![0xe0, 1, reason]
}
