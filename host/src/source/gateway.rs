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
use ntex::util::{ByteString, Bytes};
use ntex_mqtt::v5::codec::{PublishAckReason, SubscribeAckReason};
use ntex_mqtt::{MqttServer, MqttServiceConfig, QoS, v3, v5};
use rollcall_wire::codec::Rejection;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;

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

/// When draining, how long the last acknowledgements may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

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
        self.shared.draining.store(true, Ordering::SeqCst);
        while self.shared.unsettled.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
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
        let io = ntex::io::IoConfig::new();
        let server = ntex::server::build()
            .disable_signals()
            .workers(1)
            .maxconn(CONNECTIONS_MAX)
            .shutdown_timeout(ntex::time::Millis::from(FLUSH_TIMEOUT))
            .listen("mqtt", listener, async move |_| {
                let (welcome_v3, publish_v3) = (shared.clone(), shared.clone());
                let (welcome_v5, publish_v5) = (shared.clone(), shared.clone());
                MqttServer::new()
                    .v3(v3::MqttServer::new(async move |hello| welcome_v3.welcome_v3(hello))
                        .protocol(protocol_v3)
                        .control(async |_| Ok::<_, Closed>(None))
                        .publish(async move |publish| publish_v3.publish_v3(publish).await))
                    .v5(v5::MqttServer::new(async move |hello| welcome_v5.welcome_v5(hello))
                        .protocol(protocol_v5)
                        .control(async |_| Ok::<_, Closed>(None))
                        .publish(async move |publish| publish_v5.publish_v5(publish).await))
            });
        match server {
            Ok(server) => {
                let server = server.config("mqtt", SharedCfg::new("mqtt").add(mqtt).add(io)).run();
                let _ = stopped.await;
                server.stop(true).await;
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

    fn welcome_v3(&self, hello: v3::Handshake) -> Result<v3::HandshakeAck<()>, Closed> {
        let connect = hello.packet();
        if !self.admits(connect.username.as_ref(), connect.password.as_ref()) {
            return Ok(hello.bad_username_or_pwd());
        }
        let silent = connect.keep_alive == 0;
        let ack = hello.ack((), false);
        Ok(if silent { ack.idle_timeout(ntex::time::Seconds(IDLE_MAX_S)) } else { ack })
    }

    fn welcome_v5(&self, hello: v5::Handshake) -> Result<v5::HandshakeAck<()>, Closed> {
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
        let ack = hello.ack(()).with(|ack| {
            ack.assigned_client_id = given;
            ack.wildcard_subscription_available = false;
            ack.shared_subscription_available = false;
        });
        Ok(if silent { ack.keep_alive(IDLE_MAX_S) } else { ack })
    }

    async fn publish_v3(&self, mut publish: v3::Publish) -> Result<(), Closed> {
        let payload = publish.take_payload();
        let retain = if publish.retain() { Retain::Yes } else { Retain::No };
        let (topic, qos) = (publish.publish_topic(), publish.qos());
        // 3.1.1 has no reason codes: a rejected message is acknowledged, and the host counts it by name.
        self.store(topic, payload, retain, None, qos).await.map(drop)
    }

    async fn publish_v5(&self, mut publish: v5::Publish) -> Result<v5::PublishAck, Closed> {
        let payload = publish.take_payload();
        let retain = if publish.retain() { Retain::Yes } else { Retain::No };
        let packet = publish.packet();
        let expiry_left_s = packet.properties.message_expiry_interval.map(|left| left.get());
        let verdict = self.store(&packet.topic, payload, retain, expiry_left_s, packet.qos).await?;
        let Verdict::Rejected(rejection) = verdict else { return Ok(publish.ack()) };
        let code = match rejection {
            Rejection::BadTopic | Rejection::BadDevice | Rejection::WrongSlot => {
                PublishAckReason::TopicNameInvalid
            }
            _ => PublishAckReason::PayloadFormatInvalid,
        };
        Ok(publish.ack().reason_code(code).reason(ByteString::from_static(rejection.name())))
    }

    /// Hands a message to the ingest loop and waits for its verdict. One of QoS 0 is not waited for.
    async fn store(
        &self,
        topic: &str,
        payload: ntex_mqtt::Payload,
        retain: Retain,
        expiry_left_s: Option<u32>,
        qos: QoS,
    ) -> Result<Verdict, Closed> {
        let payload = payload.read_all().await.map_err(|_| Closed)?;
        let _unsettled = self.begin().await;
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
            QoS::AtMostOnce => Ok(Verdict::Accepted),
            _ => verdict.await.map_err(|_| Closed),
        }
    }

    /// Counts a message as unsettled until the guard goes; never returns while draining.
    async fn begin(&self) -> Unsettled<'_> {
        self.unsettled.fetch_add(1, Ordering::SeqCst);
        let guard = Unsettled(&self.unsettled);
        if !self.draining.load(Ordering::SeqCst) {
            return guard;
        }
        drop(guard);
        std::future::pending().await
    }
}

/// See [`Shared::begin`].
struct Unsettled<'a>(&'a AtomicUsize);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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
