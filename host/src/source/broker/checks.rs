//! What a live broker does with our kind of messages, for `rollcall doctor`. It leaves no session behind.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Packet, PubAckReason, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};

use super::options::{SetupError, options};
use super::{RECEIVE_MAX, REQUESTS_BESIDE_ACKS, SESSION_EXPIRY_S, Settings};
use crate::checkup::Check;

/// A broker that answers later is not of much use.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing more is delivered when nothing came for so long.
const QUIET: Duration = Duration::from_millis(700);

/// What an ingest of tens of thousands of messages a second needs unacknowledged.
const PREFETCH_ENOUGH: usize = 1000;

/// How long a message waits in the broker to see whether the waiting is told.
const WAIT: Duration = Duration::from_secs(2);

/// A topic that no ingest subscribes to.
const TOPIC: &str = "rollcall/doctor";

/// Looks at the broker of `settings`.
///
/// # Errors
/// [`SetupError`]; what ails the broker is in the checks.
pub async fn checks(settings: &Settings) -> Result<Vec<Check>, SetupError> {
    let id = format!("rollcall-doctor-{}", std::process::id());
    let mut ours = options(settings)?;
    ours.set_client_id(id.clone()).set_receive_maximum(Some(RECEIVE_MAX));
    let mut probe = Probe::new(ours.clone());
    let welcome = match probe.connect().await {
        Ok(welcome) => welcome,
        Err(error) => return Ok(vec![unreachable(settings, &error)]),
    };
    let mut checks = vec![
        Check::pass("broker reachable", settings.address.to_string()),
        Check::pass("MQTT 5", "spoken"),
        maximum_qos(&welcome),
        session_expiry(&welcome),
    ];
    checks.push(anonymous(settings, &ours).await);
    let mut publisher = publisher(&ours);
    if let Err(error) = publisher.connect().await {
        checks.push(unreachable(settings, &error));
        return Ok(checks);
    }
    checks.push(no_subscriber(&mut publisher).await);
    let (mut probe, waiting) = waiting_time(probe, &ours, &mut publisher).await;
    checks.push(waiting);
    checks.push(prefetch(&mut probe, &mut publisher).await);
    drop(probe);
    checks.push(Check::pass(
        "durable queue type",
        "not told over MQTT; in a cluster: mqtt.durable_queue_type = quorum, before the first ingest connects \
         (rabbitmqctl list_queues name type)",
    ));
    forget(ours).await;
    Ok(checks)
}

fn unreachable(settings: &Settings, error: &ConnectionError) -> Check {
    let found = format!("{}: {error}", settings.address);
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion,
        ) => Check::fail(
            "MQTT 5",
            found,
            "use a broker that speaks MQTT 5 (RabbitMQ from 3.13 on, mosquitto from 1.6 on)",
        ),
        ConnectionError::ConnectionRefused(_) => Check::fail(
            "broker reachable",
            found,
            "check user and password; RabbitMQ's guest may log in over loopback only",
        ),
        _ => Check::fail(
            "broker reachable",
            found,
            "is it running, is its MQTT plugin enabled (rabbitmq-plugins enable rabbitmq_mqtt), is the port right?",
        ),
    }
}

fn maximum_qos(welcome: &ConnAck) -> Check {
    const NAME: &str = "maximum QoS";
    match welcome.properties.as_ref().and_then(|properties| properties.max_qos) {
        Some(0) => Check::fail(NAME, "0", "without QoS 1 nothing is acknowledged: allow it in the broker"),
        Some(qos) => Check::pass(NAME, format!("{qos}; Rollcall uses 1")),
        None => Check::pass(NAME, "2; Rollcall uses 1"),
    }
}

fn session_expiry(welcome: &ConnAck) -> Check {
    const NAME: &str = "session expiry";
    match welcome.properties.as_ref().and_then(|properties| properties.session_expiry_interval) {
        Some(seconds) if seconds < SESSION_EXPIRY_S => Check::warn(
            NAME,
            format!("{seconds} s at most: an ingest that is away longer loses its queue"),
            format!("RabbitMQ: mqtt.max_session_expiry_interval_seconds = {SESSION_EXPIRY_S}"),
        ),
        _ => Check::pass(NAME, format!("{} days", SESSION_EXPIRY_S / 86_400)),
    }
}

