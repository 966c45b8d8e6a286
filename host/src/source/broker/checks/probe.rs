//! A connection to the broker that is driven by hand.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};

/// A broker that answers later is not of much use.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing more is delivered when nothing came for so long.
pub(super) const QUIET: Duration = Duration::from_millis(700);

/// What may wait to be sent.
pub(super) const REQUESTS: usize = 500;

/// A connection that is driven by hand.
pub(super) struct Probe {
    pub(super) client: AsyncClient,
    events: EventLoop,
}

impl Probe {
    pub(super) fn new(options: MqttOptions) -> Self {
        let (client, events) = AsyncClient::new(options, REQUESTS);
        Self { client, events }
    }

    pub(super) async fn connect(&mut self) -> Result<ConnAck, ConnectionError> {
        loop {
            if let Event::Incoming(Packet::ConnAck(welcome)) = self.events.poll().await? {
                return Ok(welcome);
            }
        }
    }

    /// The next event; `None` when nothing comes or the connection ends.
    pub(super) async fn next(&mut self, limit: Duration) -> Option<Event> {
        tokio::time::timeout(limit, self.events.poll()).await.ok()?.ok()
    }

    /// The first packet that `pick` takes.
    pub(super) async fn wait<T>(&mut self, limit: Duration, pick: impl Fn(Packet) -> Option<T>) -> Option<T> {
        loop {
            if let Event::Incoming(packet) = self.next(limit).await?
                && let Some(picked) = pick(packet)
            {
                return Some(picked);
            }
        }
    }

    pub(super) async fn subscribe(&mut self, topic: &str) -> bool {
        let answer = |packet| match packet {
            Packet::SubAck(answer) => Some(answer.return_codes),
            _ => None,
        };
        self.client.try_subscribe(topic, QoS::AtLeastOnce).is_ok()
            && self
                .wait(ANSWER_TIMEOUT, answer)
                .await
                .is_some_and(|codes| codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))))
    }
}

/// The reason code of a PUBACK.
pub(super) fn acknowledged(packet: Packet) -> Option<PubAckReason> {
    match packet {
        Packet::PubAck(ack) => Some(ack.reason),
        _ => None,
    }
}
