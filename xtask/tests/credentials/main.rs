//! What `rollcall devices` issues and exports, at real brokers: each device comes in with its own password, and
//! publishes for itself only.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::mqtt::{CONNACK, Client, PUBACK, PUBLISH, Packet, SUBACK, Version};
use rollcall_harness::services::{self, Mosquitto, PASSWORD, Rabbitmq, RabbitmqNode, USER};
use rollcall_harness::{ports, wait, workspace};
use rollcall_wire::{DeviceId, Kind, Topic};
use tempfile::TempDir;

const VERSIONS: [Version; 2] = [Version::V5, Version::V311];

/// For four users.
const IMPORT_LIMIT: Duration = Duration::from_secs(60);

/// A devices file and the passwords in it.
struct Issued {
    dir: TempDir,
    binary: PathBuf,
    porch: String,
    reader: String,
    /// Issued and revoked before anything was exported.
    cellar: String,
}

impl Issued {
    /// `None` where no broker can run; the test that asks is then reported as skipped.
    fn new() -> Result<Option<Self>> {
        // The harness names a test's thread after it.
        if !services::can_run(thread::current().name().unwrap_or("credentials"))? {
            return Ok(None);
        }
        let dir = workspace::temporary_dir()?;
        let binary = cargo::build(Program::LeanHost, Profile::Dev)?;
        let mut issued =
            Self { dir, binary, porch: String::new(), reader: String::new(), cellar: String::new() };
        let printed = issued.devices(&["issue", "porch", "attic", "reader", "cellar"])?;
        let password = |id: &str| -> Result<String> {
            let pair = printed.lines().find_map(|line| line.strip_prefix(id)?.strip_prefix(','));
            Ok(pair.context("a password is missing")?.to_owned())
        };
        (issued.porch, issued.reader, issued.cellar) =
            (password("porch")?, password("reader")?, password("cellar")?);
        issued.devices(&["revoke", "cellar"])?;
        Ok(Some(issued))
    }

    fn devices(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.arg("devices").args(arguments).arg("--devices-file").arg(self.dir.path().join("devices"));
        let output = command.output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Asks a broker that was told of the devices; `reader` may subscribe.
    fn check(&self, broker: &str, reader: (&str, &str)) -> Result<()> {
        let broker: SocketAddr = broker.parse()?;
        let (mut subscriber, connack) = login(broker, Version::V5, reader.0, reader.1);
        assert_eq!(connack.reason(), 0, "{connack:?}");
        let suback = subscriber.subscribe("rollcall/#").context("no SUBACK")?;
        assert_eq!((suback.kind(), suback.reason() < 0x80), (SUBACK, true));
        for version in VERSIONS {
            let porch = || {
                let (client, connack) = login(broker, version, "porch", &self.porch);
                assert_eq!((connack.kind(), connack.body[1]), (CONNACK, 0), "{version:?}");
                client
            };
            for (user, password) in
                [("attic", &self.porch), ("cellar", &self.cellar), ("porch", &self.cellar)]
            {
                let (_, connack) = login(broker, version, user, password);
                assert_ne!(connack.body[1], 0, "{user} with another's password");
            }
            for topic in
                [topic("attic"), topic("attic").replace("/status", "/presence"), "elsewhere".to_owned()]
            {
                let answer = porch().publish(&topic, b"{}");
                let refused = answer.is_none_or(|answer| answer.kind() != PUBACK || answer.reason() == 0x87);
                // To 3.1.1 a broker may say that all is well: what counts is that nobody hears of it.
                assert!(refused || version == Version::V311, "{topic}");
            }
            let puback = porch().publish(&topic("porch"), b"{}").context("no PUBACK")?;
            assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0), "{version:?}");
            // Nothing else has come before it.
            let heard = subscriber.receive().context("the subscriber lost its connection")?;
            assert_eq!(heard.kind(), PUBLISH);
            let topic = topic("porch");
            assert_eq!(&heard.body[2..2 + topic.len()], topic.as_bytes(), "{version:?}");
        }
        Ok(())
    }
}

/// Says CONNECT, and gives the CONNACK.
fn login(broker: SocketAddr, version: Version, user: &str, password: &str) -> (Client, Packet) {
    let mut client = Client::hello(broker, version, user, Some((user, password)));
    let connack = client.receive().expect("closed without a CONNACK");
    (client, connack)
}

fn topic(device: &str) -> String {
    let device = DeviceId::new(device).expect("a good id");
    Topic { device, kind: Kind::Status }.name().to_string()
}

#[test]
fn rabbitmq_lets_each_device_in_for_itself_with_the_exported_definitions() -> Result<()> {
    let Some(issued) = Issued::new()? else { return Ok(()) };
    let folder = issued.folder("rabbitmq")?;
    let node = RabbitmqNode::new(&folder, ports::free()?)?;
    // The first start makes the virtual host and the first user; the second imports as rabbitmqctl does.
    drop(Rabbitmq::start_node(node.clone())?);
    fs::write(folder.join("devices.json"), issued.devices(&["export", "--rabbitmq"])?)?;
    let rabbitmq = Rabbitmq::start_node(node.with_settings("load_definitions = /data/devices.json\n"))?;
    // It answers MQTT before all is imported.
    wait::until("the import", IMPORT_LIMIT, || {
        Ok(rabbitmq.process().stdout()?.contains("Server startup complete").then_some(()))
    })?;
    issued.check(&rabbitmq.address(), (USER, PASSWORD))
}

#[test]
fn mosquitto_lets_each_device_in_for_itself_with_the_exported_files() -> Result<()> {
    let Some(issued) = Issued::new()? else { return Ok(()) };
    let exported = issued.folder("exported")?;
    issued.devices(&["export", "--mosquitto", exported.to_str().context("a path that is no text")?])?;
    let file = |name: &str| exported.join(name);
    let own = fs::read_to_string(file("acl"))? + "\nuser reader\ntopic read rollcall/#\n";
    fs::write(file("acl"), own)?;
    let mosquitto = Mosquitto::start_with(&issued.folder("mosquitto")?, &settings(&exported))?;
    issued.check(&mosquitto.address(), ("reader", &issued.reader))
}

fn settings(exported: &Path) -> String {
    let folder = exported.display();
    format!("allow_anonymous false\npassword_file {folder}/passwords\nacl_file {folder}/acl\n")
}
