//! The two versions of MQTT as one: bytes of a client → requests, answers → bytes. The only file that names
//! ntex-mqtt, whose codec it is; it knows nothing of sockets and waits for nothing.
//!
//! A packet is decoded when all of it is there, and from its own bytes alone: no length that it states makes
//! the codec look beyond it.

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32};

use ntex_bytes::{BytePages, ByteString, BytesMut};
use ntex_codec::{Decoder, Encoder};
use ntex_mqtt::v5::codec::{PublishAckReason, SubscribeAckReason, UnsubscribeAckReason};
use ntex_mqtt::{QoS, v3, v5};
use rollcall_wire::codec::Rejection;

use crate::ops::Refused;

pub(super) use ntex_mqtt::v5::codec::DisconnectReasonCode as Reason;

/// The longest packet that is read, in bytes beside its fixed header; a longer one ends the connection with
/// reason 0x95. Rollcall's own take about 200, and readable clients need room for properties.
pub(super) const PACKET_MAX: u32 = 8 * 1024;

/// Messages that one connection may have unacknowledged: announced as MQTT 5's Receive Maximum, and for
/// 3.1.1 the bound at which the socket is not read.
pub(super) const RECEIVE_MAX: NonZeroU16 = NonZeroU16::new(256).expect("256 is not zero");

/// How many topics a client of MQTT 5 may give a number.
const TOPIC_ALIASES: u16 = 32;

/// The first byte of a CONNECT.
const CONNECT: u8 = 0x10;

/// What a client says first.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) client_id: ByteString,
    pub(super) user: Option<ByteString>,
    pub(super) password: Option<ntex_bytes::Bytes>,
    /// In seconds; 0 for none.
    pub(super) keep_alive_s: u16,
    /// Did it bring an id?
    pub(super) named: bool,
    /// Does it ask for an authentication beyond name and password?
    pub(super) other_authentication: bool,
}

/// What a client asks for after it was let in.
#[derive(Debug)]
pub(super) enum Request {
    Publish(Publish),
    Subscribe { packet_id: NonZeroU16, filters: usize },
    Unsubscribe { packet_id: NonZeroU16, filters: usize },
    Ping,
    Disconnect,
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

/// Why a client is not let in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    BadUserNameOrPassword,
    OtherDevicesClientId,
    BadAuthenticationMethod,
    /// The store is not there yet.
    ServerUnavailable,
}

impl Refusal {
    /// What it is counted as.
    pub(super) fn counted(self) -> Refused {
        match self {
            Self::BadUserNameOrPassword => Refused::BadUserNameOrPassword,
            Self::OtherDevicesClientId => Refused::OtherDevicesClientId,
            Self::BadAuthenticationMethod => Refused::BadAuthenticationMethod,
            Self::ServerUnavailable => Refused::ServerUnavailable,
        }
    }
}

/// One connection's codec.
#[derive(Debug)]
pub(super) enum Protocol {
    V311(v3::codec::Codec),
    V5(v5::codec::Codec, HashMap<NonZeroU16, ByteString>),
}

/// Why the first packet is no CONNECT of a version that is spoken here.
#[derive(Debug)]
pub(super) enum NotWelcome {
    /// It is not MQTT, or not well formed: the connection is closed without a word (MQTT-3.1.0-1).
    Malformed,
    /// Another version of MQTT: these bytes say so (MQTT-3.1.2-2 of 3.1.1 and of 5).
    OtherVersion(&'static [u8]),
}

/// CONNACK of 3.1.1, "unacceptable protocol version". A bridge of mosquitto asks with level 0x84 first, and
/// falls back to 4 when it hears this.
const OTHER_VERSION_V3: &[u8] = &[0x20, 2, 0, 1];
/// CONNACK of 5, "unsupported protocol version".
const OTHER_VERSION_V5: &[u8] = &[0x20, 3, 0, 0x84, 0];

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

/// Reads a client's first packet.
///
/// # Errors
/// [`NotWelcome`] says what to answer.
pub(super) fn hello(packet: &[u8]) -> Result<(Protocol, Hello), NotWelcome> {
    let (first, rest) = packet.split_first().ok_or(NotWelcome::Malformed)?;
    let length_bytes = rest.iter().position(|byte| byte & 0x80 == 0).ok_or(NotWelcome::Malformed)? + 1;
    if *first != CONNECT {
        return Err(NotWelcome::Malformed);
    }
    let mut protocol = match &rest[length_bytes..] {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Protocol::V311(v3::codec::Codec::new()),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Protocol::V5(v5::codec::Codec::new(), HashMap::new()),
        [0, 4, b'M', b'Q', b'T', b'T', 6..=0x7f, ..] => {
            return Err(NotWelcome::OtherVersion(OTHER_VERSION_V5));
        }
        [0, 4, b'M', b'Q', b'T', b'T', _, ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', _, ..] => {
            return Err(NotWelcome::OtherVersion(OTHER_VERSION_V3));
        }
        _ => return Err(NotWelcome::Malformed),
    };
    let hello = protocol.connect(packet).ok_or(NotWelcome::Malformed)?;
    Ok((protocol, hello))
}

impl Protocol {
    fn connect(&mut self, packet: &[u8]) -> Option<Hello> {
        let mut packet = BytesMut::from(packet);
        match self {
            Self::V311(codec) => match codec.decode(&mut packet) {
                Ok(Some(v3::codec::Decoded::Packet(v3::codec::Packet::Connect(connect), _))) => Some(Hello {
                    keep_alive_s: connect.keep_alive,
                    named: true,
                    client_id: connect.client_id,
                    other_authentication: false,
                    user: connect.username,
                    password: connect.password,
                }),
                _ => None,
            },
            Self::V5(codec, _) => match codec.decode(&mut packet) {
                Ok(Some(v5::codec::Decoded::Packet(v5::codec::Packet::Connect(connect), _))) => {
                    if let Some(most) = connect.max_packet_size {
                        codec.set_max_outbound_size(most.get());
                    }
                    Some(Hello {
                        keep_alive_s: connect.keep_alive,
                        named: !connect.client_id.is_empty(),
                        client_id: connect.client_id,
                        other_authentication: connect.auth_method.is_some(),
                        user: connect.username,
                        password: connect.password,
                    })
                }
                _ => None,
            },
        }
    }

