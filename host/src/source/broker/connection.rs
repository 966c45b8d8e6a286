//! The connection to one of the brokers: made, subscribed, taken from, and made again, with the same one or the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Filter, Packet, Publish, RetainForwardRule, Subscribe, SubscribeReasonCode,
};
use tokio::sync::mpsc;

use super::advice::advice;
use super::link::Link;
use super::options::Options;
use super::turns::Turns;
use super::{BrokerAddress, BrokerSettings, Pending, Requests, SESSION_EXPIRY_S, Shared};
use crate::model::{Ack, Message, Moment, Retain, Sender};
use crate::ops::{Dropped, Ops, Part};
use crate::source::{Inbox, LogState, kept};

/// We subscribe once a connection, and send nothing else that has a packet id of ours.
const SUBSCRIBE_ID: u16 = 1;

/// One of the brokers.
pub(super) struct Candidate {
    address: BrokerAddress,
    options: Options,
    /// When its connection ended, if there was one.
    left: Option<Instant>,
}

impl Candidate {
    /// The broker at `address`, whom we have not been connected to.
    pub(super) fn new(options: Options, address: &BrokerAddress) -> Self {
        Self { address: address.clone(), options, left: None }
    }
}

/// See the module.
pub(super) struct Connection {
    pub(super) settings: BrokerSettings,
    pub(super) candidates: Vec<Candidate>,
    pub(super) log: LogState,
    pub(super) requests: Requests,
    /// The other end of it.
    pub(super) asked: mpsc::Receiver<Packet>,
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Inbox,
    pub(super) ops: Arc<Ops>,
    pub(super) pending: mpsc::Sender<Pending>,
}

/// Why a connection has ended, or was none.
enum End {
    /// The source ends, or the ingest loop is gone.
    Source,
    /// The broker, or the network.
    Broker(String),
    /// A message could not be stored: the same broker delivers it again over a new connection, and only then.
    NotStored,
}

impl Connection {
    pub(super) async fn run(mut self) {
        let mut turns = Turns::new(self.candidates.len());
        while !self.shared.gate.is_draining() {
            let at = turns.at();
            let (end, lived) = match self.connect(at).await {
                Ok(link) => {
                    let since = Instant::now();
                    let end = self.take_all(link).await;
                    (end, Some(since.elapsed()))
                }
                Err(reason) => (End::Broker(reason), None),
            };
            let (reason, pause) = match end {
                End::Source => return,
                End::Broker(reason) => (reason, turns.failed(lived)),
                End::NotStored => ("a message could not be stored".to_owned(), turns.again(lived)),
            };
            self.lost(at, lived.is_some(), &reason, pause);
            tokio::time::sleep(pause).await;
        }
    }

    /// Connects to a broker and asks for its messages.
    async fn connect(&mut self, at: usize) -> Result<Link, String> {
        let Some(candidate) = self.candidates.get(at) else { return Err("no broker is named".to_owned()) };
        let (link, welcome) = Link::connect(&candidate.options).await.map_err(|unreachable| {
            let advice = unreachable.answers().map(advice).find(|advice| !advice.is_empty());
            format!("{unreachable}{}", advice.unwrap_or_default())
        })?;
        self.connected(candidate, &link, &welcome);
        self.subscribe();
        Ok(link)
    }

    fn connected(&self, candidate: &Candidate, link: &Link, welcome: &ConnAck) {
        let address = &candidate.address;
        let away = match candidate.left {
            Some(since) => format!("{} s", since.elapsed().as_secs()),
            None => "an unknown time".to_owned(),
        };
        if !welcome.session_present && (candidate.left.is_some() || self.log == LogState::Written) {
            tracing::warn!(
                %address,
                client_id = self.settings.client_id,
                "gap: the broker lost our session, and with it what it held for us; what was published within {away} \
                 without a connection is lost (rollcall doctor shows how long the broker keeps a session)"
            );
        }
        let session = if welcome.session_present { "kept" } else { "new" };
        tracing::info!(%address, at = %link.address, session, "connected to the broker");
        let expiry_s = welcome.properties.as_ref().and_then(|properties| properties.session_expiry_interval);
        if let Some(seconds) = expiry_s.filter(|seconds| *seconds < SESSION_EXPIRY_S) {
            tracing::warn!(
                %address,
                seconds,
                "the broker keeps our session for less than 30 days; an ingest that is away longer loses messages \
                 (RabbitMQ: mqtt.max_session_expiry_interval_seconds)"
            );
        }
    }

