//! What `rollcall devices` issues and exports, at the gateway and at real brokers, asked from another network: each device
//! comes in with its own password, and publishes for itself only.

mod gateway;
mod network;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::HostSettings;
use rollcall_harness::mqtt::{CONNACK, Client, PUBACK, PUBLISH, Packet, SUBACK, Version};
use rollcall_harness::services::{self, Mosquitto, PASSWORD, Rabbitmq, RabbitmqNode, USER};
use rollcall_harness::{ports, tools, wait, workspace};
use rollcall_wire::{DeviceId, Kind, Topic};
use tempfile::TempDir;

use self::network::Networks;

const SAMPLE: &[u8] = br#"{"status":3}"#;

const VERSIONS: [Version; 2] = [Version::V5, Version::V311];

/// For four users.
const IMPORT_LIMIT: Duration = Duration::from_secs(60);

/// A devices file and the passwords in it.
struct Issued {
    dir: TempDir,
    binary: PathBuf,
    porch: String,
    attic: String,
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
        let [porch, attic, reader, cellar] = [const { String::new() }; 4];
        let mut issued = Self { dir, binary, porch, attic, reader, cellar };
        let printed = issued.devices(&["issue", "porch", "attic", "reader", "cellar"])?;
        let password = |id: &str| -> Result<String> {
            let pair = printed.lines().find_map(|line| line.strip_prefix(id)?.strip_prefix(','));
            Ok(pair.context("a password is missing")?.to_owned())
        };
        (issued.porch, issued.attic) = (password("porch")?, password("attic")?);
        (issued.reader, issued.cellar) = (password("reader")?, password("cellar")?);
        issued.devices(&["revoke", "cellar"])?;
        Ok(Some(issued))
    }

    fn devices(&self, arguments: &[&str]) -> Result<String> {
        let file = self.devices_file();
        self.run(&[&["devices"], arguments, &["--devices-file", &file]].concat())
    }

    fn devices_file(&self) -> String {
        self.dir.path().join("devices").display().to_string()
    }

    /// Runs `rollcall` to a good end; what it printed.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary).args(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A host that knows the devices.
    fn host(&self, name: &str) -> Result<HostSettings> {
        let mut settings = HostSettings::new(&self.binary, &self.folder(name)?)?;
        settings.arguments = vec!["--devices-file".to_owned(), self.devices_file()];
        Ok(settings)
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Whoever is not a device says that it is one, or a device that it is another; nobody is to hear of it. Returns
    /// those that were let in: a device under another's client id.
    fn speak_for_others(&self, broker: SocketAddr, version: Version) -> Vec<Client> {
        let [porch, attic, cellar] = [&self.porch, &self.attic, &self.cellar].map(String::as_str);
        for login in [Some(("attic", porch)), Some(("cellar", cellar)), Some(("porch", cellar)), None] {
            let id = login.map_or("porch", |(user, _)| user);
            assert!(let_in(broker, version, id, login).is_none(), "{id} without its password, {version:?}");
        }
        for topic in [topic("attic"), topic("attic").replace("/status", "/presence"), "elsewhere".to_owned()]
        {
            let mut client = let_in(broker, version, "porch", Some(("porch", porch))).expect("not welcome");
            assert_refused(client.publish(&topic, SAMPLE), version, &topic);
        }
        let mut thief = let_in(broker, version, "porch", Some(("attic", attic)));
        if let Some(thief) = &mut thief {
            assert_refused(thief.publish(&topic("porch"), SAMPLE), version, "by another's client id");
        }
        thief.into_iter().collect()
    }

    /// Publishes for the device that may.
    fn speak_for_itself(&self, broker: SocketAddr, version: Version) {
        let mut client = let_in(broker, version, "porch", Some(("porch", &self.porch))).expect("not welcome");
        let puback = client.publish(&topic("porch"), SAMPLE).expect("no PUBACK");
        assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0), "{version:?}");
    }

    /// Asks a broker that was told of the devices; `reader` may subscribe.
    fn check(&self, broker: SocketAddr, reader: (&str, &str)) -> Result<()> {
        let mut subscriber = let_in(broker, Version::V5, reader.0, Some(reader)).context("no reader")?;
        let suback = subscriber.subscribe("rollcall/#").context("no SUBACK")?;
        assert_eq!((suback.kind(), suback.reason() < 0x80), (SUBACK, true));
        for version in VERSIONS {
            self.speak_for_others(broker, version);
            self.speak_for_itself(broker, version);
            // Nothing else has come before it.
            let heard = subscriber.receive().context("the subscriber lost its connection")?;
            assert_eq!(heard.kind(), PUBLISH);
            let topic = topic("porch");
            assert_eq!(&heard.body[2..2 + topic.len()], topic.as_bytes(), "{version:?}");
        }
        Ok(())
    }
}

