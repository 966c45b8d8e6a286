//! The built-in MQTT endpoint (5 and 3.1.1), on ntex-mqtt. Its PUBACK means "committed to the store".
//!
//! It takes publishes of QoS 0 and 1 to status and presence topics; there is nothing to subscribe to, and it
//! keeps no sessions: the store is the only memory. The only file that names ntex.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ntex::service::cfg::SharedCfg;
use ntex::service::{fn_factory_with_config, fn_service};
use ntex::util::{ByteString, Bytes};
use ntex_mqtt::v5::codec::{DisconnectReasonCode, PublishAckReason, SubscribeAckReason};
use ntex_mqtt::{MqttServer, MqttServiceConfig, QoS, v3, v5};
use rollcall_wire::codec::Rejection;
use subtle::ConstantTimeEq;
use tokio::sync::{oneshot, watch};

use super::{Ack, Inbox, Message, Verdict};
use crate::decode::Retain;
use crate::time::UnixMs;

/// The longest packet that is read, in bytes; a longer one ends the connection with reason 0x95. Rollcall's
/// own take about 200, and readable clients need room for properties.
const PACKET_MAX: u32 = 8 * 1024;

/// Messages that one connection may have unacknowledged (MQTT's Receive Maximum).
const RECEIVE_MAX: u16 = 256;

/// A client has this long to send its CONNECT.
const CONNECT_TIMEOUT_S: u16 = 10;

/// For clients that ask for no keep-alive: a connection that is silent for longer is dropped.
const IDLE_MAX_S: u16 = u16::MAX;

/// Connections per worker thread; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 100_000;

/// The buffers of a connection that has something to say, in bytes: ten thousand may have at once. ntex's own
/// default is 16 KiB. A larger packet makes its buffer grow.
const BUFFER_BYTES: usize = 4 * 1024;

/// How many unused buffers are kept for the next connection.
const BUFFERS_KEPT: usize = 256;

/// When draining, the time for answers that are decided but not yet written: ntex writes them in the order
/// of their publishes, so one may wait for another's turn on the same thread.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// When draining, how long connections may take to send the last acknowledgements and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// When draining, how often its conditions are looked at.
const POLL: Duration = Duration::from_millis(5);

/// The name and password that every client must show.
#[derive(Clone)]
pub struct Credentials {
    /// MQTT user name.
    pub user: String,
    /// MQTT password; never logged.
    pub password: String,
}

