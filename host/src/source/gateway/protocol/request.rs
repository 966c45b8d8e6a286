//! What a client asks for once it is let in.

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32};

use ntex_bytes::{ByteString, BytesMut};
use ntex_codec::Decoder;
use ntex_mqtt::{QoS, v3, v5};

use super::connect::can_be_published_to;
use super::fields::{self, Version};
use super::{Protocol, Publish, Reason, Request, TOPIC_ALIASES, V5};
use crate::source::kept;

impl Protocol {
    /// Reads one whole packet.
    ///
    /// # Errors
    /// The reason for which the connection has to end.
    pub(crate) fn request(&mut self, packet: &[u8]) -> Result<Request, Reason> {
        let request = match self {
            Self::V311(codec) => {
                fields::check(packet, Version::V311)?;
                let decoded = codec.decode(&mut BytesMut::from(packet));
                request_v311(decoded.map_err(|_| Reason::MalformedPacket)?)?
            }
            Self::V5(v5) => {
                fields::check(packet, Version::V5)?;
                let mut packet = BytesMut::from(packet);
                let expires_at_once = fields::lift_zero_expiry(&mut packet);
                let decoded = v5.codec.decode(&mut packet).map_err(|_| Reason::MalformedPacket)?;
                let mut request = request_v5(decoded, v5)?;
                if let Request::Publish(publish) = &mut request
                    && expires_at_once
                {
                    publish.expiry_left_s = Some(0);
                }
                request
            }
        };
        if let Request::Publish(publish) = &request {
            free_of_nul([&publish.topic])?;
            if !can_be_published_to(&publish.topic) {
                return Err(Reason::TopicNameInvalid);
            }
        }
        Ok(request)
    }
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
            let filters = count(topic_filters.iter().map(|(filter, _)| filter))?;
            Request::Subscribe { packet_id, filters }
        }
        Some(Decoded::Packet(Packet::Unsubscribe { packet_id, topic_filters }, _)) => {
            Request::Unsubscribe { packet_id, filters: count(&topic_filters)? }
        }
        Some(Decoded::Packet(Packet::PublishRelease { packet_id }, _)) => Request::Release { packet_id },
        Some(Decoded::Packet(Packet::PingRequest, _)) => Request::Ping,
        Some(Decoded::Packet(Packet::Disconnect, _)) => Request::Disconnect { normal: true },
        // A second CONNECT (MQTT-3.1.0-2), what only a server sends, and answers to what was never sent.
        Some(Decoded::Packet(..)) => return Err(Reason::ProtocolError),
        Some(Decoded::PayloadChunk(..)) | None => return Err(Reason::MalformedPacket),
    })
}

fn request_v5(decoded: Option<v5::codec::Decoded>, v5: &mut V5) -> Result<Request, Reason> {
    use v5::codec::{Decoded, DisconnectReasonCode, Packet};
    Ok(match decoded {
        Some(Decoded::Publish(publish, payload, _)) => {
            Request::Publish(publish_v5(publish, payload, &mut v5.aliases)?)
        }
        Some(Decoded::Packet(Packet::Subscribe(subscribe), _)) => {
            free_of_nul(subscribe.user_properties.iter().flat_map(|(name, value)| [name, value]))?;
            // MQTT-3.8.3-4
            let shared = |filter: &ByteString| filter.starts_with("$share/");
            if subscribe.topic_filters.iter().any(|(filter, options)| options.no_local && shared(filter)) {
                return Err(Reason::ProtocolError);
            }
            let filters = count(subscribe.topic_filters.iter().map(|(filter, _)| filter))?;
            Request::Subscribe { packet_id: subscribe.packet_id, filters }
        }
        Some(Decoded::Packet(Packet::Unsubscribe(unsubscribe), _)) => {
            free_of_nul(unsubscribe.user_properties.iter().flat_map(|(name, value)| [name, value]))?;
            let filters = count(&unsubscribe.topic_filters)?;
            Request::Unsubscribe { packet_id: unsubscribe.packet_id, filters }
        }
        Some(Decoded::Packet(Packet::PublishRelease(release), _)) => {
            Request::Release { packet_id: release.packet_id }
        }
        Some(Decoded::Packet(Packet::PingRequest, _)) => Request::Ping,
        Some(Decoded::Packet(Packet::Disconnect(disconnect), _)) => {
            // MQTT 5, section 3.14.2.2.2
            if !v5.asked_for_session && disconnect.session_expiry_interval_secs.is_some_and(|s| s > 0) {
                return Err(Reason::ProtocolError);
            }
            Request::Disconnect {
                normal: disconnect.reason_code == DisconnectReasonCode::NormalDisconnection,
            }
        }
        Some(Decoded::Packet(..)) => return Err(Reason::ProtocolError),
        Some(Decoded::PayloadChunk(..)) | None => return Err(Reason::MalformedPacket),
    })
}