/// Says CONNECT; the client if it is welcome.
fn let_in(broker: SocketAddr, version: Version, id: &str, login: Option<(&str, &str)>) -> Option<Client> {
    let mut client = Client::hello(broker, version, id, login);
    let connack = client.receive()?;
    (connack.kind() == CONNACK && connack.body[1] == 0).then_some(client)
}

/// To 3.1.1 a broker may say that all is well: what counts is that nobody hears of it.
fn assert_refused(answer: Option<Packet>, version: Version, what: &str) {
    let refused = answer.is_none_or(|answer| answer.kind() != PUBACK || answer.reason() >= 0x80);
    assert!(refused || version == Version::V311, "{what}");
}

fn topic(device: &str) -> String {
    let device = DeviceId::new(device).expect("a good id");
    Topic { device, kind: Kind::Status }.name().to_string()
}

#[test]
fn rabbitmq_lets_each_device_in_for_itself_with_the_exported_definitions() -> Result<()> {
    let Some(issued) = Issued::new()? else { return Ok(()) };
    let networks = Networks::new("RabbitMQ and the exported definitions")?;
    let folder = issued.folder("rabbitmq")?;
    let (port, elsewhere) = (ports::free()?, ports::free()?);
    let node = RabbitmqNode::new(&folder, port)?;
    let listen = format!("mqtt.listeners.tcp.elsewhere = {}:{elsewhere}\n", networks.server());
    // The harness lets anyone in.
    let locked = "mqtt.allow_anonymous = false\nanonymous_login_user = none\n";
    let exported = issued.devices(&["export", "--rabbitmq"])?;
    let rabbitmq = networks.among_servers(|| {
        // The first start makes the virtual host and the first user; the second imports as rabbitmqctl does.
        drop(Rabbitmq::start_node(node.clone())?);
        fs::write(folder.join("devices.json"), exported)?;
        let settings = format!("{listen}{locked}load_definitions = /data/devices.json\n");
        Rabbitmq::start_node(node.with_settings(&settings))
    })?;
    // It answers MQTT before all is imported.
    wait::until("the import", IMPORT_LIMIT, || {
        Ok(rabbitmq.process().stdout()?.contains("Server startup complete").then_some(()))
    })?;
    let broker = SocketAddr::from((networks.server(), elsewhere));
    networks.among_clients(|| issued.check(broker, (USER, PASSWORD)))
}

#[test]
fn mosquitto_lets_each_device_in_for_itself_with_the_exported_files() -> Result<()> {
    let Some(issued) = Issued::new()? else { return Ok(()) };
    tools::mosquitto()?;
    let networks = Networks::new("mosquitto and the exported files")?;
    let exported = issued.folder("exported")?;
    issued.devices(&["export", "--mosquitto", exported.to_str().context("a path that is no text")?])?;
    let file = |name: &str| exported.join(name);
    let own = fs::read_to_string(file("acl"))? + "\nuser reader\ntopic read rollcall/#\n";
    fs::write(file("acl"), own)?;
    let broker = SocketAddr::from((networks.server(), ports::free()?));
    let settings = settings(&exported, broker);
    let folder = issued.folder("mosquitto")?;
    let _mosquitto = networks.among_servers(|| Mosquitto::start_with(&folder, &settings))?;
    networks.among_clients(|| issued.check(broker, ("reader", &issued.reader)))
}

fn settings(exported: &Path, broker: SocketAddr) -> String {
    let (folder, address, port) = (exported.display(), broker.ip(), broker.port());
    format!(
        "allow_anonymous false\npassword_file {folder}/passwords\nacl_file {folder}/acl\nlistener {port} {address}\n"
    )
}
