//! `GET /metrics`, read by a parser that is not ours: what was sent is found in its numbers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/host.rs"]
mod host;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use host::{Host, Open, PATIENCE, bound_with, wait};
use prometheus_parse::{Scrape, Value};
use rollcall_harness::mqtt::{Client, PUBACK, Version, publish, publish_with};
use rollcall_host::api::{Api, router};
use rollcall_host::log::{Fault, LogStore, MemoryStore};
use rollcall_host::ops::{Ops, Part, Refused};
use rollcall_host::source::Credentials;
use rollcall_wire::codec::{MESSAGE_EXPIRY_S, Rejection};
use rollcall_wire::{DeviceId, Kind, Topic};
use tokio::sync::mpsc;
use tower::ServiceExt;

fn topic() -> String {
    Topic { device: DeviceId::new("sim-0").unwrap(), kind: Kind::Status }.name().to_string()
}

fn sample(boot: u64, seq: u64) -> Vec<u8> {
    format!(r#"{{"status":3,"seq":{seq},"boot":"{boot:016x}","age_ms":0}}"#).into_bytes()
}

/// Asks as Prometheus does: every number by its name and labels; of a histogram, how many it holds.
async fn scrape<S: LogStore>(store: Arc<S>, ops: Arc<Ops>) -> BTreeMap<String, f64> {
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let response = router(Api { store, ops, issued: None }).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let body = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let samples = Scrape::parse(lines).unwrap().samples.into_iter().map(|sample| {
        assert!(sample.metric.starts_with("rollcall_"), "{}", sample.metric);
        let labels = sample.labels.to_string();
        let name = if labels.is_empty() { sample.metric } else { format!("{}{{{labels}}}", sample.metric) };
        let value = match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            Value::Histogram(buckets) => buckets.last().unwrap().count,
            Value::Summary(_) => panic!("{name} is a summary"),
        };
        (name, value)
    });
    let scraped: BTreeMap<_, _> = samples.collect();
    // Each line that is no comment is one number, or a bucket of one.
    let written = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{")).count();
    let histograms = text.lines().filter(|line| line.ends_with(" histogram")).count();
    assert_eq!(scraped.len(), written + histograms, "some of it cannot be read:\n{text}");
    scraped
}

fn scrape_host(host: &Host) -> BTreeMap<String, f64> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(scrape(host.store.clone(), host.ops.clone()))
}

/// The sum over all labels.
fn sum(scraped: &BTreeMap<String, f64>, name: &str) -> f64 {
    let all = scraped.iter().filter(|(of, _)| of.split('{').next() == Some(name));
    let values: Vec<_> = all.map(|(_, value)| *value).collect();
    assert!(!values.is_empty(), "there is no {name} in {scraped:?}");
    values.iter().sum()
}

