//! The MQTT protocol of the gateway: who is let in, what is answered. The only file that names ntex.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ntex::service::cfg::SharedCfg;
use ntex::service::{fn_factory_with_config, fn_service};
use ntex::util::{ByteString, Bytes};
use ntex_mqtt::v5::codec::{DisconnectReasonCode, PublishAckReason, SubscribeAckReason};
use ntex_mqtt::{MqttServer, MqttServiceConfig, Payload, QoS, v3, v5};
use rollcall_wire::codec::Rejection;
use tokio::sync::oneshot;

use super::{Closed, Outcome, Shared};
use crate::decode::Retain;
use crate::source::{Ack, Message, Verdict};
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

/// Runs ntex's own runtime until told to stop.
pub(super) fn serve(listener: TcpListener, shared: &Arc<Shared>, stopped: oneshot::Receiver<()>) {
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
                let (shared_v3, shared_v5) = (shared.clone(), shared.clone());
                MqttServer::new()
                    .v3(v3::MqttServer::new(async move |hello| welcome_v3(&shared_v3, hello))
                        .protocol(protocol_v3)
                        .control(async |_| Ok::<_, Closed>(None))
                        .publish(fn_factory_with_config(async |session: v3::Session<Connection>| {
                            Ok::<_, Closed>(fn_service(move |publish| publish_v3(session.clone(), publish)))
                        })))
                    .v5(v5::MqttServer::new(async move |hello| welcome_v5(&shared_v5, hello))
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

/// Lets a client of MQTT 3.1.1 in, or not.
fn welcome_v3(shared: &Arc<Shared>, hello: v3::Handshake) -> Result<v3::HandshakeAck<Connection>, Closed> {
    let connect = hello.packet();
    if !admits(shared, connect.username.as_ref(), connect.password.as_ref()) {
        return Ok(hello.bad_username_or_pwd());
    }
    let silent = connect.keep_alive == 0;
    let sink = hello.sink();
    let connection = Connection::open(shared, move || sink.close());
    let ack = hello.ack(connection, false);
    Ok(if silent { ack.idle_timeout(ntex::time::Seconds(IDLE_MAX_S)) } else { ack })
}

/// Lets a client of MQTT 5 in, or not.
fn welcome_v5(shared: &Arc<Shared>, hello: v5::Handshake) -> Result<v5::HandshakeAck<Connection>, Closed> {
    let connect = hello.packet();
    if !admits(shared, connect.username.as_ref(), connect.password.as_ref()) {
        return Ok(hello.failed(v5::codec::ConnectAckReason::BadUserNameOrPassword));
    }
    let silent = connect.keep_alive == 0;
    // MQTT 5 (section 3.1.3.1): a client without an id is told the one that it got.
    let given = connect.client_id.is_empty().then(|| {
        let number = shared.unnamed.fetch_add(1, Ordering::Relaxed);
        ByteString::from(format!("unnamed-{number}"))
    });
    let sink = hello.sink();
    let farewell = v5::codec::Disconnect::new(DisconnectReasonCode::ServerShuttingDown);
    let connection = Connection::open(shared, move || sink.close_with_reason(farewell));
    let ack = hello.ack(connection).with(|ack| {
        ack.assigned_client_id = given;
        ack.wildcard_subscription_available = false;
        ack.shared_subscription_available = false;
    });
    Ok(if silent { ack.keep_alive(IDLE_MAX_S) } else { ack })
}

fn admits(shared: &Shared, user: Option<&ByteString>, password: Option<&Bytes>) -> bool {
    shared.admits(user.map(|user| user.as_bytes().as_ref()), password.map(AsRef::as_ref))
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

async fn publish_v3(session: v3::Session<Connection>, mut publish: v3::Publish) -> Result<(), Closed> {
    let payload = publish.take_payload();
    let (topic, qos) = (publish.publish_topic(), publish.qos());
    // 3.1.1 has no reason codes: a rejected message is acknowledged, and the host counts it by name.
    match take(&session.shared, topic, payload, retain(publish.retain()), None, qos).await? {
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
    let packet = publish.packet();
    let expiry_left_s = packet.properties.message_expiry_interval.map(|left| left.get());
    let retain = retain(packet.retain);
    let outcome = take(&session.shared, &packet.topic, payload, retain, expiry_left_s, packet.qos).await?;
    let (code, reason) = match outcome {
        Outcome::Settled(Verdict::Accepted | Verdict::Duplicate) => return Ok(publish.ack()),
        Outcome::Settled(Verdict::Rejected(rejection)) => (rejection_code(rejection), rejection.name()),
        Outcome::NotTaken => (PublishAckReason::ImplementationSpecificError, "shutting down"),
    };
    Ok(publish.ack().reason_code(code).reason(ByteString::from_static(reason)))
}

fn retain(flag: bool) -> Retain {
    if flag { Retain::Yes } else { Retain::No }
}

/// A message of QoS 0 is not waited for: nobody hears what became of it.
async fn take(
    shared: &Shared,
    topic: &str,
    payload: Payload,
    retain: Retain,
    expiry_left_s: Option<u32>,
    qos: QoS,
) -> Result<Outcome, Closed> {
    let payload = payload.read_all().await.map_err(|_| Closed)?;
    let (ack, verdict) = Ack::new();
    let message = Message {
        topic: topic.into(),
        payload: payload.as_ref().into(),
        retain,
        expiry_left_s,
        received_at: UnixMs::now(),
        ack,
    };
    shared.take(message, (qos != QoS::AtMostOnce).then_some(verdict)).await
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
