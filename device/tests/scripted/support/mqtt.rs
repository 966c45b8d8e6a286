//! What a device may send, and what it may not.

use rollcall_harness::mqtt::{
    self, CONNECT, DISCONNECT, PINGREQ, PUBLISH, PublishPacket, Version, property, split_packet,
};
use rollcall_wire::codec::decode;
use rollcall_wire::{Reading, Topic};

/// What a device sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DevicePacket {
    Connect(Vec<u8>),
    Publish(DevicePublish),
    PingRequest,
    Disconnect(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DevicePublish {
    pub(crate) bytes: Vec<u8>,
    pub(crate) topic: String,
    pub(crate) retained: bool,
    pub(crate) packet_id: u16,
    pub(crate) payload: Vec<u8>,
}

impl DevicePublish {
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
pub(crate) fn take_packet(bytes: &mut Vec<u8>) -> Option<DevicePacket> {
    let (packet, length) = split_packet(bytes).expect("a length")?;
    let body = packet.body.to_vec();
    let taken = match (packet.kind(), packet.first & 0x0f) {
        (CONNECT, 0) => DevicePacket::Connect(body),
        (PUBLISH, flags) => {
            assert_eq!(flags & 0b0110, 0b0010, "QoS 1");
            assert_eq!(flags & 0b1000, 0, "never a repeat of old bytes: the age in them would be wrong");
            let publish = PublishPacket::parse(Version::V5, &packet).expect("a whole PUBLISH");
            DevicePacket::Publish(DevicePublish {
                bytes: bytes[..length].to_vec(),
                topic: publish.topic.to_owned(),
                retained: publish.is_retained(),
                packet_id: publish.id.expect("QoS 1 has one"),
                payload: publish.payload.to_vec(),
            })
        }
        (PINGREQ, 0) => DevicePacket::PingRequest,
        (DISCONNECT, 0) => DevicePacket::Disconnect(body),
        (kind, flags) => panic!("a device does not send packets of type {kind}, flags {flags:#x}"),
    };
    bytes.drain(..length);
    Some(taken)
}

/// The name that the host gives a refusal, as a PUBACK's reason string.
const REASON: &str = "cannot_tell";

/// PUBACK: in two bytes for success, with a reason string otherwise, so that both forms are met.
pub(crate) fn puback(packet_id: u16, reason: u8) -> Vec<u8> {
    let named = property::reason_string(REASON);
    mqtt::puback(packet_id, reason, if reason == 0 { &[] } else { &named })
}