#[test]
fn every_message_is_found_in_exactly_one_number() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    let mut send = |topic: &str, payload: &[u8]| {
        let puback = client.publish(topic, payload).unwrap();
        assert_eq!(puback.kind(), PUBACK);
        puback.reason()
    };
    let (mut sent, mut refused) = (0, 0);
    for seq in 0..50 {
        assert_eq!(send(&topic(), &sample(1, seq)), 0);
        sent += 1;
    }
    for seq in 20..30 {
        assert_eq!(send(&topic(), &sample(1, seq)), 0);
        sent += 1;
    }
    let bad: &[(&str, &[u8])] = &[
        (&topic(), b"nonsense"),
        (&topic(), b""),
        (&topic(), br#"{"status":7}"#),
        (&topic(), br#"{"status":8}"#),
        ("rollcall/f/sim-0/status", br#"{"status":3}"#),
    ];
    for (topic, payload) in bad {
        assert_ne!(send(topic, payload), 0);
        (sent, refused) = (sent + 1, refused + 1);
    }
    // So many boots that the first is closed.
    for boot in 2..30 {
        assert_eq!(send(&topic(), &sample(boot, 0)), 0);
        sent += 1;
    }
    assert_eq!(send(&topic(), &sample(1, 60)), 0x99);
    assert_eq!(send(&topic().replace("/status", "/presence"), b"online"), 0);
    (sent, refused) = (sent + 2, refused + 1);

    // An acknowledgement may overtake the end of its flush.
    wait(&host.ops, &format!("rollcall_flush_duration_seconds_count {sent}"));
    let scraped = scrape_host(&host);
    let of = |name: &str| sum(&scraped, &format!("rollcall_messages_{name}_total"));
    assert_eq!(of("received"), f64::from(sent));
    assert_eq!((of("accepted"), of("duplicate"), of("presence")), (50.0 + 28.0, 10.0, 1.0));
    assert_eq!((of("rejected"), of("dropped")), (f64::from(refused), 0.0));
    assert_eq!(of("accepted") + of("duplicate") + of("presence") + of("rejected"), f64::from(sent));
    for (rejection, count) in [
        (Rejection::BadJson, 1.0),
        (Rejection::StatusOutOfRange, 2.0),
        (Rejection::WrongSlot, 1.0),
        (Rejection::CannotTell, 1.0),
        (Rejection::Retained, 0.0),
    ] {
        let name = format!("rollcall_messages_rejected_total{{reason=\"{}\"}}", rejection.name());
        assert_eq!(scraped[&name], count, "{name}");
    }
    assert_eq!(sum(&scraped, "rollcall_messages_in_flight"), 0.0);
    assert_eq!(sum(&scraped, "rollcall_flush_messages"), f64::from(sent), "one flush each, sent one by one");
    assert_eq!(sum(&scraped, "rollcall_flush_duration_seconds"), f64::from(sent));
    assert!(sum(&scraped, "rollcall_entries_beyond_windows") > 0.0);
    assert_eq!(sum(&scraped, "rollcall_connections_open"), 1.0);
    assert_eq!(scraped["rollcall_part_healthy{part=\"source\"}"], 1.0);
    assert_eq!(sum(&scraped, "rollcall_ready"), 1.0);
    let version = concat!("rollcall_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(scraped[version], 1.0);
    assert_eq!(host.finish().len(), 50 + 28);
}

#[test]
fn the_time_that_a_message_waited_in_a_broker_is_shown() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    client.send(&publish(Version::V5, 1, &topic(), &sample(1, 0), Some(MESSAGE_EXPIRY_S - 90)));
    assert_eq!(client.receive().unwrap().reason(), 0);
    assert_eq!(sum(&scrape_host(&host), "rollcall_source_wait_seconds"), 90.0);
    // Of a bare message nothing is known.
    client.send(&publish(Version::V5, 1, &topic(), br#"{"status":3}"#, Some(60)));
    assert_eq!(client.receive().unwrap().reason(), 0);
    assert_eq!(sum(&scrape_host(&host), "rollcall_source_wait_seconds"), 90.0);
}

/// What a client does wrong, over a connection that is welcome.
fn misbehave(address: SocketAddr, packets: &[Vec<u8>]) {
    let mut client = Client::connect(address, Version::V5);
    packets.iter().for_each(|packet| client.send(packet));
    client.leave();
}

#[test]
fn each_refusal_of_the_gateway_moves_the_number_of_its_name_and_no_other() {
    let ops = Arc::new(Ops::default());
    let credentials = Some(Credentials { user: "fleet".into(), password: "secret".into() });
    let (inbox, mut messages) = mpsc::channel(1_000);
    let closed = Open::new(bound_with(credentials, inbox.clone(), ops.clone()));
    let open = Open::new(bound_with(None, inbox.clone(), ops.clone()));
    let starting = bound_with(None, inbox, ops.clone());
    let at = open.address();
    let good = |id| publish(Version::V5, id, &topic(), &sample(1, u64::from(id)), None);
    let connect = |rest: &[u8]| [&[0x10, rest.len() as u8][..], rest].concat();
    let raw = |bytes: &[u8]| {
        let mut client = Client::raw(at, Version::V5);
        client.send(bytes);
        client.leave();
    };

    let mut expected = BTreeMap::from(Refused::ALL.map(|refused| (refused.name(), 0_u64)));
    let mut check = |refused: Refused| {
        *expected.get_mut(refused.name()).unwrap() += 1;
        for (reason, count) in &expected {
            wait(&ops, &format!("rollcall_gateway_refusals_total{{reason=\"{reason}\"}} {count}"));
        }
    };
    let guess = || Client::hello(closed.address(), Version::V5, "test", Some(("fleet", "wrong")));
    let mut guesses = Vec::new();
    for _ in 0..10 {
        guesses.push(guess());
        check(Refused::BadUserNameOrPassword);
    }
    guesses.push(guess());
    check(Refused::TooManyFailedLogins);
    let method = [0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 4, 0x15, 0, 1, b'x', 0, 0];
    raw(&connect(&method));
    check(Refused::BadAuthenticationMethod);
    Client::hello(starting.address(), Version::V311, "test", None).leave();
    check(Refused::ServerUnavailable);
    raw(&connect(&[0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 60, 0, 0]));
    check(Refused::UnsupportedProtocolVersion);
    raw(&[0xc0, 0]);
    check(Refused::NoConnect);
    raw(&connect(&[0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 60, 0, 0]));
    check(Refused::IdentifierRejected);
    let [_first, _second] = [(), ()].map(|()| Client::hello(at, Version::V5, "of both", None));
    check(Refused::SessionTakenOver);
    misbehave(at, &[vec![0x30, 4, 0, 200, 0, 0]]);
    check(Refused::MalformedPacket);
    misbehave(at, &[vec![0x30, 0xff, 0xff, 0x7f]]);
    check(Refused::PacketTooLarge);
    misbehave(at, &[connect(&[0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0])]);
    check(Refused::ProtocolError);
    misbehave(at, &vec![vec![0xc0, 0]; 101]);
    check(Refused::PacketRate);
    misbehave(at, &[publish(Version::V5, 1, "rollcall/#", b"", None)]);
    check(Refused::TopicNameInvalid);
    misbehave(at, &[vec![0x30, 7, 0, 1, b't', 3, 0x23, 0, 33]]);
    check(Refused::TopicAliasInvalid);
    misbehave(at, &[publish_with(Version::V5, 0x34, Some(1), &topic(), b"", None)]);
    check(Refused::QosNotSupported);
    Client::connect(at, Version::V5).subscribe("rollcall/#");
    check(Refused::Subscription);
    misbehave(at, &(1..=257).map(good).collect::<Vec<_>>());
    check(Refused::ReceiveMaximumExceeded);
    let mut client = Client::connect(at, Version::V5);
    client.send(&[good(1), good(1)].concat());
    check(Refused::PacketIdInUse);
    while messages.try_recv().is_ok() {}
    // What the ingest loop drops unsettled: the connection of the packet id above ends with it.
    check(Refused::NotStored);
    let mut silent = Client::raw(at, Version::V5);
    silent.send(&connect(&[0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 1, 0, 0, 0]));
    check(Refused::KeepAliveTimeout);
}

#[test]
fn what_a_client_had_sent_that_left_while_the_store_was_away_is_counted_as_dropped() {
    let ops = Arc::new(Ops::default());
    let (inbox, _messages) = mpsc::channel(1);
    let gateway = Open::new(bound_with(None, inbox, ops.clone()));
    let mut client = Client::connect(gateway.address(), Version::V5);
    // The inbox takes the first; the second waits for it, and the third is behind that one.
    for seq in 0..3 {
        client.send(&publish_with(Version::V5, 0x30, None, &topic(), &sample(1, seq), None));
    }
    drop(client);
    wait(&ops, "rollcall_messages_dropped_total{reason=\"client_left\"} 2");
    wait(&ops, "rollcall_messages_received_total 3");
    wait(&ops, "rollcall_connections_open 0");
    wait(&ops, "rollcall_connections_total 1");
}

#[test]
fn an_outage_of_the_store_is_counted_with_its_time() {
    let host = Host::start();
    let mut client = Client::connect(host.address(), Version::V5);
    host.store.inject(Fault::Refuse);
    client.send(&publish(Version::V5, 1, &topic(), &sample(1, 0), None));
    wait(&host.ops, "rollcall_part_healthy{part=\"store\"} 0");
    assert_eq!(client.receive().unwrap().reason(), 0);
    let scraped = scrape_host(&host);
    assert_eq!(sum(&scraped, "rollcall_store_outages_total"), 1.0);
    let seconds = sum(&scraped, "rollcall_store_outage_seconds_total");
    assert!((0.1..PATIENCE.as_secs_f64()).contains(&seconds), "{seconds}");
    assert_eq!(scraped["rollcall_part_healthy{part=\"store\"}"], 1.0);
}

#[tokio::test]
async fn metrics_are_there_before_the_store_is_and_say_that_the_process_is_not_ready() {
    let store = Arc::new(MemoryStore::default());
    let ops = Arc::new(Ops::starting(&[Part::Store, Part::Source]));
    let scraped = scrape(store.clone(), ops.clone()).await;
    assert_eq!((sum(&scraped, "rollcall_ready"), sum(&scraped, "rollcall_part_healthy")), (0.0, 0.0));
    ops.healthy(Part::Store);
    ops.healthy(Part::Source);
    let scraped = scrape(store, ops).await;
    assert_eq!((sum(&scraped, "rollcall_ready"), sum(&scraped, "rollcall_part_healthy")), (1.0, 2.0));
}
