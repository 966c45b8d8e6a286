//! A connection to the broker that is driven by hand.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Disconnect, DisconnectReasonCode, Filter, Packet, PubAck, PubAckReason, Publish,
    PublishProperties, Subscribe, SubscribeReasonCode,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::source::broker::link::{Link, Unreachable};
use crate::source::broker::options::Options;

/// A broker that answers later is not of much use.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing more is delivered when nothing came for so long.
pub(super) const QUIET: Duration = Duration::from_millis(700);

/// What may wait to be sent.
const REQUESTS: u16 = 500;

/// No message of ours has it.
const SUBSCRIBE_ID: u16 = u16::MAX;

/// What a broker takes unacknowledged when it does not say (MQTT 5, section 3.2.2.3.3).
const RECEIVE_MAXIMUM: u16 = u16::MAX;

/// A connection that is driven by hand.
pub(super) struct Probe {
    /// How the broker welcomed us.
    pub(super) welcome: ConnAck,
    link: Link,
    requests: mpsc::Sender<Packet>,
    asked: mpsc::Receiver<Packet>,
}

impl Probe {
    pub(super) async fn connect(options: &Options) -> Result<Self, Unreachable> {
        let (link, welcome) = Link::connect(options).await?;
        let (requests, asked) = mpsc::channel(REQUESTS.into());
        Ok(Self { welcome, link, requests, asked })
    }

    /// The next packet; `None` when nothing comes or the connection ends.
    pub(super) async fn next(&mut self, limit: Duration) -> Option<Packet> {
        timeout(limit, self.link.next(&mut self.asked)).await.ok()?.ok()?
    }

    /// The first packet that `pick` takes.
    pub(super) async fn wait<T>(&mut self, limit: Duration, pick: impl Fn(Packet) -> Option<T>) -> Option<T> {
        loop {
            if let Some(picked) = pick(self.next(limit).await?) {
                return Some(picked);
            }
        }
    }

    pub(super) async fn subscribe(&mut self, topic: &str) -> bool {
        let answer = |packet| match packet {
            Packet::SubAck(answer) => Some(answer.return_codes),
            _ => None,
        };
        let subscribe = Subscribe::new(Filter::new(topic, QoS::AtLeastOnce), None);
        self.ask(Packet::Subscribe(Subscribe { pkid: SUBSCRIBE_ID, ..subscribe }))
            && self
                .wait(ANSWER_TIMEOUT, answer)
                .await
                .is_some_and(|codes| codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))))
    }

    /// Publishes a message; no other one that is not acknowledged has this id.
    pub(super) fn publish(
        &self,
        packet_id: u16,
        topic: &str,
        payload: String,
        properties: Option<PublishProperties>,
    ) -> bool {
        let publish = Publish::new(topic, QoS::AtLeastOnce, payload, properties);
        self.ask(Packet::Publish(Publish { pkid: packet_id, ..publish }))
    }

    /// How many messages may be published before one is acknowledged.
    pub(super) fn publish_max(&self) -> u16 {
        let properties = self.welcome.properties.as_ref();
        let receive_maximum = properties.and_then(|properties| properties.receive_max);
        receive_maximum.unwrap_or(RECEIVE_MAXIMUM).clamp(1, REQUESTS)
    }

    /// Acknowledges a message; false when it has to wait, because others have to be sent first.
    pub(super) fn acknowledge(&self, publish: &Publish) -> bool {
        self.ask(Packet::PubAck(PubAck::new(publish.pkid, None)))
    }

    pub(super) fn leave(&self) -> bool {
        self.ask(Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)))
    }

    fn ask(&self, packet: Packet) -> bool {
        self.requests.try_send(packet).is_ok()
    }
}

/// The reason code of a PUBACK.
pub(super) fn acknowledged(packet: Packet) -> Option<PubAckReason> {
    match packet {
        Packet::PubAck(ack) => Some(ack.reason),
        _ => None,
    }
}
