//! What a client asks for once it is let in.

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32};

use ntex_bytes::ByteString;
use ntex_mqtt::{QoS, v3, v5};

use super::{Publish, Reason, Request, TOPIC_ALIASES};

pub(super) fn request_v311(decoded: Option<v3::codec::Decoded>) -> Result<Request, Reason> {
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

pub(super) fn request_v5(
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
