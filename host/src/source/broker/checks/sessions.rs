//! What the broker keeps for a session whose client is away, and hands on when it is back.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};

use super::TOPIC;
use super::probe::{ANSWER_TIMEOUT, Probe, QUIET, acknowledged};
use crate::ops::check::Check;
use crate::source::broker::SESSION_EXPIRY_S;
use crate::source::broker::options::Options;

/// How long a message waits in the broker to see whether the waiting time arrives.
const WAIT: Duration = Duration::from_secs(2);

/// What an ingest of tens of thousands of messages a second needs unacknowledged.
const PREFETCH_ENOUGH: usize = 1000;

/// More than mosquitto keeps by default for a session that is away (1,000), with what is in flight.
const OUTAGE: usize = 2500;

/// More than a quorum queue of RabbitMQ 4 allows by default (20).
const REDELIVERIES: usize = 25;

/// A broker that is busy gives the next message away before it knows that the taker of the first has died; not each time.
const QUEUE_ROUNDS: usize = 4;

/// A session with one subscription, whose client is away.
struct Session {
    options: Options,
    topic: String,
}

impl Session {
    /// `None` when it may not be, or may not subscribe.
    async fn new(ours: &Options, name: &str) -> Option<Self> {
        let options = Options { client_id: format!("{}-{name}", ours.client_id), ..ours.clone() };
        let topic = format!("{TOPIC}/{name}");
        let mut probe = Probe::connect(&options).await.ok()?;
        // The link ends without a goodbye: the session stays, and the broker has to keep what comes.
        probe.subscribe(&topic).await.then_some(Self { options, topic })
    }

    /// Publishes so many messages, their number their payload, to the session; whether each was acknowledged.
    async fn publish(&self, publisher: &mut Probe, count: usize) -> bool {
        let expiry = PublishProperties {
            message_expiry_interval: Some(SESSION_EXPIRY_S),
            ..PublishProperties::default()
        };
        let mut numbers = 0..count;
        loop {
            let mut sent = 0;
            for (packet_id, number) in (1..=publisher.publish_max()).zip(numbers.by_ref()) {
                if !publisher.publish(packet_id, &self.topic, number.to_string(), Some(expiry.clone())) {
                    return false;
                }
                sent = packet_id;
            }
            if sent == 0 {
                return true;
            }
            for _ in 0..sent {
                if publisher.wait(ANSWER_TIMEOUT, acknowledged).await.is_none() {
                    return false;
                }
            }
        }
    }

    /// Its client comes back.
    async fn resume(&self) -> Option<Probe> {
        Probe::connect(&self.options).await.ok()
    }

    /// Its client comes back, takes so many messages at most, and dies; the first that it was given.
    async fn take_and_die(&self, most: u16) -> Option<Publish> {
        let options = Options { receive_max: most, ..self.options.clone() };
        let mut probe = Probe::connect(&options).await.ok()?;
        let first = probe.wait(ANSWER_TIMEOUT, publish).await?;
        for _ in 1..most {
            probe.wait(ANSWER_TIMEOUT, publish).await?;
        }
        Some(first)
    }
}

/// Ends the session of `options`, and what the broker kept for it.
pub(super) async fn forget(options: Options) {
    let options = Options { clean_start: true, session_expiry_s: None, ..options };
    let Ok(mut probe) = Probe::connect(&options).await else { return };
    if probe.leave() {
        // Until the broker closes.
        while probe.next(QUIET).await.is_some() {}
    }
}

