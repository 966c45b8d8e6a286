//! Other people's programs read what is stored and publish what is counted; and nobody reads a password.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::host::{END_OF_TIME, HostProcess, Role};
use rollcall_harness::process::Process;
use rollcall_harness::services::{PASSWORD, Rabbitmq, RabbitmqNode, USER};
use rollcall_harness::{ports, skip, tools, wait};
use rustix::process::Signal;
use serde_json::Value;

use crate::setup::{TestSystem, settle, wait_for_flow};

const COUNT_LIMIT: Duration = Duration::from_secs(20);

/// An attempt to connect that is under way is waited for.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Counts by status in the view `messages`, from a second to before another, as a person would.
const AGGREGATE: &str = "
import sys, json, datetime, pymongo
url, start, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
messages = pymongo.MongoClient(url).get_default_database().messages
moment = lambda second: datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
groups = messages.aggregate([
    {'$match': {'sampled_at': {'$gte': moment(start), '$lt': moment(end)}}},
    {'$group': {'_id': '$status', 'count': {'$sum': 1}}},
])
counts = [0] * 7
for group in groups:
    counts[group['_id']] = group['count']
one = messages.find_one()
print(json.dumps({'counts': counts, 'fields': sorted(one), 'all': messages.count_documents({}),
    'distinct': len(list(messages.aggregate([
        {'$group': {'_id': {'device': '$device', 'boot': '$boot', 'seq': '$seq'}}}])))}))
";

#[test]
fn pymongo_counts_the_messages_view_as_status_count_does() -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let url = mongod.url("rollcall");
    let _ingest = HostProcess::start(&system.host("ingest", Role::Ingest, &rabbitmq.url(), &url)?)?;
    let api = HostProcess::start(&system.host("api", Role::Api, "", &url)?)?;
    let mut fleet = system.fleet(&rabbitmq.address())?;
    for _ in 0..4 {
        wait_for_flow(&api, &mut fleet)?;
    }
    let (_, all) = settle(fleet, &api)?;
    let end = END_OF_TIME;
    let middle = (0..40).fold((0, end), |(low, high), _| {
        let middle = low + (high - low) / 2;
        let below = api.counts(0, middle).map_or(0, |counts| counts.total());
        if below < all.total() / 2 { (middle, high) } else { (low, middle) }
    });
    for (start, end) in [(0, end), (0, middle.1), (middle.1, end)] {
        let counted = api.counts(start, end)?;
        let seen = pymongo(&url, start, end)?;
        assert_eq!(StatusCounts::from_array(&seen["counts"])?, counted, "from {start} to {end}");
        assert_eq!(seen["all"].as_u64(), Some(all.total()));
        assert_eq!(seen["distinct"], seen["all"], "a sample is there twice");
        let fields: Vec<_> = seen["fields"].as_array().context("no fields")?.iter().collect();
        for field in ["_id", "boot", "device", "received_at", "sampled_at", "seq", "status"] {
            assert!(fields.iter().any(|name| *name == field), "{field} is not among {fields:?}");
        }
    }
    Ok(())
}

