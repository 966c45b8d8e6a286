//! How a client is let in, or not: CONNECT and CONNACK.

use ntex_bytes::{ByteString, Bytes, BytesMut};
use ntex_codec::Decoder;
use ntex_mqtt::error::DecodeError;
use ntex_mqtt::{QoS, v3, v5};

use super::fields::{self, Version};
use super::request::free_of_nul;
use super::{PACKET_MAX, Protocol, Publish, RECEIVE_MAX, TOPIC_ALIASES, V5, encode_v5, encode_v311};
use crate::ops::Refused;

/// The first byte of a CONNECT.
const CONNECT: u8 = 0x10;

/// What a client says first.
#[derive(Debug)]
pub(crate) struct Hello {
    pub(crate) user: Option<ByteString>,
    pub(crate) password: Option<Bytes>,
    /// In seconds; 0 for none.
    pub(crate) keep_alive_s: u16,
    /// Empty when it brought none.
    pub(crate) client_id: ByteString,
    /// What to publish for it when it is gone without a word.
    pub(crate) will: Option<Publish>,
    /// Does it ask for an authentication beyond name and password?
    pub(crate) other_authentication: bool,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    BadUserNameOrPassword,
    TooManyFailedLogins,
    OtherDevicesClientId,
    BadAuthenticationMethod,
    /// The store is not there yet.
    ServerUnavailable,
}

impl Refusal {
    /// What it is counted as.
    pub(crate) fn counted(self) -> Refused {
        match self {
            Self::BadUserNameOrPassword => Refused::BadUserNameOrPassword,
            Self::TooManyFailedLogins => Refused::TooManyFailedLogins,
            Self::OtherDevicesClientId => Refused::OtherDevicesClientId,
            Self::BadAuthenticationMethod => Refused::BadAuthenticationMethod,
            Self::ServerUnavailable => Refused::ServerUnavailable,
        }
    }
}

/// The first packet is no CONNECT that can be accepted.
#[derive(Debug)]
pub(crate) struct NotWelcome {
    /// What it is counted as.
    pub(crate) refused: Refused,
    /// The CONNACK that says so; empty when the connection is to be closed without a word.
    pub(crate) answer: Vec<u8>,
}

impl NotWelcome {
    /// It is not MQTT (MQTT-3.1.0-1), or a CONNECT of 3.1.1 that is not well formed (MQTT-3.1.4-1).
    fn silently() -> Self {
        Self { refused: Refused::NoConnect, answer: Vec::new() }
    }

    fn v311(refused: Refused, code: u8) -> Self {
        Self { refused, answer: vec![0x20, 2, 0, code] }
    }

    fn v5(refused: Refused, code: v5::codec::ConnectAckReason) -> Self {
        Self { refused, answer: vec![0x20, 3, 0, code.into(), 0] }
    }

    fn malformed(version: Version) -> Self {
        match version {
            Version::V311 => Self::silently(),
            Version::V5 => Self::v5(Refused::NoConnect, v5::codec::ConnectAckReason::MalformedPacket),
        }
    }
}

/// "Unacceptable protocol version". A bridge of mosquitto asks with level 0x84 first, and falls back to 4 when it
/// hears this.
const OTHER_VERSION_V3: u8 = 1;

/// Reads a client's first packet.
///
/// # Errors
/// [`NotWelcome`] says what to answer.
pub(crate) fn hello(packet: &[u8]) -> Result<(Protocol, Hello), NotWelcome> {
    use v5::codec::ConnectAckReason::UnsupportedProtocolVersion;
    let (first, rest) = packet.split_first().ok_or_else(NotWelcome::silently)?;
    let length_bytes = rest.iter().position(|byte| byte & 0x80 == 0).ok_or_else(NotWelcome::silently)? + 1;
    if *first != CONNECT {
        return Err(NotWelcome::silently());
    }
    let body = &rest[length_bytes..];
    // Other versions: MQTT-3.1.2-2 of 3.1.1 and of 5.
    let version = match body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Version::V311,
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Version::V5,
        [0, 4, b'M', b'Q', b'T', b'T', 6..=0x7f, ..] => {
            return Err(NotWelcome::v5(Refused::UnsupportedProtocolVersion, UnsupportedProtocolVersion));
        }
        [0, 4, b'M', b'Q', b'T', b'T', _, ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', _, ..] => {
            return Err(NotWelcome::v311(Refused::UnsupportedProtocolVersion, OTHER_VERSION_V3));
        }
        _ => return Err(NotWelcome::silently()),
    };
    fields::check_connect(body, version).map_err(|_| NotWelcome::malformed(version))?;
    match version {
        Version::V311 => hello_v311(packet),
        Version::V5 => hello_v5(packet),
    }
}