/// Publishes `count` messages to a new session that is away, and looks at what becomes of them.
async fn with_session<T>(
    ours: &Options,
    publisher: &mut Probe,
    (name, count): (&'static str, usize),
    look: impl AsyncFnOnce(&Session) -> T,
) -> Result<T, Check> {
    let Some(session) = Session::new(ours, &name.replace(' ', "-")).await else {
        return Err(Check::fail(name, "may not subscribe", "let our user read rollcall/#"));
    };
    let outcome = if session.publish(publisher, count).await {
        Ok(look(&session).await)
    } else {
        let remedy = "let our user write to rollcall/#; is a disk or memory alarm on?";
        Err(Check::fail(name, "the broker takes no messages for a session that is away", remedy))
    };
    forget(session.options).await;
    outcome
}

/// The Message Expiry Interval has to come back less the time that a message waited (MQTT 5, section 3.3.2.3.3).
pub(super) async fn waiting_time(ours: &Options, publisher: &mut Probe) -> Check {
    const NAME: &str = "waiting time";
    let look = async |session: &Session| {
        tokio::time::sleep(WAIT).await;
        let taken = session.take_and_die(1).await;
        let left = taken.map(|publish| publish.properties.and_then(|of| of.message_expiry_interval));
        match left {
            Some(Some(left)) if left < SESSION_EXPIRY_S => {
                Check::pass(NAME, "known by the Message Expiry Interval")
            }
            Some(_) => Check::fail(
                NAME,
                "not known: after an outage of the ingest, samples are counted when they arrive",
                "use a broker that counts the Message Expiry Interval down",
            ),
            None => Check::fail(
                NAME,
                "a message for a session that was away did not come",
                "use a broker with durable sessions; mosquitto: persistence true",
            ),
        }
    };
    with_session(ours, publisher, (NAME, 1), look).await.unwrap_or_else(|check| check)
}

/// How many messages are delivered before one is acknowledged, which CONNACK does not state; and whether all
/// that were acknowledged to their publisher come in the end.
pub(super) async fn outage(ours: &Options, publisher: &mut Probe) -> Vec<Check> {
    const NAME: &str = "outage of the ingest";
    let look = async |session: &Session| {
        let mut probe = session.resume().await?;
        let mut delivered = Vec::new();
        while let Some(packet) = probe.next(QUIET).await {
            if let Packet::Publish(publish) = packet {
                delivered.push(publish);
            }
        }
        let unacknowledged = delivered.len();
        Some((unacknowledged, unacknowledged + acknowledge(&mut probe, delivered).await))
    };
    match with_session(ours, publisher, (NAME, OUTAGE), look).await {
        Ok(Some((unacknowledged, kept))) => vec![prefetch(unacknowledged), queue(NAME, kept)],
        Ok(None) => vec![Check::fail(NAME, "the session could not be resumed", "try again")],
        Err(check) => vec![check],
    }
}

/// Acknowledges `delivered` and what comes then; how many came.
async fn acknowledge(probe: &mut Probe, mut delivered: Vec<Publish>) -> usize {
    let mut came = 0;
    loop {
        // What finds no room among the requests has its turn when some were sent.
        delivered.retain(|publish| !probe.acknowledge(publish));
        match probe.next(QUIET).await {
            Some(Packet::Publish(publish)) => {
                came += 1;
                delivered.push(publish);
            }
            Some(_) => {}
            None => return came,
        }
    }
}

fn prefetch(delivered: usize) -> Check {
    const NAME: &str = "prefetch";
    match delivered {
        PREFETCH_ENOUGH.. => Check::pass(NAME, format!("{PREFETCH_ENOUGH} or more")),
        few => Check::warn(
            NAME,
            format!("{few}: with commits of 20 ms, {} messages a second at most", few * 50),
            format!("RabbitMQ: mqtt.prefetch = {PREFETCH_ENOUGH}"),
        ),
    }
}

fn queue(name: &'static str, kept: usize) -> Check {
    if kept >= OUTAGE {
        return Check::pass(name, format!("{OUTAGE} messages were kept for it"));
    }
    Check::fail(
        name,
        format!("of {OUTAGE} acknowledged messages {} were thrown away", OUTAGE - kept),
        "mosquitto: max_queued_messages 0; RabbitMQ: no max-length in a policy for its queue",
    )
}

/// An ingest that dies before it acknowledges gets the same messages again and again.
pub(super) async fn redeliveries(ours: &Options, publisher: &mut Probe) -> Check {
    const NAME: &str = "redeliveries";
    let look = async |session: &Session| {
        for redelivery in 0..=REDELIVERIES {
            if session.take_and_die(1).await.is_none() {
                return Some(redelivery);
            }
        }
        None
    };
    match with_session(ours, publisher, (NAME, 1), look).await {
        Ok(None) => Check::pass(NAME, format!("{REDELIVERIES} and more")),
        Ok(Some(redelivery)) => Check::fail(
            NAME,
            format!("a message is thrown away at redelivery {redelivery}: a quorum queue's delivery limit"),
            "rabbitmqctl set_operator_policy rollcall '^mqtt-subscription-' '{\"delivery-limit\":2000000000}'",
        ),
        Err(check) => check,
    }
}

/// Where a message is when its taker has died, which distinguishes a quorum queue: it puts the message
/// behind the others that were taken and given back, and a classic queue puts it where it was (seen with
/// RabbitMQ 4.0).
pub(super) async fn queue_type(ours: &Options, publisher: &mut Probe) -> Check {
    const NAME: &str = "durable queue type";
    let look = async |session: &Session| {
        session.take_and_die(2).await?;
        for _ in 0..QUEUE_ROUNDS {
            let (first, second) = (session.take_and_die(1).await?, session.take_and_die(1).await?);
            if first.payload == second.payload {
                return Some(false);
            }
        }
        Some(true)
    };
    match with_session(ours, publisher, (NAME, 2), look).await {
        Ok(Some(true)) => Check::pass(NAME, "quorum: what is queued outlives a node of the cluster"),
        Ok(Some(false)) => Check::warn(
            NAME,
            "not quorum: what is queued is as safe as its node",
            "in a cluster of RabbitMQ: mqtt.durable_queue_type = quorum, before the first ingest connects",
        ),
        Ok(None) => Check::fail(NAME, "a message for a session that was away did not come", "try again"),
        Err(check) => check,
    }
}

fn publish(packet: Packet) -> Option<Publish> {
    match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    }
}