async fn anonymous(settings: &Settings, ours: &MqttOptions) -> Check {
    const NAME: &str = "anonymous access";
    let open = || {
        Check::warn(
            NAME,
            "everyone who can reach the broker may publish",
            "RabbitMQ: mqtt.allow_anonymous = false; mosquitto: allow_anonymous false, and give each device a password",
        )
    };
    if !settings.address.has_credentials() {
        return open();
    }
    let mut anonymous = Settings { client_id: format!("{}-anonymous", ours.client_id()), ..settings.clone() };
    anonymous.address = anonymous.address.without_credentials();
    let Ok(mut options) = options(&anonymous) else { return open() };
    options.set_clean_start(true).set_session_expiry_interval(None);
    match Probe::new(options).connect().await {
        Ok(_) => open(),
        Err(ConnectionError::ConnectionRefused(_)) => Check::pass(NAME, "refused"),
        Err(error) => Check::pass(NAME, format!("refused ({error})")),
    }
}

/// A second client, without a session.
fn publisher(ours: &MqttOptions) -> Probe {
    let mut options = ours.clone();
    options.set_client_id(format!("{}-publisher", ours.client_id()));
    options.set_clean_start(true).set_session_expiry_interval(None);
    Probe::new(options)
}

async fn no_subscriber(publisher: &mut Probe) -> Check {
    const NAME: &str = "publish to nobody";
    let sent = publisher.client.try_publish(format!("{TOPIC}/nobody"), QoS::AtLeastOnce, false, "x");
    if let Err(error) = sent {
        return Check::fail(NAME, error.to_string(), "try again");
    }
    match publisher.wait(ANSWER_TIMEOUT, acknowledged).await {
        Some(PubAckReason::NoMatchingSubscribers) => {
            Check::pass(NAME, "answered with 0x10: devices keep the sample and send it again")
        }
        Some(PubAckReason::Success) => Check::warn(
            NAME,
            "acknowledged, though stored nowhere",
            "connect the ingest once before the first device, so that its queue is there",
        ),
        Some(reason) => Check::warn(NAME, format!("refused: {reason:?}"), "let our user write to rollcall/#"),
        None => Check::fail(NAME, "no answer", "is the broker blocking publishers (disk or memory alarm)?"),
    }
}

/// The Message Expiry Interval has to come back less the time that a message waited (MQTT 5, section 3.3.2.3.3).
async fn waiting_time(mut probe: Probe, ours: &MqttOptions, publisher: &mut Probe) -> (Probe, Check) {
    const NAME: &str = "waiting time";
    let topic = format!("{TOPIC}/waiting");
    if !probe.subscribe(&topic).await {
        return (probe, Check::fail(NAME, "may not subscribe", "let our user read rollcall/#"));
    }
    // Without a farewell: the session stays, and the broker has to keep what comes.
    drop(probe);
    let expiry =
        PublishProperties { message_expiry_interval: Some(SESSION_EXPIRY_S), ..PublishProperties::default() };
    let sent = publisher.client.try_publish_with_properties(&topic, QoS::AtLeastOnce, false, "x", expiry);
    let stored = match sent {
        Ok(()) => publisher.wait(ANSWER_TIMEOUT, acknowledged).await.is_some(),
        Err(_) => false,
    };
    tokio::time::sleep(WAIT).await;
    let mut probe = Probe::new(ours.clone());
    if !stored || probe.connect().await.is_err() {
        return (
            probe,
            Check::fail(NAME, "the broker takes no message for a session that is away", "try again"),
        );
    }
    let left = probe.wait(ANSWER_TIMEOUT, |packet| match packet {
        Packet::Publish(publish) => {
            Some(publish.properties.and_then(|properties| properties.message_expiry_interval))
        }
        _ => None,
    });
    let check = match left.await {
        Some(Some(left)) if left < SESSION_EXPIRY_S => {
            Check::pass(NAME, "told by the Message Expiry Interval")
        }
        Some(_) => Check::fail(
            NAME,
            "not told: after an outage of the ingest, samples are counted when they arrive",
            "use a broker that counts the Message Expiry Interval down",
        ),
        None => Check::fail(
            NAME,
            "a message for a session that was away did not come",
            "use a broker with durable sessions; mosquitto: persistence true",
        ),
    };
    (probe, check)
}

