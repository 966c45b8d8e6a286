//! The two versions of MQTT as one: bytes of a client → requests, answers → bytes. The only folder that names
//! ntex-mqtt, whose codec it is; it knows nothing of sockets and waits for nothing.
//!
//! A packet is decoded when all of it is there, and from its own bytes alone: no length that it states makes
//! the codec look beyond it.

mod connect;
mod fields;
mod request;

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32};

use ntex_bytes::{BytePages, ByteString};
use ntex_codec::Encoder;
use ntex_mqtt::v5::codec::{PublishAckReason, SubscribeAckReason, UnsubscribeAckReason};
use ntex_mqtt::{v3, v5};
use rollcall_wire::codec::Rejection;

use crate::ops::Refused;

pub(super) use self::connect::{Hello, Refusal, TooLong, Welcome, hello};
pub(super) use ntex_mqtt::v5::codec::DisconnectReasonCode as Reason;

/// The longest packet that is read, in bytes beside its fixed header; a longer one ends the connection with
/// reason 0x95. Rollcall's own take about 200, and readable clients need room for properties.
pub(super) const PACKET_MAX: u32 = 8 * 1024;

/// Messages that one connection may have unacknowledged: announced as MQTT 5's Receive Maximum, and for
/// 3.1.1 the bound at which the socket is not read.
pub(super) const RECEIVE_MAX: NonZeroU16 = NonZeroU16::new(256).expect("256 is not zero");

/// How many topics a client of MQTT 5 may give a number.
const TOPIC_ALIASES: u16 = 32;

/// What a client asks for after it was let in.
#[derive(Debug)]
pub(super) enum Request {
    Publish(Publish),
    Subscribe {
        packet_id: NonZeroU16,
        filters: usize,
    },
    Unsubscribe {
        packet_id: NonZeroU16,
        filters: usize,
    },
    /// The end of a message of QoS 2, which was not sent to us: a session that an earlier server had.
    Release {
        packet_id: NonZeroU16,
    },
    Ping,
    /// A client that leaves as it should has no will any more.
    Disconnect {
        normal: bool,
    },
}

/// A message as it was published.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) topic: ByteString,
    pub(super) payload: ntex_bytes::Bytes,
    pub(super) retain: bool,
    /// `None` for QoS 0.
    pub(super) packet_id: Option<NonZeroU16>,
    /// What is left of the Message Expiry Interval, in seconds.
    pub(super) expiry_left_s: Option<u32>,
}

/// What a PUBACK says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Success,
    Rejected(Rejection),
    ShuttingDown,
    PacketIdInUse,
    NotAuthorized,
}

/// One connection's codec.
#[derive(Debug)]
pub(super) enum Protocol {
    V311(v3::codec::Codec),
    V5(V5),
}

/// What a connection of MQTT 5 has come to know.
#[derive(Debug)]
pub(super) struct V5 {
    codec: v5::codec::Codec,
    aliases: HashMap<NonZeroU16, ByteString>,
    /// The longest packet that the client takes, if it says so.
    packet_max: Option<NonZeroU32>,
    /// Does it want a session that outlives the connection?
    asked_for_session: bool,
}

/// The whole packet at the start of `input`, once it is there: its length with the fixed header.
///
/// # Errors
/// [`Reason::MalformedPacket`] or [`Reason::PacketTooLarge`].
pub(super) fn packet_length(input: &[u8]) -> Result<Option<usize>, Reason> {
    let mut remaining = 0_u32;
    // The length has four bytes at most (MQTT 5, section 1.5.5).
    for at in 0..4 {
        let Some(byte) = input.get(1 + at) else { return Ok(None) };
        remaining |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            if remaining > PACKET_MAX {
                return Err(Reason::PacketTooLarge);
            }
            let length = 2 + at + remaining as usize;
            return Ok((input.len() >= length).then_some(length));
        }
    }
    Err(Reason::MalformedPacket)
}

impl Protocol {
    /// Does a client count for itself what it has in flight, so that more than the maximum is its fault?
    pub(super) fn announces_receive_maximum(&self) -> bool {
        matches!(self, Self::V5(..))
    }

    /// Can its client hear that a message is refused?
    pub(super) fn can_refuse(&self) -> bool {
        matches!(self, Self::V5(..))
    }

    /// PUBACK. 3.1.1 has no reason codes: there every answer is an acknowledgement.
    pub(super) fn acknowledge(&self, packet_id: NonZeroU16, answer: Answer, output: &mut Vec<u8>) {
        let (reason_code, reason) = match answer {
            Answer::Success => (PublishAckReason::Success, None),
            Answer::Rejected(rejection) => (rejection_code(rejection), Some(rejection.name())),
            Answer::ShuttingDown => (PublishAckReason::ImplementationSpecificError, Some("shutting down")),
            Answer::PacketIdInUse => (PublishAckReason::PacketIdentifierInUse, None),
            Answer::NotAuthorized => (PublishAckReason::NotAuthorized, Some("another device's topic")),
        };
        match self {
            Self::V311(codec) => encode_v311(codec, v3::codec::Packet::PublishAck { packet_id }, output),
            Self::V5(V5 { codec, .. }) => {
                let reason_string = reason.map(ByteString::from_static);
                let ack =
                    v5::codec::PublishAck { packet_id, reason_code, reason_string, ..Default::default() };
                encode_v5(codec, ack.into(), output);
            }
        }
    }