fn hello_v311(packet: &[u8]) -> Result<(Protocol, Hello), NotWelcome> {
    /// "Identifier rejected".
    const IDENTIFIER_REJECTED: u8 = 2;
    let codec = v3::codec::Codec::new();
    let connect = match codec.decode(&mut BytesMut::from(packet)) {
        Ok(Some(v3::codec::Decoded::Packet(v3::codec::Packet::Connect(connect), _))) => *connect,
        // MQTT-3.1.3-8
        Err(DecodeError::InvalidClientId) => {
            return Err(NotWelcome::v311(Refused::IdentifierRejected, IDENTIFIER_REJECTED));
        }
        _ => return Err(NotWelcome::silently()),
    };
    let will = connect.last_will.map(|will| kept(&will.topic, &will.message, will.retain, None));
    let texts = [Some(&connect.client_id), connect.username.as_ref(), will.as_ref().map(|will| &will.topic)];
    free_of_nul(texts.into_iter().flatten()).map_err(|_| NotWelcome::silently())?;
    if will.as_ref().is_some_and(|will| !can_be_published_to(&will.topic)) {
        return Err(NotWelcome { refused: Refused::TopicNameInvalid, answer: Vec::new() });
    }
    let hello = Hello {
        user: connect.username,
        password: connect.password,
        keep_alive_s: connect.keep_alive,
        client_id: connect.client_id,
        will,
        other_authentication: false,
    };
    Ok((Protocol::V311(codec), hello))
}

fn hello_v5(packet: &[u8]) -> Result<(Protocol, Hello), NotWelcome> {
    use v5::codec::ConnectAckReason as Code;
    let mut packet = BytesMut::from(packet);
    let expires_at_once = fields::lift_zero_expiry(&mut packet);
    let codec = v5::codec::Codec::new();
    let connect = match codec.decode(&mut packet) {
        Ok(Some(v5::codec::Decoded::Packet(v5::codec::Packet::Connect(connect), _))) => *connect,
        _ => return Err(NotWelcome::malformed(Version::V5)),
    };
    check_texts(&connect).map_err(|_| NotWelcome::malformed(Version::V5))?;
    // MQTT 5, section 3.1.2.11.10
    if connect.auth_data.is_some() && connect.auth_method.is_none() {
        return Err(NotWelcome::v5(Refused::ProtocolError, Code::ProtocolError));
    }
    if let Some(will) = &connect.last_will {
        // MQTT-3.2.2-12
        if will.qos == QoS::ExactlyOnce {
            return Err(NotWelcome::v5(Refused::QosNotSupported, Code::QosNotSupported));
        }
        if !can_be_published_to(&will.topic) {
            return Err(NotWelcome::v5(Refused::TopicNameInvalid, Code::TopicNameInvalid));
        }
    }
    // The session ends with its connection, and a will's delay with the session (MQTT-3.1.2-8).
    let will = connect.last_will.map(|will| {
        let expiry_s = will.message_expiry_interval.map(std::num::NonZeroU32::get);
        kept(&will.topic, &will.message, will.retain, if expires_at_once { Some(0) } else { expiry_s })
    });
    let protocol = Protocol::V5(V5 {
        codec,
        aliases: Default::default(),
        packet_max: connect.max_packet_size,
        asked_for_session: connect.session_expiry_interval_secs > 0,
    });
    let hello = Hello {
        user: connect.username,
        password: connect.password,
        keep_alive_s: connect.keep_alive,
        client_id: connect.client_id,
        will,
        other_authentication: connect.auth_method.is_some(),
    };
    Ok((protocol, hello))
}

fn check_texts(connect: &v5::codec::Connect) -> Result<(), super::Reason> {
    let will = connect.last_will.iter();
    let of_will = will.flat_map(|will| {
        let properties = will.user_properties.iter().flat_map(|(name, value)| [name, value]);
        [Some(&will.topic), will.response_topic.as_ref(), will.content_type.as_ref()]
            .into_iter()
            .flatten()
            .chain(properties)
    });
    let properties = connect.user_properties.iter().flat_map(|(name, value)| [name, value]);
    let own = [Some(&connect.client_id), connect.username.as_ref(), connect.auth_method.as_ref()];
    free_of_nul(own.into_iter().flatten().chain(properties).chain(of_will))
}