impl Credentials {
    fn admit(&self, user: Option<&ByteString>, password: Option<&Bytes>) -> bool {
        let same = |ours: &str, theirs: Option<&[u8]>| ours.as_bytes().ct_eq(theirs.unwrap_or_default());
        let user = same(&self.user, user.map(|user| user.as_bytes().as_ref()));
        let password = same(&self.password, password.map(AsRef::as_ref));
        (user & password).into()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    inbox: Inbox,
    credentials: Option<Credentials>,
    /// Messages handed to the ingest loop and not yet acknowledged.
    unsettled: AtomicUsize,
    /// Once true, no further message is taken.
    draining: AtomicBool,
    /// Once true, every connection says farewell and closes.
    closing: watch::Sender<bool>,
    /// Connections that are open.
    connections: AtomicUsize,
    /// Numbers the clients that bring no id of their own.
    unnamed: AtomicU64,
}

impl Gateway {
    /// Serves MQTT on `listener`, in threads of its own.
    ///
    /// # Errors
    /// When the listener or a thread cannot be set up.
    pub fn start(
        listener: TcpListener,
        credentials: Option<Credentials>,
        inbox: Inbox,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            inbox,
            credentials,
            unsettled: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            closing: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            unnamed: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = shared.clone();
        let thread =
            thread::Builder::new().name("mqtt".into()).spawn(move || serve(listener, &serving, stopped))?;
        Ok(Self { address, shared, stop, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further message, waits until those it took are acknowledged, and closes every connection.
    pub async fn drain(self) {
        let shared = &self.shared;
        shared.draining.store(true, Ordering::SeqCst);
        while shared.unsettled.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(POLL).await;
        }
        tokio::time::sleep(LAST_WORDS).await;
        shared.closing.send_replace(true);
        let close = async {
            while shared.connections.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
            let left = shared.connections.load(Ordering::SeqCst);
            tracing::warn!("{left} mqtt connections did not close in time and are cut");
        }
        let _ = self.stop.send(());
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

/// Runs ntex's own runtime until told to stop.
fn serve(listener: TcpListener, shared: &Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let shared = shared.clone();
    let system = ntex::rt::System::build().name("mqtt").build(ntex::rt::DefaultRuntime);
    system.block_on(async move {
        let mqtt = MqttServiceConfig::new()
            .set_max_qos(QoS::AtLeastOnce)
            .set_max_size(PACKET_MAX)
            // A payload within the packet's limit always arrives whole.
            .set_min_chunk_size(PACKET_MAX)
            .set_max_receive(RECEIVE_MAX)
            .set_connect_timeout(ntex::time::Seconds(CONNECT_TIMEOUT_S))
            // A client that publishes and leaves at once has still said it.
            .set_handle_qos_after_disconnect(Some(QoS::AtLeastOnce));
        let io = ntex::io::IoConfig::new()
            .set_read_buf(BUFFER_BYTES, BUFFER_BYTES / 4, BUFFERS_KEPT)
            .set_write_buf(BUFFER_BYTES, BUFFER_BYTES / 4, BUFFERS_KEPT);
        let server = ntex::server::build().disable_signals().workers(1).maxconn(CONNECTIONS_MAX).listen(
            "mqtt",
            listener,
            async move |_| {
                let (welcome_v3, welcome_v5) = (shared.clone(), shared.clone());
                MqttServer::new()
                    .v3(v3::MqttServer::new(async move |hello| welcome_v3.welcome_v3(hello))
                        .protocol(protocol_v3)
                        .control(async |_| Ok::<_, Closed>(None))
                        .publish(fn_factory_with_config(async |session: v3::Session<Connection>| {
                            Ok::<_, Closed>(fn_service(move |publish| publish_v3(session.clone(), publish)))
                        })))
                    .v5(v5::MqttServer::new(async move |hello| welcome_v5.welcome_v5(hello))
                        .protocol(protocol_v5)
                        .control(async |_| Ok::<_, Closed>(None))
                        .publish(fn_factory_with_config(async |session: v5::Session<Connection>| {
                            Ok::<_, Closed>(fn_service(move |publish| publish_v5(session.clone(), publish)))
                        })))
            },
        );
        match server {
            Ok(server) => {
                let server = server.config("mqtt", SharedCfg::new("mqtt").add(mqtt).add(io)).run();
                let _ = stopped.await;
                server.stop(false).await;
            }
            Err(error) => tracing::error!(%error, "mqtt cannot listen"),
        }
    });
}

/// The connection cannot go on: the message may not be stored, so it is not acknowledged.
#[derive(Debug)]
struct Closed;

/// ntex's service factories fail to start with `()`; ours cannot fail.
impl From<()> for Closed {
    fn from((): ()) -> Self {
        Self
    }
}

impl TryFrom<Closed> for v5::PublishAck {
    type Error = Closed;

    fn try_from(closed: Closed) -> Result<Self, Closed> {
        Err(closed)
    }
}

impl Shared {
    fn admits(&self, user: Option<&ByteString>, password: Option<&Bytes>) -> bool {
        self.credentials.as_ref().is_none_or(|credentials| credentials.admit(user, password))
    }

    fn welcome_v3(self: &Arc<Self>, hello: v3::Handshake) -> Result<v3::HandshakeAck<Connection>, Closed> {
        let connect = hello.packet();
        if !self.admits(connect.username.as_ref(), connect.password.as_ref()) {
            return Ok(hello.bad_username_or_pwd());
        }
        let silent = connect.keep_alive == 0;
        let sink = hello.sink();
        let connection = Connection::open(self, move || sink.close());
        let ack = hello.ack(connection, false);
        Ok(if silent { ack.idle_timeout(ntex::time::Seconds(IDLE_MAX_S)) } else { ack })
    }

    fn welcome_v5(self: &Arc<Self>, hello: v5::Handshake) -> Result<v5::HandshakeAck<Connection>, Closed> {
        let connect = hello.packet();
        if !self.admits(connect.username.as_ref(), connect.password.as_ref()) {
            return Ok(hello.failed(v5::codec::ConnectAckReason::BadUserNameOrPassword));
        }
        let silent = connect.keep_alive == 0;
        // MQTT 5 (section 3.1.3.1): a client without an id is told the one that it got.
        let given = connect.client_id.is_empty().then(|| {
            let number = self.unnamed.fetch_add(1, Ordering::Relaxed);
            ByteString::from(format!("unnamed-{number}"))
        });
        let sink = hello.sink();
        let connection = Connection::open(self, move || sink.close_with_reason(farewell()));
        let ack = hello.ack(connection).with(|ack| {
            ack.assigned_client_id = given;
            ack.wildcard_subscription_available = false;
            ack.shared_subscription_available = false;
        });
        Ok(if silent { ack.keep_alive(IDLE_MAX_S) } else { ack })
    }

    /// Hands a message to the ingest loop and waits for its verdict. One of QoS 0 is not waited for.
    async fn store(
        &self,
        topic: &str,
        payload: ntex_mqtt::Payload,
        retain: Retain,
        expiry_left_s: Option<u32>,
        qos: QoS,
    ) -> Result<Outcome, Closed> {
        let payload = payload.read_all().await.map_err(|_| Closed)?;
        let Some(_unsettled) = self.begin() else { return Ok(Outcome::NotTaken) };
        let (ack, verdict) = Ack::new();
        let message = Message {
            topic: topic.into(),
            payload: payload.as_ref().into(),
            retain,
            expiry_left_s,
            received_at: UnixMs::now(),
            ack,
        };
        self.inbox.send(message).await.map_err(|_| Closed)?;
        match qos {
            QoS::AtMostOnce => Ok(Outcome::Settled(Verdict::Accepted)),
            _ => verdict.await.map(Outcome::Settled).map_err(|_| Closed),
        }
    }

    /// Counts a message as unsettled until the guard goes; `None` while draining.
    fn begin(&self) -> Option<Unsettled<'_>> {
        self.unsettled.fetch_add(1, Ordering::SeqCst);
        let guard = Unsettled(&self.unsettled);
        (!self.draining.load(Ordering::SeqCst)).then_some(guard)
    }
}

/// What became of a publish.
enum Outcome {
    /// The ingest loop has settled it.
    Settled(Verdict),
    /// The gateway is draining. It must be said at once: an answer that is held back would hold back those
    /// of later publishes on its connection, which may have been taken.
    NotTaken,
}

/// See [`Shared::begin`].
struct Unsettled<'a>(&'a AtomicUsize);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A client that was let in; lives as long as its connection.
struct Connection {
    shared: Arc<Shared>,
    /// Dropped with the connection, which ends the task that waits to close it.
    _gone: oneshot::Sender<()>,
}

impl Connection {
    /// Counts the connection, and has `close` called if it is still open when the gateway closes.
    fn open(shared: &Arc<Shared>, close: impl FnOnce() + 'static) -> Self {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (gone, is_gone) = oneshot::channel::<()>();
        let mut closing = shared.closing.subscribe();
        ntex::rt::spawn(async move {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => close(),
                _ = is_gone => {}
            }
        });
        Self { shared: shared.clone(), _gone: gone }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

fn farewell() -> v5::codec::Disconnect {
    v5::codec::Disconnect::new(DisconnectReasonCode::ServerShuttingDown)
}

async fn publish_v3(session: v3::Session<Connection>, mut publish: v3::Publish) -> Result<(), Closed> {
    let payload = publish.take_payload();
    let retain = if publish.retain() { Retain::Yes } else { Retain::No };
    let (topic, qos) = (publish.publish_topic(), publish.qos());
    // 3.1.1 has no reason codes: a rejected message is acknowledged, and the host counts it by name.
    match session.shared.store(topic, payload, retain, None, qos).await? {
        Outcome::Settled(_) => Ok(()),
        // Nor can 3.1.1 refuse a message: it stays unanswered until the connection closes.
        Outcome::NotTaken => std::future::pending().await,
    }
}

async fn publish_v5(
    session: v5::Session<Connection>,
    mut publish: v5::Publish,
) -> Result<v5::PublishAck, Closed> {
    let payload = publish.take_payload();
    let retain = if publish.retain() { Retain::Yes } else { Retain::No };
    let packet = publish.packet();
    let expiry_left_s = packet.properties.message_expiry_interval.map(|left| left.get());
    let outcome = session.shared.store(&packet.topic, payload, retain, expiry_left_s, packet.qos).await?;
    let (code, reason) = match outcome {
        Outcome::Settled(Verdict::Accepted | Verdict::Duplicate) => return Ok(publish.ack()),
        Outcome::Settled(Verdict::Rejected(rejection)) => (rejection_code(rejection), rejection.name()),
        Outcome::NotTaken => (PublishAckReason::ImplementationSpecificError, "shutting down"),
    };
    Ok(publish.ack().reason_code(code).reason(ByteString::from_static(reason)))
}

fn rejection_code(rejection: Rejection) -> PublishAckReason {
    match rejection {
        Rejection::BadTopic | Rejection::BadDevice | Rejection::WrongSlot => {
            PublishAckReason::TopicNameInvalid
        }
        _ => PublishAckReason::PayloadFormatInvalid,
    }
}

/// Answers what is neither CONNECT nor PUBLISH. The gateway has nothing to subscribe to.
async fn protocol_v3(message: v3::ProtocolMessage) -> Result<v3::ProtocolMessageAck, Closed> {
    Ok(match message {
        v3::ProtocolMessage::Subscribe(mut subscribe) => {
            subscribe.iter_mut().for_each(|mut filter| filter.fail());
            subscribe.ack()
        }
        other => other.ack(),
    })
}

/// See [`protocol_v3`].
async fn protocol_v5(message: v5::ProtocolMessage) -> Result<v5::ProtocolMessageAck, Closed> {
    Ok(match message {
        v5::ProtocolMessage::Subscribe(mut subscribe) => {
            subscribe.iter_mut().for_each(|mut filter| filter.fail(SubscribeAckReason::NotAuthorized));
            subscribe.ack_reason(ByteString::from_static("rollcall takes publishes only")).ack()
        }
        other => other.ack(),
    })
}
