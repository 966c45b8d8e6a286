//! How a client is let in, or not: CONNECT and CONNACK.

use std::collections::HashMap;

use ntex_bytes::{ByteString, BytesMut};
use ntex_codec::Decoder;
use ntex_mqtt::{QoS, v3, v5};

use super::{PACKET_MAX, Protocol, RECEIVE_MAX, TOPIC_ALIASES, encode_v5, encode_v311};
use crate::ops::Refused;

/// The first byte of a CONNECT.
const CONNECT: u8 = 0x10;

/// What a client says first.
#[derive(Debug)]
pub(crate) struct Hello {
    pub(crate) client_id: ByteString,
    pub(crate) user: Option<ByteString>,
    pub(crate) password: Option<ntex_bytes::Bytes>,
    /// In seconds; 0 for none.
    pub(crate) keep_alive_s: u16,
    /// Did it bring an id?
    pub(crate) named: bool,
    /// Does it ask for an authentication beyond name and password?
    pub(crate) other_authentication: bool,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    BadUserNameOrPassword,
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
            Self::OtherDevicesClientId => Refused::OtherDevicesClientId,
            Self::BadAuthenticationMethod => Refused::BadAuthenticationMethod,
            Self::ServerUnavailable => Refused::ServerUnavailable,
        }
    }
}

/// Why the first packet is no CONNECT of a version that is spoken here.
#[derive(Debug)]
pub(crate) enum NotWelcome {
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

/// Reads a client's first packet.
///
/// # Errors
/// [`NotWelcome`] says what to answer.
pub(crate) fn hello(packet: &[u8]) -> Result<(Protocol, Hello), NotWelcome> {
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

    /// CONNACK with success; `given` is the id of a client that brought none.
    pub(crate) fn welcome(&self, given: Option<String>, output: &mut Vec<u8>) {
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
    pub(crate) fn refuse(&self, refusal: Refusal, output: &mut Vec<u8>) {
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
}

fn connect_ack_v311(return_code: v3::codec::ConnectAckReason) -> v3::codec::Packet {
    v3::codec::Packet::ConnectAck(v3::codec::ConnectAck { return_code, session_present: false })
}
