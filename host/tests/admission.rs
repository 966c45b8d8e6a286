//! Devices with passwords of their own at the gateway, over real sockets: who is let in, what each may publish, and what
//! becomes of a connection whose password goes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/host.rs"]
mod host;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use host::Open;
use rollcall_harness::mqtt::{CONNACK, Client, DISCONNECT, PUBACK, Version, publish, publish_with};
use rollcall_host::credentials::{Credentials, Device, Edit, Entry, List, Live, Secret};
use rollcall_host::model::{Message, Verdict};
use rollcall_host::ops::Ops;
use rollcall_host::source::gateway::Gateway;
use rollcall_host::source::{self, Admission};
use rollcall_wire::{DeviceId, Kind, Topic};
use tokio::sync::mpsc;

const GOOD: &[u8] = br#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":0}"#;

const BOTH: [Version; 2] = [Version::V5, Version::V311];

/// What is taken away has to be gone after this.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

/// A gateway for the devices `porch` and `attic` and for who knows the fleet's password.
struct Locked {
    gateway: Open,
    messages: mpsc::Receiver<Message>,
    ops: Arc<Ops>,
    path: PathBuf,
    porch: Secret,
    attic: Secret,
    _directory: tempfile::TempDir,
}

impl Locked {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("devices");
        let [porch, attic] = std::array::from_fn(|_| Secret::random().unwrap());
        edit(&path, |list| {
            list.add(Device::new(id("porch"), &porch).unwrap()).unwrap();
            list.add(Device::new(id("attic"), &attic).unwrap()).unwrap();
        });
        let ops = Arc::new(Ops::default());
        let (devices, rereader) = Live::open(&path).unwrap();
        rereader.start(ops.clone()).unwrap();
        let fleet = Some(Credentials { user: "fleet".into(), password: "of the whole fleet".into() });
        let admission = Admission { fleet, devices: Some(devices) };
        let (inbox, messages) = source::inbox();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Open::new(Gateway::bind(listener, admission, inbox, ops.clone()).unwrap());
        Self { gateway, messages, ops, path, porch, attic, _directory: directory }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Connects, and gives what the CONNACK says.
    fn try_login(&self, version: Version, client_id: &str, user: &str, password: &str) -> (Client, u8) {
        let mut client = Client::hello(self.address(), version, client_id, Some((user, password)));
        let connack = client.receive().unwrap();
        assert_eq!(connack.kind(), CONNACK);
        let code = connack.body[1];
        (client, code)
    }

    fn login(&self, version: Version, user: &str, secret: &Secret) -> Client {
        let (client, code) = self.try_login(version, user, user, secret.text());
        assert_eq!(code, 0, "not welcome");
        client
    }

    /// Publishes as a device that may: the message arrives and is acknowledged.
    fn assert_publishes(&mut self, client: &mut Client, version: Version, device: &str) {
        client.send(&publish(version, 7, &topic(device), GOOD, None));
        let message = self.messages.blocking_recv().unwrap();
        assert_eq!(&*message.topic, topic(device));
        message.ack.settle(Verdict::Accepted);
        let puback = client.receive().unwrap();
        assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0));
    }

    fn refusals(&self, reason: &str) -> u64 {
        let name = format!("rollcall_gateway_refusals_total{{reason=\"{reason}\"}} ");
        let text = self.ops.metrics.text(true);
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
    }
}

fn edit(path: &std::path::Path, change: impl FnOnce(&mut List<Device>)) {
    let mut edit = Edit::open(path).unwrap();
    change(&mut edit.list);
    edit.write().unwrap().put_in_place().unwrap();
}

fn id(device: &str) -> DeviceId {
    DeviceId::new(device).unwrap()
}

fn topic(device: &str) -> String {
    Topic { device: id(device), kind: Kind::Status }.name().to_string()
}

#[test]
fn a_device_comes_in_with_its_own_password_and_publishes_for_itself() {
    for version in BOTH {
        let mut locked = Locked::new();
        let (mut porch, mut attic) =
            (locked.login(version, "porch", &locked.porch), locked.login(version, "attic", &locked.attic));
        locked.assert_publishes(&mut porch, version, "porch");
        locked.assert_publishes(&mut attic, version, "attic");
        let (mut fleet, code) = locked.try_login(version, "bridge", "fleet", "of the whole fleet");
        assert_eq!(code, 0);
        locked.assert_publishes(&mut fleet, version, "porch");
        locked.assert_publishes(&mut fleet, version, "cellar");
    }
}

#[test]
fn who_is_no_device_is_told_so_and_counted() {
    let locked = Locked::new();
    for (version, bad) in [(Version::V5, 0x86), (Version::V311, 4)] {
        for (user, password) in [
            ("porch", locked.attic.text()),
            ("porch", ""),
            ("cellar", locked.porch.text()),
            ("fleet", locked.porch.text()),
            ("porch", "of the whole fleet"),
        ] {
            assert_eq!(locked.try_login(version, user, user, password).1, bad, "{user}");
        }
        let mut nobody = Client::hello(locked.address(), version, "porch", None);
        assert_eq!(nobody.receive().unwrap().body[1], bad);
    }
    assert_eq!(locked.refusals("bad_user_name_or_password"), 12);
}

