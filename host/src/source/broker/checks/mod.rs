//! What a live broker does with our kind of messages, for `rollcall doctor`. It leaves no session behind.

mod probe;
mod sessions;

use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, PubAckReason};

use self::probe::{ANSWER_TIMEOUT, Probe, acknowledged};
use super::link::{LinkError, Unreachable};
use super::options::{Options, SetupError};
use super::{BrokerAddress, BrokerSettings, RECEIVE_MAX, SESSION_EXPIRY_S};
use crate::ops::check::Check;

/// Below it are topics that no ingest subscribes to.
const TOPIC: &str = "rollcall/doctor";

/// Looks at each broker of `settings` and reports each finding at once: all of them take some ten seconds a broker.
///
/// # Errors
/// [`SetupError`]; what is wrong with a broker is reported.
pub async fn checks(settings: &BrokerSettings, mut report: impl FnMut(Check)) -> Result<(), SetupError> {
    for address in &settings.brokers {
        let ours = Options {
            client_id: format!("rollcall-doctor-{}", std::process::id()),
            receive_max: RECEIVE_MAX,
            ..Options::new(address, settings)?
        };
        check(address, &ours, &mut report).await;
    }
    Ok(())
}

async fn check(address: &BrokerAddress, ours: &Options, report: &mut impl FnMut(Check)) {
    let welcome = match Probe::connect(ours).await {
        Ok(probe) => probe.welcome,
        Err(error) => return report(unreachable(address, &error)),
    };
    report(Check::pass("broker reachable", address.to_string()));
    report(Check::pass("MQTT 5", "spoken"));
    report(maximum_qos(&welcome));
    report(session_expiry(&welcome));
    sessions::forget(ours.clone()).await;
    report(anonymous(ours).await);
    let mut publisher = match Probe::connect(&without_session(ours, "publisher")).await {
        Ok(publisher) => publisher,
        Err(error) => return report(unreachable(address, &error)),
    };
    report(no_subscriber(&mut publisher).await);
    report(sessions::waiting_time(ours, &mut publisher).await);
    sessions::outage(ours, &mut publisher).await.into_iter().for_each(&mut *report);
    report(sessions::redeliveries(ours, &mut publisher).await);
    report(sessions::queue_type(ours, &mut publisher).await);
}

fn unreachable(address: &BrokerAddress, error: &Unreachable) -> Check {
    let found = format!("{address}: {error}");
    let refusal = error.answers().find_map(|answer| match answer {
        LinkError::Refused(code) => Some(*code),
        _ => None,
    });
    match refusal {
        Some(ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion) => {
            Check::fail(
                "MQTT 5",
                found,
                "use a broker that speaks MQTT 5 (RabbitMQ from 3.13 on, mosquitto from 1.6 on)",
            )
        }
        Some(_) => Check::fail(
            "broker reachable",
            found,
            "check user and password; RabbitMQ's guest may log in over loopback only",
        ),
        None => Check::fail(
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

async fn anonymous(ours: &Options) -> Check {
    const NAME: &str = "anonymous access";
    let open = || {
        Check::warn(
            NAME,
            "everyone who can reach the broker may publish",
            "RabbitMQ: mqtt.allow_anonymous = false; mosquitto: allow_anonymous false, and give each device a password",
        )
    };
    if ours.credentials.is_none() {
        return open();
    }
    let nobody = Options { credentials: None, ..without_session(ours, "anonymous") };
    match Probe::connect(&nobody).await {
        Ok(_) => open(),
        Err(error) if error.answers().any(|answer| matches!(answer, LinkError::Refused(_))) => {
            Check::pass(NAME, "refused")
        }
        Err(error) => Check::pass(NAME, format!("refused ({error})")),
    }
}

/// A client that leaves nothing behind.
fn without_session(ours: &Options, name: &str) -> Options {
    Options {
        client_id: format!("{}-{name}", ours.client_id),
        clean_start: true,
        session_expiry_s: None,
        ..ours.clone()
    }
}

async fn no_subscriber(publisher: &mut Probe) -> Check {
    const NAME: &str = "publish to nobody";
    if !publisher.publish(1, &format!("{TOPIC}/nobody"), "x".to_owned(), None) {
        return Check::fail(NAME, "too much waits to be sent", "try again");
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