/// CONNACK does not tell how many unacknowledged messages the broker delivers, so they are counted.
async fn prefetch(probe: &mut Probe, publisher: &mut Probe) -> Check {
    const NAME: &str = "prefetch";
    let topic = format!("{TOPIC}/prefetch");
    if !probe.subscribe(&topic).await {
        return Check::fail(NAME, "may not subscribe", "let our user read rollcall/#");
    }
    for _ in 0..PREFETCH_ENOUGH {
        if publisher.client.try_publish(&topic, QoS::AtLeastOnce, false, "x").is_err() {
            return Check::fail(NAME, "may not publish", "let our user write to rollcall/#");
        }
    }
    for _ in 0..PREFETCH_ENOUGH {
        if publisher.wait(ANSWER_TIMEOUT, acknowledged).await.is_none() {
            return Check::fail(NAME, "the broker stopped to acknowledge", "is a disk or memory alarm on?");
        }
    }
    // The message that waited is not acknowledged either.
    let mut delivered = 1;
    while let Some(event) = probe.next(QUIET).await {
        delivered += usize::from(matches!(event, Event::Incoming(Packet::Publish(_))));
    }
    match delivered {
        PREFETCH_ENOUGH.. => Check::pass(NAME, format!("{PREFETCH_ENOUGH} or more")),
        few => Check::warn(
            NAME,
            format!("{few}: with commits of 20 ms, {} messages a second at most", few * 50),
            format!(
                "RabbitMQ: mqtt.prefetch = {PREFETCH_ENOUGH}; mosquitto: max_inflight_messages {PREFETCH_ENOUGH}"
            ),
        ),
    }
}

fn acknowledged(packet: Packet) -> Option<PubAckReason> {
    match packet {
        Packet::PubAck(ack) => Some(ack.reason),
        _ => None,
    }
}

/// Ends the session of `options`, and what the broker kept for it.
async fn forget(mut options: MqttOptions) {
    options.set_clean_start(true).set_session_expiry_interval(None);
    let mut probe = Probe::new(options);
    if probe.connect().await.is_ok() && probe.client.try_disconnect().is_ok() {
        // Until the broker closes.
        while probe.next(QUIET).await.is_some() {}
    }
}

/// A connection that is driven by hand.
struct Probe {
    client: AsyncClient,
    events: EventLoop,
}

impl Probe {
    fn new(options: MqttOptions) -> Self {
        let (client, events) = AsyncClient::new(options, PREFETCH_ENOUGH + REQUESTS_BESIDE_ACKS);
        Self { client, events }
    }

    async fn connect(&mut self) -> Result<ConnAck, ConnectionError> {
        loop {
            if let Event::Incoming(Packet::ConnAck(welcome)) = self.events.poll().await? {
                return Ok(welcome);
            }
        }
    }

    /// The next event; `None` when nothing comes or the connection ends.
    async fn next(&mut self, limit: Duration) -> Option<Event> {
        tokio::time::timeout(limit, self.events.poll()).await.ok()?.ok()
    }

    /// The first packet that `pick` takes.
    async fn wait<T>(&mut self, limit: Duration, pick: impl Fn(Packet) -> Option<T>) -> Option<T> {
        loop {
            if let Event::Incoming(packet) = self.next(limit).await?
                && let Some(picked) = pick(packet)
            {
                return Some(picked);
            }
        }
    }

    async fn subscribe(&mut self, topic: &str) -> bool {
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