#[test]
fn a_device_does_not_come_in_with_the_client_id_of_another() {
    let locked = Locked::new();
    for (version, not_authorized) in [(Version::V5, 0x87), (Version::V311, 5)] {
        let password = locked.porch.text();
        assert_eq!(locked.try_login(version, "attic", "porch", password).1, not_authorized);
        assert_eq!(locked.try_login(version, "mosq-7f3a", "porch", password).1, 0);
    }
    assert_eq!(locked.refusals("other_devices_client_id"), 2);
}

#[test]
fn a_message_to_another_devices_topic_is_refused_by_mqtt_5_and_its_connection_goes_on() {
    let mut locked = Locked::new();
    let version = Version::V5;
    let mut porch = locked.login(version, "porch", &locked.porch);
    for topic in [topic("attic"), topic("attic").replace("/status", "/presence"), topic("cellar")] {
        let puback = porch.publish(&topic, GOOD).unwrap();
        assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0x87), "{topic}");
    }
    porch.send(&publish_with(version, 0x30, None, &topic("attic"), GOOD, None));
    // The first that arrives is the device's own: nothing else was taken.
    locked.assert_publishes(&mut porch, version, "porch");
    assert!(locked.messages.try_recv().is_err());
    assert_eq!(locked.refusals("other_devices_topic"), 4);
    assert!(locked.ops.metrics.text(true).contains("\nrollcall_messages_received_total 1\n"));
}

#[test]
fn a_message_to_another_devices_topic_ends_a_connection_of_3_1_1() {
    let mut locked = Locked::new();
    for (flags, packet_id) in [(0x32, Some(7)), (0x30, None)] {
        let mut porch = locked.login(Version::V311, "porch", &locked.porch);
        porch.send(&publish_with(Version::V311, flags, packet_id, &topic("attic"), GOOD, None));
        assert_eq!(porch.receive(), None, "MQTT-3.3.5-2: it is not acknowledged");
    }
    assert!(locked.messages.try_recv().is_err());
    assert_eq!(locked.refusals("other_devices_topic"), 2);
}

#[test]
fn a_topic_alias_leads_to_no_other_device() {
    let locked = Locked::new();
    let mut porch = locked.login(Version::V5, "porch", &locked.porch);
    let name = topic("attic");
    // Property 0x23: the alias 1 gets the topic, and then stands for it.
    let packet = |name: &str, packet_id: u8| {
        let head = [0x32, (2 + name.len() + 2 + 4 + GOOD.len()) as u8, 0, name.len() as u8];
        [&head[..], name.as_bytes(), &[0, packet_id, 3, 0x23, 0, 1], GOOD].concat()
    };
    for (name, packet_id) in [(name.as_str(), 1), ("", 2)] {
        porch.send(&packet(name, packet_id));
        let puback = porch.receive().unwrap();
        assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0x87));
    }
}

#[test]
fn a_revoked_device_is_cut_off_within_a_second_and_no_other() {
    for version in BOTH {
        let mut locked = Locked::new();
        let (mut porch, mut attic) =
            (locked.login(version, "porch", &locked.porch), locked.login(version, "attic", &locked.attic));
        locked.assert_publishes(&mut porch, version, "porch");
        edit(&locked.path, |list| assert!(list.remove("porch")));
        let revoked = Instant::now();
        if version == Version::V5 {
            let disconnect = porch.receive().unwrap();
            assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, 0x87));
        }
        assert_eq!(porch.receive(), None);
        assert!(revoked.elapsed() < REVOKED_WITHIN, "after {:?}", revoked.elapsed());
        assert_ne!(locked.try_login(version, "porch", "porch", locked.porch.text()).1, 0);
        locked.assert_publishes(&mut attic, version, "attic");
        assert_eq!(locked.refusals("password_revoked"), 1);
    }
}

#[test]
fn two_passwords_are_valid_until_the_previous_one_is_revoked() {
    let mut locked = Locked::new();
    let version = Version::V5;
    let (mut old, newer) = (locked.login(version, "porch", &locked.porch), Secret::random().unwrap());
    edit(&locked.path, |list| {
        let rotated = list.get("porch").unwrap().with(&newer).unwrap();
        assert!(list.replace(rotated));
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut new = loop {
        match locked.try_login(version, "porch-new", "porch", newer.text()) {
            (client, 0) => break client,
            _ => assert!(Instant::now() < deadline, "the new password is never valid"),
        }
    };
    locked.assert_publishes(&mut old, version, "porch");
    locked.assert_publishes(&mut new, version, "porch");
    edit(&locked.path, |list| {
        let settled = list.get("porch").unwrap().without_previous().unwrap();
        assert_eq!(settled.name(), "porch");
        assert!(list.replace(settled));
    });
    assert_eq!(old.receive().unwrap().reason(), 0x87);
    locked.assert_publishes(&mut new, version, "porch");
}

#[test]
fn a_broken_file_shuts_nobody_out() {
    let mut locked = Locked::new();
    let mut porch = locked.login(Version::V5, "porch", &locked.porch);
    let whole = std::fs::read(&locked.path).unwrap();
    std::fs::write(&locked.path, &whole[..whole.len() - 9]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !locked.ops.metrics.text(true).contains("credentials_file_broken{file=\"devices\"} 1\n") {
        assert!(Instant::now() < deadline, "the file was never looked at");
        std::thread::yield_now();
    }
    locked.assert_publishes(&mut porch, Version::V5, "porch");
    let mut attic = locked.login(Version::V5, "attic", &locked.attic);
    locked.assert_publishes(&mut attic, Version::V5, "attic");
}