    /// Reads one whole packet.
    ///
    /// # Errors
    /// The reason for which the connection has to end.
    pub(super) fn request(&mut self, packet: &[u8]) -> Result<Request, Reason> {
        let mut packet = BytesMut::from(packet);
        let request = match self {
            Self::V311(codec) => {
                request_v311(codec.decode(&mut packet).map_err(|_| Reason::MalformedPacket)?)?
            }
            Self::V5(codec, aliases) => {
                request_v5(codec.decode(&mut packet).map_err(|_| Reason::MalformedPacket)?, aliases)?
            }
        };
        if let Request::Publish(publish) = &request {
            // MQTT-4.7.3-1 and -2, MQTT-3.3.2-2: at least one character, no NUL and no wildcard.
            if publish.topic.contains('\0') {
                return Err(Reason::MalformedPacket);
            }
            if publish.topic.is_empty() || publish.topic.contains(['#', '+']) {
                return Err(Reason::TopicNameInvalid);
            }
        }
        Ok(request)
    }

    /// Does a client count for itself what it has in flight, so that more than the maximum is its fault?
    pub(super) fn announces_receive_maximum(&self) -> bool {
        matches!(self, Self::V5(..))
    }

    /// Can its client hear that a message is refused?
    pub(super) fn can_refuse(&self) -> bool {
        matches!(self, Self::V5(..))
    }

    /// CONNACK with success; `given` is the id of a client that brought none.
    pub(super) fn welcome(&self, given: Option<String>, output: &mut Vec<u8>) {
        match self {
            Self::V311(codec) => {
                encode_v311(codec, connect_ack_v311(v3::codec::ConnectAckReason::ConnectionAccepted), output)
            }
            Self::V5(codec, _) => {
                let ack = v5::codec::ConnectAck {
                    receive_max: RECEIVE_MAX,
                    max_qos: QoS::AtLeastOnce,
                    max_packet_size: Some(PACKET_MAX),
                    // The store is the only memory: a session ends with its connection.
                    session_expiry_interval_secs: Some(0),
                    assigned_client_id: given.map(ByteString::from),
                    topic_alias_max: TOPIC_ALIASES,
                    wildcard_subscription_available: false,
                    shared_subscription_available: false,
                    ..v5::codec::ConnectAck::default()
                };
                encode_v5(codec, ack.into(), output);
            }
        }
    }