    /// SUBACK: there is nothing to subscribe to.
    pub(super) fn refuse_subscription(&self, packet_id: NonZeroU16, filters: usize, output: &mut Vec<u8>) {
        match self {
            Self::V311(codec) => {
                let status = vec![v3::codec::SubscribeReturnCode::Failure; filters];
                encode_v311(codec, v3::codec::Packet::SubscribeAck { packet_id, status }, output);
            }
            Self::V5(V5 { codec, .. }) => {
                let ack = v5::codec::SubscribeAck {
                    packet_id,
                    properties: Vec::new(),
                    reason_string: Some(ByteString::from_static("rollcall takes publishes only")),
                    status: vec![SubscribeAckReason::NotAuthorized; filters],
                };
                encode_v5(codec, ack.into(), output);
            }
        }
    }

    /// UNSUBACK: nothing was subscribed to.
    pub(super) fn unsubscribe(&self, packet_id: NonZeroU16, filters: usize, output: &mut Vec<u8>) {
        match self {
            Self::V311(codec) => encode_v311(codec, v3::codec::Packet::UnsubscribeAck { packet_id }, output),
            Self::V5(V5 { codec, .. }) => {
                let ack = v5::codec::UnsubscribeAck {
                    packet_id,
                    properties: Vec::new(),
                    reason_string: None,
                    // MQTT-3.11.3-2
                    status: vec![UnsubscribeAckReason::NoSubscriptionExisted; filters],
                };
                encode_v5(codec, v5::codec::Packet::UnsubscribeAck(ack), output);
            }
        }
    }

    /// PUBCOMP, whose message nobody knows (MQTT-4.3.3-2 of 3.1.1, MQTT-4.3.3-11 of 5): a client that hears nothing
    /// asks again at every connection.
    pub(super) fn complete(&self, packet_id: NonZeroU16, output: &mut Vec<u8>) {
        match self {
            Self::V311(codec) => encode_v311(codec, v3::codec::Packet::PublishComplete { packet_id }, output),
            Self::V5(V5 { codec, .. }) => {
                let complete = v5::codec::PublishAck2 {
                    packet_id,
                    reason_code: v5::codec::PublishAck2Reason::PacketIdNotFound,
                    ..Default::default()
                };
                encode_v5(codec, v5::codec::Packet::PublishComplete(complete), output);
            }
        }
    }

    /// PINGRESP.
    pub(super) fn pong(&self, output: &mut Vec<u8>) {
        match self {
            Self::V311(codec) => encode_v311(codec, v3::codec::Packet::PingResponse, output),
            Self::V5(V5 { codec, .. }) => encode_v5(codec, v5::codec::Packet::PingResponse, output),
        }
    }

    /// DISCONNECT; a server of 3.1.1 has none.
    pub(super) fn goodbye(&self, reason: Reason, output: &mut Vec<u8>) {
        if let Self::V5(V5 { codec, .. }) = self {
            encode_v5(codec, v5::codec::Packet::Disconnect(v5::codec::Disconnect::new(reason)), output);
        }
    }
}

/// What a connection that ends for `reason` is counted as; `None` when nobody is refused.
pub(super) fn counted(reason: Reason) -> Option<Refused> {
    Some(match reason {
        Reason::ServerShuttingDown => return None,
        Reason::MalformedPacket => Refused::MalformedPacket,
        Reason::NotAuthorized => Refused::PasswordRevoked,
        Reason::PacketTooLarge => Refused::PacketTooLarge,
        Reason::TopicNameInvalid => Refused::TopicNameInvalid,
        Reason::TopicAliasInvalid => Refused::TopicAliasInvalid,
        Reason::QosNotSupported => Refused::QosNotSupported,
        Reason::ReceiveMaximumExceeded => Refused::ReceiveMaximumExceeded,
        Reason::KeepAliveTimeout => Refused::KeepAliveTimeout,
        Reason::SessionTakenOver => Refused::SessionTakenOver,
        Reason::ImplementationSpecificError => Refused::NotStored,
        _ => Refused::ProtocolError,
    })
}

fn rejection_code(rejection: Rejection) -> PublishAckReason {
    match rejection {
        Rejection::BadTopic | Rejection::BadDevice | Rejection::WrongSlot => {
            PublishAckReason::TopicNameInvalid
        }
        _ => PublishAckReason::PayloadFormatInvalid,
    }
}

fn encode_v311(codec: &v3::codec::Codec, packet: v3::codec::Packet, output: &mut Vec<u8>) {
    write(|pages| codec.encodev(packet.into(), pages).is_ok(), output);
}

fn encode_v5(codec: &v5::codec::Codec, packet: v5::codec::Packet, output: &mut Vec<u8>) {
    write(|pages| codec.encodev(packet.into(), pages).is_ok(), output);
}

/// What does not fit into a client's own Maximum Packet Size is not sent (MQTT-3.1.2-25).
fn write(encode: impl FnOnce(&mut BytePages) -> bool, output: &mut Vec<u8>) {
    let mut pages = BytePages::default();
    if encode(&mut pages) {
        pages.iter().for_each(|page| output.extend_from_slice(page));
    }
}
