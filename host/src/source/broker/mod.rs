//! Messages from an MQTT 5 broker (RabbitMQ, mosquitto): a durable session, acknowledged only when the message is stored.
//! Of several brokers one is asked at a time. The only files that name rumqttc, whose codec it is, are here.
//!
//! An acknowledgement carries a packet id and nothing else, and a new connection uses the same ids for other
//! messages. So every message is tagged with the epoch of its connection, and an acknowledgement of an older
//! epoch is dropped: the broker delivers that message again, and it is found to be a duplicate.

mod address;
mod advice;
mod checks;
mod connection;
mod dial;
mod filter;
mod link;
mod options;
mod turns;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{Disconnect, DisconnectReasonCode, Packet, PubAck};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::address::{BrokerAddress, BrokerAddressError, Transport};
pub use self::checks::checks;
use self::connection::{Candidate, Connection};
pub use self::filter::{PlainTopic, Slots};
use self::options::Options;
pub use self::options::SetupError;
use super::gate::{Gate, Unsettled};
use super::{INBOX_MESSAGES, Inbox, LogState, RunningSource, Source, Wait};
use crate::model::Verdict;
use crate::ops::{Ops, Part};

/// How long the broker keeps the session, and with it the queue, of a worker that is away: 30 days, as long
/// as the messages in it live.
const SESSION_EXPIRY_S: u32 = rollcall_wire::codec::MESSAGE_EXPIRY_S;

/// When draining, how long the last acknowledgements may take to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// Subscribing and disconnecting need room in the queue of requests beside the acknowledgements.
const REQUESTS_BESIDE_ACKS: usize = 16;

/// How many messages may be unacknowledged when nothing else is said (MQTT's Receive Maximum).
pub const RECEIVE_MAX: u16 = 2000;

/// What to take from which brokers.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// Where they are, and who we are: tried in turn.
    pub brokers: Vec<BrokerAddress>,
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

/// What is to be sent to the broker.
type Requests = mpsc::Sender<Packet>;

/// A broker, before messages are taken from it.
pub struct Broker {
    settings: BrokerSettings,
    candidates: Vec<Candidate>,
    inbox: Inbox,
    ops: Arc<Ops>,
}

/// A broker, while messages are taken from it.
struct RunningBroker {
    requests: Requests,
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
    /// Sets up what takes messages from the brokers of `settings`.
    ///
    /// # Errors
    /// [`SetupError`]; a broker that is away is none.
    pub fn new(settings: BrokerSettings, inbox: Inbox, ops: Arc<Ops>) -> Result<Self, SetupError> {
        let candidate = |address| Ok(Candidate::new(Options::new(address, &settings)?, address));
        let candidates = settings.brokers.iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { settings, candidates, inbox, ops })
    }
}

impl Source for Broker {
    /// Connects as often as it must.
    fn start(self: Box<Self>, log: LogState) -> Box<dyn RunningSource> {
        let Self { settings, candidates, inbox, ops } = *self;
        let BrokerSettings { brokers, slots, client_id, receive_max, .. } = &settings;
        tracing::info!(?brokers, %slots, client_id, "taking messages from the broker");
        ops.unhealthy(Part::Source, &"not connected to the broker yet");
        let (requests, asked) = mpsc::channel(usize::from(*receive_max) + REQUESTS_BESIDE_ACKS);
        let shared = Arc::new(Shared {
            epoch: Mutex::new(0),
            gate: Gate::new(ops.clone()),
            not_stored: Notify::new(),
        });
        let (pending, settled) = mpsc::channel(INBOX_MESSAGES + usize::from(*receive_max));
        let acknowledging = tokio::spawn(acknowledge(settled, requests.clone(), shared.clone()));
        let connection = Connection {
            settings,
            candidates,
            log,
            requests: requests.clone(),
            asked,
            shared: shared.clone(),
            inbox,
            ops,
            pending,
        };
        let polling = tokio::spawn(connection.run());
        Box::new(RunningBroker { requests, shared, polling, acknowledging })
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
        let goodbye = Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection));
        let goodbye = self.requests.try_send(goodbye);
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
async fn acknowledge(mut settled: mpsc::Receiver<Pending>, requests: Requests, shared: Arc<Shared>) {
    while let Some(Pending { epoch, packet_id, verdict, unsettled }) = settled.recv().await {
        let stored = verdict.await.is_ok();
        let now = shared.epoch();
        if *now == epoch && stored {
            if requests.try_send(Packet::PubAck(PubAck::new(packet_id, None))).is_err() {
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