    /// CONNACK with a refusal.
    pub(super) fn refuse(&self, refusal: Refusal, output: &mut Vec<u8>) {
        match self {
            Self::V311(codec) => {
                let return_code = match refusal {
                    Refusal::ServerUnavailable => v3::codec::ConnectAckReason::ServiceUnavailable,
                    Refusal::OtherDevicesClientId => v3::codec::ConnectAckReason::NotAuthorized,
                    Refusal::BadUserNameOrPassword | Refusal::BadAuthenticationMethod => {
                        v3::codec::ConnectAckReason::BadUserNameOrPassword
                    }
                };
                encode_v311(codec, connect_ack_v311(return_code), output);
            }
            Self::V5(codec, _) => {
                let reason_code = match refusal {
                    Refusal::ServerUnavailable => v5::codec::ConnectAckReason::ServerUnavailable,
                    Refusal::BadUserNameOrPassword => v5::codec::ConnectAckReason::BadUserNameOrPassword,
                    Refusal::OtherDevicesClientId => v5::codec::ConnectAckReason::NotAuthorized,
                    Refusal::BadAuthenticationMethod => v5::codec::ConnectAckReason::BadAuthenticationMethod,
                };
                let ack = v5::codec::ConnectAck { reason_code, ..v5::codec::ConnectAck::default() };
                encode_v5(codec, ack.into(), output);
            }
        }
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
            Self::V5(codec, _) => {
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
            Self::V5(codec, _) => {
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
            Self::V5(codec, _) => {
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

    /// PINGRESP.
    pub(super) fn pong(&self, output: &mut Vec<u8>) {
        match self {
            Self::V311(codec) => encode_v311(codec, v3::codec::Packet::PingResponse, output),
            Self::V5(codec, _) => encode_v5(codec, v5::codec::Packet::PingResponse, output),
        }
    }

    /// DISCONNECT; a server of 3.1.1 has none.
    pub(super) fn goodbye(&self, reason: Reason, output: &mut Vec<u8>) {
        if let Self::V5(codec, _) = self {
            encode_v5(codec, v5::codec::Packet::Disconnect(v5::codec::Disconnect::new(reason)), output);
        }
    }
}

fn connect_ack_v311(return_code: v3::codec::ConnectAckReason) -> v3::codec::Packet {
    v3::codec::Packet::ConnectAck(v3::codec::ConnectAck { return_code, session_present: false })
}

fn request_v311(decoded: Option<v3::codec::Decoded>) -> Result<Request, Reason> {
    use v3::codec::{Decoded, Packet};
    Ok(match decoded {
        Some(Decoded::Publish(publish, payload, _)) => {
            if publish.qos == QoS::ExactlyOnce {
                return Err(Reason::QosNotSupported);
            }
            Request::Publish(Publish {
                topic: publish.topic,
                payload,
                retain: publish.retain,
                packet_id: publish.packet_id,
                expiry_left_s: None,
            })
        }
        Some(Decoded::Packet(Packet::Subscribe { packet_id, topic_filters }, _)) => {
            Request::Subscribe { packet_id, filters: some(topic_filters.len())? }
        }
        Some(Decoded::Packet(Packet::Unsubscribe { packet_id, topic_filters }, _)) => {
            Request::Unsubscribe { packet_id, filters: some(topic_filters.len())? }
        }
        Some(Decoded::Packet(Packet::PingRequest, _)) => Request::Ping,
        Some(Decoded::Packet(Packet::Disconnect, _)) => Request::Disconnect,
        // A second CONNECT (MQTT-3.1.0-2), and what only a server sends.
        Some(Decoded::Packet(..)) => return Err(Reason::ProtocolError),
        Some(Decoded::PayloadChunk(..)) | None => return Err(Reason::MalformedPacket),
    })
}

fn request_v5(
    decoded: Option<v5::codec::Decoded>,
    aliases: &mut HashMap<NonZeroU16, ByteString>,
) -> Result<Request, Reason> {
    use v5::codec::{Decoded, Packet};
    Ok(match decoded {
        Some(Decoded::Publish(publish, payload, _)) => {
            if publish.qos == QoS::ExactlyOnce {
                return Err(Reason::QosNotSupported);
            }
            let properties = publish.properties;
            // MQTT-3.3.2-14
            if properties.response_topic.is_some_and(|topic| topic.contains(['#', '+'])) {
                return Err(Reason::ProtocolError);
            }
            Request::Publish(Publish {
                topic: dealias(publish.topic, properties.topic_alias, aliases)?,
                payload,
                retain: publish.retain,
                packet_id: publish.packet_id,
                expiry_left_s: properties.message_expiry_interval.map(NonZeroU32::get),
            })
        }
        Some(Decoded::Packet(Packet::Subscribe(subscribe), _)) => Request::Subscribe {
            packet_id: subscribe.packet_id,
            filters: some(subscribe.topic_filters.len())?,
        },
        Some(Decoded::Packet(Packet::Unsubscribe(unsubscribe), _)) => Request::Unsubscribe {
            packet_id: unsubscribe.packet_id,
            filters: some(unsubscribe.topic_filters.len())?,
        },
        Some(Decoded::Packet(Packet::PingRequest, _)) => Request::Ping,
        Some(Decoded::Packet(Packet::Disconnect(_), _)) => Request::Disconnect,
        Some(Decoded::Packet(..)) => return Err(Reason::ProtocolError),
        Some(Decoded::PayloadChunk(..)) | None => return Err(Reason::MalformedPacket),
    })
}

/// A SUBSCRIBE or UNSUBSCRIBE has at least one filter (MQTT-3.8.3-2, MQTT-3.10.3-2).
fn some(filters: usize) -> Result<usize, Reason> {
    if filters == 0 { Err(Reason::ProtocolError) } else { Ok(filters) }
}

/// The topic that is meant: the one that an alias stands for, or the one that the alias gets (MQTT 5,
/// section 3.3.2.3.4).
fn dealias(
    topic: ByteString,
    alias: Option<NonZeroU16>,
    aliases: &mut HashMap<NonZeroU16, ByteString>,
) -> Result<ByteString, Reason> {
    let Some(alias) = alias else { return Ok(topic) };
    if alias.get() > TOPIC_ALIASES {
        return Err(Reason::TopicAliasInvalid);
    }
    if topic.is_empty() {
        return aliases.get(&alias).cloned().ok_or(Reason::TopicAliasInvalid);
    }
    // A copy of its own: the topic that was decoded shares its packet's memory.
    aliases.insert(alias, ByteString::from(topic.to_string()));
    Ok(topic)
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