fn pymongo(url: &str, start: u64, end: u64) -> Result<Value> {
    let mut python = tools::python_with_pymongo()?.command();
    let output = python.args(["-c", AGGREGATE, url, &start.to_string(), &end.to_string()]).output()?;
    ensure!(output.status.success(), "pymongo: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn a_publisher_that_is_not_replaced_yet_is_counted_under_its_own_topic() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let mut settings = system.host("host", Role::Serve, &rabbitmq.url(), &mongod.url("rollcall"))?;
    settings.arguments = vec!["--plain-topic".to_owned(), "devices/status".to_owned()];
    let host = HostProcess::start(&settings)?;
    let tool = tools::mosquitto_pub()?;
    let port = rabbitmq.address().rsplit(':').next().unwrap_or_default().to_owned();
    for (qos, payload) in [("0", r#"{"status": 4}"#), ("1", r#"{"status": 4}"#), ("1", r#"{"status": 9}"#)] {
        let mut publish = tool.command();
        publish.args(["-h", "127.0.0.1", "-p", &port, "-q", qos, "-t", "devices/status", "-m", payload]);
        ensure!(publish.status()?.success(), "mosquitto_pub failed");
    }
    let mut expected = StatusCounts::default();
    expected.0[4] = 2;
    wait::until("two messages", COUNT_LIMIT, || Ok((host.all_counts()?.total() >= 2).then_some(())))?;
    wait::until("the refusal of the third", COUNT_LIMIT, || {
        Ok(host.process().stderr()?.contains("status_out_of_range").then_some(()))
    })?;
    assert_eq!(host.all_counts()?, expected);
    host.stop()
}

/// A certificate authority, and a certificate of localhost that stems from it, in the folder `$1`.
const CERTIFICATES: &str = "
set -e; cd \"$1\"
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test
openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost
echo subjectAltName=DNS:localhost > names
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names
";

#[test]
fn a_broker_is_reached_over_tls_only_when_its_certificate_is_trusted() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let folder = system.folder("tls")?;
    let made = Command::new("sh").args(["-c", CERTIFICATES, "certificates"]).arg(&folder).output()?;
    if !made.status.success() {
        return skip::report(
            "a broker over TLS",
            "openssl, which makes the certificates, is not on this machine",
        );
    }
    let port = ports::free()?;
    let settings = format!(
        "mqtt.listeners.ssl.default = 127.0.0.1:{port}\nssl_options.cacertfile = /data/ca.pem\n\
         ssl_options.certfile = /data/server.pem\nssl_options.keyfile = /data/server.key\n"
    );
    let node = RabbitmqNode::new(&folder, ports::free()?)?.with_settings(&settings);
    let (_rabbitmq, mongod) = (Rabbitmq::start_node(node)?, system.mongod()?);
    let broker = format!("mqtts://{USER}:{PASSWORD}@localhost:{port}");
    let mut settings = system.host("ingest", Role::Ingest, &broker, &mongod.url("rollcall"))?;
    settings.arguments = vec!["--broker-ca-file".to_owned(), folder.join("ca.pem").display().to_string()];
    HostProcess::start(&settings)?.stop()?;
    // Nobody else's authority has signed it.
    let mut settings = system.host("stranger", Role::Ingest, &broker, &mongod.url("rollcall"))?;
    settings.arguments = vec!["--broker-ca-file".to_owned(), folder.join("server.pem").display().to_string()];
    let process = Process::start("stranger", settings.command(), &settings.logs)?;
    wait::until("the refusal of the certificate", COUNT_LIMIT, || {
        Ok(process.stderr()?.contains("invalid peer certificate").then_some(()))
    })?;
    assert!(!process.stderr()?.contains("connected to the broker"));
    Ok(())
}

#[test]
fn no_password_shows_in_a_log() -> Result<()> {
    const SECRETS: [&str; 2] = ["geheim-am-broker", "geheim-an-der-datenbank"];
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let broker = format!("mqtt://rollcall:{}@{}", SECRETS[0], rabbitmq.address());
    let closed = format!("mqtt://rollcall:{}@127.0.0.1:1", SECRETS[0]);
    let database = format!("mongodb://rollcall:{}@127.0.0.1:{}/rollcall", SECRETS[1], mongod.port());
    let open = mongod.url("rollcall");
    // Refused by the broker, refused by the database, not there, and not to be understood.
    let cases = [
        ("refused", broker.as_str(), open.as_str()),
        ("closed", &closed, &open),
        ("unknown", &closed, &database),
        ("bad-broker", &closed.replace("mqtt:", "amqp:"), &open),
        ("bad-path", &format!("{closed}/path"), &open),
        ("bad-database", &closed, &database.replace("@127", "@@127")),
        ("bad-store", &closed, &database.replace("mongodb:", "mongo:")),
    ];
    for (name, broker, database) in cases {
        let mut settings = system.host(name, Role::Serve, broker, database)?;
        settings.arguments = vec!["--log".to_owned(), "trace".to_owned()];
        let mut process = Process::start("host", settings.command(), &settings.logs)?;
        wait::until("a complaint in the log", COUNT_LIMIT, || {
            let ended = process.ended()?.is_some();
            let log = process.stderr()?;
            Ok((ended || log.contains("WARN") || log.contains("ERROR")).then_some(()))
        })?;
        if process.ended()?.is_none() {
            process.signal(Signal::TERM)?;
            process.wait(STOP_LIMIT)?;
        }
        for file in fs::read_dir(&settings.logs)? {
            let path = file?.path();
            if path.is_file() {
                let text = fs::read_to_string(&path)?;
                assert!(
                    !text.is_empty() || path.extension().is_some_and(|kind| kind == "out"),
                    "{name}: no log"
                );
                for secret in SECRETS {
                    assert!(!text.contains(secret), "{name}: {} shows a password:\n{text}", path.display());
                }
            }
        }
    }
    Ok(())
}