/// A will outlives its packet, which holds a password: it is a copy.
fn kept(topic: &ByteString, payload: &Bytes, retain: bool, expiry_left_s: Option<u32>) -> Publish {
    Publish {
        topic: ByteString::from(topic.to_string()),
        payload: Bytes::copy_from_slice(payload),
        retain,
        packet_id: None,
        expiry_left_s,
    }
}

/// MQTT-4.7.3-1, MQTT-3.3.2-2: at least one character and no wildcard.
pub(super) fn can_be_published_to(topic: &ByteString) -> bool {
    !topic.is_empty() && !topic.contains(['#', '+'])
}

/// What a client is told that is let in.
#[derive(Debug, Default)]
pub(crate) struct Welcome {
    /// The id of a client that brought none.
    pub(crate) assigned_client_id: Option<String>,
    /// The keep-alive, in seconds, where it is not the client's own.
    pub(crate) keep_alive_s: Option<u16>,
}

/// A CONNACK would be longer than its client takes.
#[derive(Debug)]
pub(crate) struct TooLong;

impl Protocol {
    /// CONNACK with success.
    ///
    /// # Errors
    /// [`TooLong`]: the client can be told nothing, and answers nothing that it is not told.
    pub(crate) fn welcome(&self, welcome: Welcome, output: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::V311(codec) => {
                let accepted = v3::codec::ConnectAckReason::ConnectionAccepted;
                encode_v311(codec, connect_ack_v311(accepted), output);
            }
            Self::V5(V5 { codec, packet_max, .. }) => {
                let ack = v5::codec::ConnectAck {
                    receive_max: RECEIVE_MAX,
                    max_qos: QoS::AtLeastOnce,
                    max_packet_size: Some(PACKET_MAX),
                    // The store is the only memory: a session ends with its connection.
                    session_expiry_interval_secs: Some(0),
                    assigned_client_id: welcome.assigned_client_id.map(ByteString::from),
                    server_keepalive_sec: welcome.keep_alive_s,
                    topic_alias_max: TOPIC_ALIASES,
                    wildcard_subscription_available: false,
                    shared_subscription_available: false,
                    ..v5::codec::ConnectAck::default()
                };
                let mut connack = Vec::new();
                encode_v5(codec, ack.into(), &mut connack);
                if let Some(most) = packet_max {
                    if connack.len() > most.get() as usize {
                        return Err(TooLong);
                    }
                    codec.set_max_outbound_size(most.get());
                }
                output.append(&mut connack);
            }
        }
        Ok(())
    }

    /// CONNACK with "packet too large", if that is not too large itself (MQTT-3.1.2-24).
    pub(crate) fn refuse_too_long(&self, output: &mut Vec<u8>) {
        const ANSWER: [u8; 5] = [0x20, 3, 0, 0x95, 0];
        if let Self::V5(V5 { packet_max: Some(most), .. }) = self
            && most.get() as usize >= ANSWER.len()
        {
            output.extend_from_slice(&ANSWER);
        }
    }

    /// CONNACK with a refusal.
    pub(crate) fn refuse(&self, refusal: Refusal, output: &mut Vec<u8>) {
        match self {
            Self::V311(codec) => {
                let return_code = match refusal {
                    Refusal::ServerUnavailable => v3::codec::ConnectAckReason::ServiceUnavailable,
                    Refusal::OtherDevicesClientId | Refusal::TooManyFailedLogins => {
                        v3::codec::ConnectAckReason::NotAuthorized
                    }
                    Refusal::BadUserNameOrPassword | Refusal::BadAuthenticationMethod => {
                        v3::codec::ConnectAckReason::BadUserNameOrPassword
                    }
                };
                encode_v311(codec, connect_ack_v311(return_code), output);
            }
            Self::V5(V5 { codec, .. }) => {
                let reason_code = match refusal {
                    Refusal::ServerUnavailable => v5::codec::ConnectAckReason::ServerUnavailable,
                    Refusal::BadUserNameOrPassword => v5::codec::ConnectAckReason::BadUserNameOrPassword,
                    Refusal::TooManyFailedLogins => v5::codec::ConnectAckReason::QuotaExceeded,
                    Refusal::OtherDevicesClientId => v5::codec::ConnectAckReason::NotAuthorized,
                    Refusal::BadAuthenticationMethod => v5::codec::ConnectAckReason::BadAuthenticationMethod,
                };
                let ack = v5::codec::ConnectAck { reason_code, ..v5::codec::ConnectAck::default() };
                encode_v5(codec, ack.into(), output);
            }
        }
    }
}

fn connect_ack_v311(return_code: v3::codec::ConnectAckReason) -> v3::codec::Packet {
    v3::codec::Packet::ConnectAck(v3::codec::ConnectAck { return_code, session_present: false })
}