fn publish_v5(
    publish: v5::codec::Publish,
    payload: ntex_bytes::Bytes,
    aliases: &mut HashMap<NonZeroU16, ByteString>,
) -> Result<Publish, Reason> {
    if publish.qos == QoS::ExactlyOnce {
        return Err(Reason::QosNotSupported);
    }
    let properties = publish.properties;
    let texts = properties.user_properties.iter().flat_map(|(name, value)| [name, value]);
    free_of_nul(texts.chain(&properties.response_topic).chain(&properties.content_type))?;
    // MQTT-3.3.2-14, MQTT-3.3.4-6
    let wildcards = properties.response_topic.is_some_and(|topic| topic.contains(['#', '+']));
    if wildcards || !properties.subscription_ids.is_empty() {
        return Err(Reason::ProtocolError);
    }
    Ok(Publish {
        topic: dealias(publish.topic, properties.topic_alias, aliases)?,
        payload,
        retain: publish.retain,
        packet_id: publish.packet_id,
        expiry_left_s: properties.message_expiry_interval.map(NonZeroU32::get),
    })
}

/// A SUBSCRIBE or UNSUBSCRIBE has at least one filter (MQTT-3.8.3-3 and MQTT-3.10.3-2 of 3.1.1, MQTT-3.8.3-2 and
/// MQTT-3.10.3-2 of 5), and each of them a character (MQTT-4.7.3-1).
fn count<'a>(filters: impl IntoIterator<Item = &'a ByteString, IntoIter: Clone>) -> Result<usize, Reason> {
    let filters = filters.into_iter();
    free_of_nul(filters.clone())?;
    if filters.clone().any(|filter| filter.is_empty()) {
        return Err(Reason::MalformedPacket);
    }
    match filters.count() {
        0 => Err(Reason::ProtocolError),
        filters => Ok(filters),
    }
}

/// MQTT-1.5.3-2 of 3.1.1, MQTT-1.5.4-2 of 5.
pub(super) fn free_of_nul<'a>(texts: impl IntoIterator<Item = &'a ByteString>) -> Result<(), Reason> {
    let with_nul = texts.into_iter().any(|text| text.contains('\0'));
    if with_nul { Err(Reason::MalformedPacket) } else { Ok(()) }
}

/// The topic that is meant: the one that an alias stands for, or the one that the alias gets (MQTT 5,
/// section 3.3.2.3.4).
fn dealias(
    topic: ByteString,
    alias: Option<NonZeroU16>,
    aliases: &mut HashMap<NonZeroU16, ByteString>,
) -> Result<ByteString, Reason> {
    let Some(alias) = alias else {
        return if topic.is_empty() { Err(Reason::ProtocolError) } else { Ok(topic) };
    };
    // MQTT-3.2.2-17
    if alias.get() > TOPIC_ALIASES {
        return Err(Reason::TopicAliasInvalid);
    }
    if topic.is_empty() {
        return aliases.get(&alias).cloned().ok_or(Reason::ProtocolError);
    }
    // A copy of its own: the topic that was decoded shares its packet's memory.
    aliases.insert(alias, ByteString::from(kept::topic(&topic).into_string()));
    Ok(topic)
}