    /// Takes what comes over a connection, until it ends.
    async fn take_all(&mut self, mut link: Link) -> End {
        let end = loop {
            let packet = tokio::select! {
                packet = link.next(&mut self.asked) => packet,
                () = self.shared.not_stored.notified() => break End::NotStored,
            };
            match packet {
                Ok(Some(Packet::SubAck(answer))) => self.subscribed(&answer.return_codes),
                Ok(Some(Packet::Publish(publish))) => {
                    if self.take(publish).await.is_err() {
                        return End::Source;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return End::Source,
                Err(error) => break End::Broker(format!("{error}{}", advice(&error))),
            }
        };
        let unread = link.unread();
        self.ops.metrics.received.inc_by(unread);
        self.ops.dropped(Dropped::ConnectionLost, unread);
        end
    }

    /// At every connection: a session that is there may come from a process that died before it subscribed.
    fn subscribe(&self) {
        // A retained status is old news; it is never counted. Retained presence may be a will that came late; and that of a
        // whole fleet would come before its samples.
        let retain_forward_rule = RetainForwardRule::Never;
        let filters = self.samples().into_iter().chain(self.settings.slots.presence());
        let filters = filters.map(|path| Filter {
            retain_forward_rule: retain_forward_rule.clone(),
            ..Filter::new(path, QoS::AtLeastOnce)
        });
        let subscribe = Subscribe { pkid: SUBSCRIBE_ID, ..Subscribe::new_many(filters, None) };
        if self.requests.try_send(Packet::Subscribe(subscribe)).is_err() {
            // The queue has room beside the acknowledgements.
            self.ops.unhealthy(Part::Source, &"cannot subscribe: too much waits to be sent");
        }
    }

    /// Where samples are published.
    fn samples(&self) -> Vec<String> {
        let BrokerSettings { slots, plain_topic, .. } = &self.settings;
        let plain = plain_topic.as_ref().and_then(|plain| plain.filter(slots));
        slots.status().into_iter().chain(plain).collect()
    }

    /// The codes are in the order of the filters (MQTT-3.9.3-1): samples first. Presence is best effort.
    fn subscribed(&self, codes: &[SubscribeReasonCode]) {
        let (samples, presence) = codes.split_at(self.samples().len().min(codes.len()));
        let refused = |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
        match samples.iter().find(refused) {
            None => self.ops.healthy(Part::Source),
            Some(code) => {
                let reason = format!("the broker refused our subscription: {code:?}");
                tracing::error!("{reason}; its user needs the right to read rollcall/#");
                self.ops.unhealthy(Part::Source, &reason);
            }
        }
        if let Some(code) = presence.iter().find(refused) {
            tracing::warn!(
                ?code,
                "the broker does not tell us which devices come and go; its user needs the right to read rollcall/#"
            );
        }
    }

    /// Hands a message to the ingest loop; waits while the loop is busy, and so stops reading.
    async fn take(&self, publish: Publish) -> Result<(), Ended> {
        let Some(unsettled) = self.shared.gate.take() else { return Ok(()) };
        let received = Moment::now();
        let topic = std::str::from_utf8(&publish.topic).unwrap_or_default();
        let topic = self.settings.plain_topic.as_ref().map_or(topic, |plain| plain.renamed(topic));
        let (ack, verdict) = Ack::new();
        let message = Message {
            topic: kept::topic(topic),
            payload: kept::payload(&publish.payload),
            retain: if publish.retain { Retain::Yes } else { Retain::No },
            expiry_left_s: publish.properties.and_then(|properties| properties.message_expiry_interval),
            received,
            sender: Sender::HearsNothing,
            ack,
        };
        if publish.qos == QoS::AtMostOnce {
            return self.inbox.send(message).await.map_err(|_| Ended);
        }
        let epoch = *self.shared.epoch();
        let pending = Pending { epoch, packet_id: publish.pkid, verdict, unsettled };
        self.pending.send(pending).await.map_err(|_| Ended)?;
        self.inbox.send(message).await.map_err(|_| Ended)
    }

    fn lost(&mut self, at: usize, connected: bool, reason: &str, pause: Duration) {
        let mut epoch = self.shared.epoch();
        *epoch += 1;
        // Forgets the acknowledgements that were queued meanwhile; under the lock, so that none follows.
        while self.asked.try_recv().is_ok() {}
        drop(epoch);
        let Some(candidate) = self.candidates.get_mut(at) else { return };
        if connected {
            candidate.left = Some(Instant::now());
        }
        let reason = format!("no connection to {}: {reason}", candidate.address);
        if !self.shared.gate.is_draining() {
            tracing::warn!(retry_ms = pause.as_millis(), "{reason}");
        }
        self.ops.unhealthy(Part::Source, &reason);
    }
}

/// The ingest loop is gone.
struct Ended;
