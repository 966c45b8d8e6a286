//! Messages from an MQTT 5 broker (RabbitMQ, mosquitto), on rumqttc: a durable session, acknowledged by hand
//! and only when the message is stored. The only files that name rumqttc are here.
//!
//! An acknowledgement carries a packet id and nothing else, and a new connection uses the same ids for other
//! messages. So every message is tagged with the epoch of its connection, and an acknowledgement of an older
//! epoch is dropped: the broker delivers that message again, and it is found to be a duplicate.

mod address;
mod advice;
mod checks;
mod filter;
mod options;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Filter, Packet, Publish, RetainForwardRule, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::address::{BrokerAddress, BrokerAddressError, Transport};
use self::advice::advice;
pub use self::checks::checks;
pub use self::filter::{PlainTopic, Slots};
pub use self::options::SetupError;
use self::options::options;
use super::gate::{Gate, Unsettled};
use super::{INBOX_MESSAGES, Inbox, LogState, RunningSource, Source, Wait, kept};
use crate::model::{Ack, Message, Moment, Retain, Sender, Verdict};
use crate::ops::{Dropped, Ops, Part};

/// How long the broker keeps the session, and with it the queue, of a worker that is away: 30 days, as long
/// as the messages in it live.
const SESSION_EXPIRY_S: u32 = rollcall_wire::codec::MESSAGE_EXPIRY_S;

/// A broker that says nothing for 1.5 times this long is gone, and so are we to it.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The pause before the next attempt to connect: doubled each time.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// When draining, how long the last acknowledgements may take to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that lived so long starts the pauses anew.
const HEALTHY: Duration = Duration::from_secs(30);

/// Subscribing and disconnecting need room in the queue of requests beside the acknowledgements.
const REQUESTS_BESIDE_ACKS: usize = 16;

/// How many messages may be unacknowledged when nothing else is said (MQTT's Receive Maximum).
pub const RECEIVE_MAX: u16 = 2000;

/// What to take from which broker.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// Where it is, and who we are.
    pub address: BrokerAddress,
    /// PEM file with the certificates that a broker's own must stem from; the system's when there is none.
    pub ca_file: Option<PathBuf>,
    /// Names the session: the same at every start, and no other worker's.
    pub client_id: String,
    /// Which devices.
    pub slots: Slots,
    /// A further topic with bare messages.
    pub plain_topic: Option<PlainTopic>,
    /// How many messages may be unacknowledged.
    pub receive_max: u16,
}

/// A broker, before messages are taken from it.
pub struct Broker {
    settings: BrokerSettings,
    options: MqttOptions,
    inbox: Inbox,
    ops: Arc<Ops>,
}

/// A broker, while messages are taken from it.
struct RunningBroker {
    client: AsyncClient,
    shared: Arc<Shared>,
    polling: JoinHandle<()>,
    acknowledging: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Counts connections. Held while an acknowledgement is queued, so that none is queued for a connection
    /// that has just ended.
    epoch: Mutex<u64>,
    /// Messages handed to the ingest loop and not settled. Once it drains, no connection is made anew.
    gate: Arc<Gate>,
    /// A message of this connection may not be stored: only a new one makes the broker deliver it again.
    not_stored: Notify,
}

impl Shared {
    fn epoch(&self) -> MutexGuard<'_, u64> {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message that waits for its verdict. Messages are settled in the order in which they came.
struct Pending {
    epoch: u64,
    packet_id: u16,
    verdict: oneshot::Receiver<Verdict>,
    unsettled: Unsettled,
}

impl Broker {
    /// Sets up what takes messages from the broker of `settings`.
    ///
    /// # Errors
    /// [`SetupError`]; a broker that is away is none.
    pub fn new(settings: BrokerSettings, inbox: Inbox, ops: Arc<Ops>) -> Result<Self, SetupError> {
        let options = options(&settings)?;
        Ok(Self { settings, options, inbox, ops })
    }
}

impl Source for Broker {
    /// Connects as often as it must.
    fn start(self: Box<Self>, log: LogState) -> Box<dyn RunningSource> {
        let Self { settings, options, inbox, ops } = *self;
        let BrokerSettings { address, slots, client_id, .. } = &settings;
        tracing::info!(%address, %slots, client_id, "taking messages from the broker");
        ops.unhealthy(Part::Source, &"not connected to the broker yet");
        let (client, events) =
            AsyncClient::new(options, usize::from(settings.receive_max) + REQUESTS_BESIDE_ACKS);
        let shared = Arc::new(Shared {
            epoch: Mutex::new(0),
            gate: Gate::new(ops.clone()),
            not_stored: Notify::new(),
        });
        let (pending, settled) = mpsc::channel(INBOX_MESSAGES + usize::from(settings.receive_max));
        let acknowledging = tokio::spawn(acknowledge(settled, client.clone(), shared.clone()));
        let connection = Connection {
            settings,
            log,
            client: client.clone(),
            shared: shared.clone(),
            inbox,
            ops,
            pending,
            session: Session::Away { since: None },
            pause: RETRY.0,
        };
        let polling = tokio::spawn(connection.run(events));
        Box::new(RunningBroker { client, shared, polling, acknowledging })
    }
}

impl RunningSource for RunningBroker {
    fn ended(&mut self) -> Wait<'_> {
        Box::pin(async {
            tokio::select! {
                _ = &mut self.polling => {}
                _ = &mut self.acknowledging => {}
            }
        })
    }

    /// The broker keeps the session and what arrives for it.
    fn drain(self: Box<Self>) -> Wait<'static> {
        Box::pin(self.close())
    }
}

