//! What a live broker does with our kind of messages, for `rollcall doctor`. It leaves no session behind.

mod probe;
mod sessions;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, PubAckReason};
use rumqttc::v5::{ConnectionError, MqttOptions};

use self::probe::{ANSWER_TIMEOUT, Probe, acknowledged};
use super::options::{SetupError, options};
use super::{BrokerSettings, RECEIVE_MAX, SESSION_EXPIRY_S};
use crate::ops::check::Check;

/// Below it are topics that no ingest subscribes to.
const TOPIC: &str = "rollcall/doctor";

/// Looks at the broker of `settings` and reports each finding at once: all of them take some ten seconds.
///
/// # Errors
/// [`SetupError`]; what is wrong with the broker is reported.
pub async fn checks(settings: &BrokerSettings, mut report: impl FnMut(Check)) -> Result<(), SetupError> {
    let mut ours = options(settings)?;
    ours.set_client_id(format!("rollcall-doctor-{}", std::process::id()));
    ours.set_receive_maximum(Some(RECEIVE_MAX));
    let welcome = match Probe::new(ours.clone()).connect().await {
        Ok(welcome) => welcome,
        Err(error) => {
            report(unreachable(settings, &error));
            return Ok(());
        }
    };
    report(Check::pass("broker reachable", settings.address.to_string()));
    report(Check::pass("MQTT 5", "spoken"));
    report(maximum_qos(&welcome));
    report(session_expiry(&welcome));
    sessions::forget(ours.clone()).await;
    report(anonymous(settings, &ours).await);
    let mut publisher = Probe::new(without_session(&ours, "publisher"));
    if let Err(error) = publisher.connect().await {
        report(unreachable(settings, &error));
        return Ok(());
    }
    report(no_subscriber(&mut publisher).await);
    report(sessions::waiting_time(&ours, &mut publisher).await);
    sessions::outage(&ours, &mut publisher).await.into_iter().for_each(&mut report);
    report(sessions::redeliveries(&ours, &mut publisher).await);
    report(sessions::queue_type(&ours, &mut publisher).await);
    Ok(())
}

fn unreachable(settings: &BrokerSettings, error: &ConnectionError) -> Check {
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

async fn anonymous(settings: &BrokerSettings, ours: &MqttOptions) -> Check {
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
    let mut anonymous =
        BrokerSettings { client_id: format!("{}-anonymous", ours.client_id()), ..settings.clone() };
    anonymous.address = anonymous.address.without_credentials();
    let Ok(mut options) = options(&anonymous) else { return open() };
    options.set_clean_start(true).set_session_expiry_interval(None);
    match Probe::new(options).connect().await {
        Ok(_) => open(),
        Err(ConnectionError::ConnectionRefused(_)) => Check::pass(NAME, "refused"),
        Err(error) => Check::pass(NAME, format!("refused ({error})")),
    }
}

/// A client that leaves nothing behind.
fn without_session(ours: &MqttOptions, name: &str) -> MqttOptions {
    let mut options = ours.clone();
    options.set_client_id(format!("{}-{name}", ours.client_id()));
    options.set_clean_start(true).set_session_expiry_interval(None);
    options
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