impl RunningBroker {
    async fn close(mut self) {
        self.shared.gate.drain().await;
        // Queued behind the acknowledgements. A broker that is away does not hear it, and delivers again.
        let goodbye = self.client.try_disconnect();
        if goodbye.is_err() || tokio::time::timeout(GOODBYE_TIMEOUT, &mut self.polling).await.is_err() {
            self.polling.abort();
        }
        let _ = (&mut self.acknowledging).await;
    }
}

/// One that is not drained leaves nothing behind that uses the session: the next one does.
impl Drop for RunningBroker {
    fn drop(&mut self) {
        self.polling.abort();
        self.acknowledging.abort();
    }
}

/// Tells the broker what is stored. In a task of its own: the connection's task must never wait for it.
async fn acknowledge(mut settled: mpsc::Receiver<Pending>, client: AsyncClient, shared: Arc<Shared>) {
    while let Some(Pending { epoch, packet_id, verdict, unsettled }) = settled.recv().await {
        let stored = verdict.await.is_ok();
        let now = shared.epoch();
        if *now == epoch && stored {
            let publish = Publish { qos: QoS::AtLeastOnce, pkid: packet_id, ..Publish::default() };
            if client.try_ack(&publish).is_err() {
                // The queue has room for every message that the broker may have outstanding.
                tracing::error!("an acknowledgement was lost; the broker delivers its message again");
            }
        } else if *now == epoch {
            shared.not_stored.notify_one();
        }
        drop(now);
        drop(unsettled);
    }
}

/// Whether the broker knows us.
enum Session {
    /// Not connected; since when, if ever we were.
    Away { since: Option<Instant> },
    /// Connected.
    There { since: Instant },
}

struct Connection {
    settings: BrokerSettings,
    log: LogState,
    client: AsyncClient,
    shared: Arc<Shared>,
    inbox: Inbox,
    ops: Arc<Ops>,
    pending: mpsc::Sender<Pending>,
    session: Session,
    pause: Duration,
}

impl Connection {
    async fn run(mut self, mut events: EventLoop) {
        loop {
            let event = tokio::select! {
                event = events.poll() => event.map_err(|error| format!("{error}{}", advice(&error))),
                // A poll that is given up may lose what it had read; so does the connection, which ends here.
                () = self.shared.not_stored.notified() => Err("a message could not be stored".to_owned()),
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(welcome))) => self.connected(&welcome),
                Ok(Event::Incoming(Packet::SubAck(answer))) => self.subscribed(&answer.return_codes),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if self.take(publish).await.is_err() {
                        return;
                    }
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(_) => {}
                Err(reason) => {
                    self.lost(&reason, &mut events);
                    if self.shared.gate.is_draining() {
                        return;
                    }
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(RETRY.1);
                }
            }
        }
    }

    fn connected(&mut self, welcome: &ConnAck) {
        let address = &self.settings.address;
        let away = match self.session {
            Session::Away { since: Some(since) } => format!("{} s", since.elapsed().as_secs()),
            _ => "an unknown time".to_owned(),
        };
        let known = matches!(self.session, Session::Away { since: Some(_) });
        if !welcome.session_present && (known || self.log == LogState::Written) {
            tracing::warn!(
                client_id = self.settings.client_id,
                "gap: the broker lost our session, and with it what it held for us; what was published within {away} \
                 without a connection is lost (rollcall doctor shows how long the broker keeps a session)"
            );
        }
        let session = if welcome.session_present { "kept" } else { "new" };
        tracing::info!(%address, session, "connected to the broker");
        let expiry_s = welcome.properties.as_ref().and_then(|properties| properties.session_expiry_interval);
        if let Some(seconds) = expiry_s.filter(|seconds| *seconds < SESSION_EXPIRY_S) {
            tracing::warn!(
                seconds,
                "the broker keeps our session for less than 30 days; an ingest that is away longer loses messages \
                 (RabbitMQ: mqtt.max_session_expiry_interval_seconds)"
            );
        }
        self.session = Session::There { since: Instant::now() };
        self.subscribe();
    }

    /// At every connection: a session that is there may come from a process that died before it subscribed.
    fn subscribe(&self) {
        // A retained status is old news; it is never counted.
        let retain_forward_rule = RetainForwardRule::Never;
        let filters = self.samples().into_iter().chain(self.settings.slots.presence());
        let filters = filters.map(|path| Filter {
            retain_forward_rule: retain_forward_rule.clone(),
            ..Filter::new(path, QoS::AtLeastOnce)
        });
        if let Err(error) = self.client.try_subscribe_many(filters.collect::<Vec<_>>()) {
            self.ops.unhealthy(Part::Source, &format!("cannot subscribe: {error}"));
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
        // After a connection ended, rumqttc still returns what it had read from it.
        if !matches!(self.session, Session::There { .. }) {
            if publish.qos == QoS::AtMostOnce {
                self.ops.metrics.received.inc();
                self.ops.dropped(Dropped::ConnectionLost, 1);
            }
            return Ok(());
        }
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

    fn lost(&mut self, reason: &str, events: &mut EventLoop) {
        let mut epoch = self.shared.epoch();
        *epoch += 1;
        // Forgets the acknowledgements that were queued meanwhile; under the lock, so that none follows.
        events.clean();
        drop(epoch);
        let address = &self.settings.address;
        if let Session::There { since } = self.session {
            self.session = Session::Away { since: Some(Instant::now()) };
            if since.elapsed() >= HEALTHY {
                self.pause = RETRY.0;
            }
        }
        let reason = format!("no connection to {address}: {reason}");
        if !self.shared.gate.is_draining() {
            tracing::warn!(retry_ms = self.pause.as_millis(), "{reason}");
        }
        self.ops.unhealthy(Part::Source, &reason);
    }
}

/// The ingest loop is gone.
struct Ended;
