//! MQTT and HTTP over TLS, at a real `rollcall serve` over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/tls.rs"]
mod relay;
#[path = "common/serve.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod serve;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{self, Client, PUBACK, Version};
use rollcall_wire::{DeviceId, Kind, Topic};
use tokio_rustls::rustls::SupportedProtocolVersion;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use self::relay::Relay;
use self::serve::{Process, get, rollcall};

/// What takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    directory: tempfile::TempDir,
    process: Process,
}

impl Host {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        init(directory.path());
        let file = |name: &str| directory.path().join(name);
        let mut command = rollcall("serve", &format!("redb:{}", file("data").display()));
        command.args(["--mqtt-tls-listen", "127.0.0.1:0", "--http-tls-listen", "127.0.0.1:0"]);
        command.arg("--tls-cert").arg(file("server.pem")).arg("--tls-key").arg(file("server.key"));
        let process = Process::start_listening(command, &["mqtt", "mqtts", "http", "https"]);
        Self { directory, process }
    }

    /// A relay to what is called so.
    fn relay(&self, to: &str, version: &'static SupportedProtocolVersion, dribble: bool) -> Relay {
        Relay::start(self.process.listens(to), &self.directory.path().join("ca.pem"), version, dribble)
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

fn init(directory: &Path) {
    let init = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .args(["tls", "init", "--name", "localhost", "--dir"])
        .arg(directory)
        .stdout(Stdio::null())
        .status();
    assert!(init.unwrap().success());
}

fn topic() -> String {
    let device = DeviceId::new("porch").unwrap();
    Topic { device, kind: Kind::Status }.name().to_string()
}

fn publish(client: &mut Client, boot: u64, sequences: std::ops::Range<u64>) {
    for seq in sequences {
        let payload = format!(r#"{{"status":{},"boot":"{boot:016x}","seq":{seq},"age_ms":0}}"#, seq % 7);
        let puback = client.publish(&topic(), payload.as_bytes()).expect("closed");
        assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0));
    }
}

#[test]
fn what_is_published_over_tls_is_counted_also_when_it_comes_byte_by_byte() {
    let host = Host::start();
    let mut boot = 0;
    for (version, dribble) in [(&TLS13, false), (&TLS12, false), (&TLS13, true), (&TLS12, true)] {
        let relay = host.relay("mqtts", version, dribble);
        for mqtt in [Version::V5, Version::V311] {
            boot += 1;
            publish(&mut Client::connect(relay.address, mqtt), boot, 0..20);
        }
        relay.stop();
    }
    assert!(host.process.get("/status_count?start=0&end=4000000000").contains("\"total\":160"));
    host.process.until_metric("rollcall_connections_open 0\n");
}

#[test]
fn a_burst_that_is_not_read_is_answered_whole_once_it_is() {
    let host = Host::start();
    let relay = host.relay("mqtts", &TLS13, false);
    let mut client = Client::connect(relay.address, Version::V311);
    for id in 1..=2_000 {
        client.send(&mqtt::publish(Version::V311, id, &topic(), br#"{"status":3}"#, None));
    }
    for _ in 1..=2_000 {
        assert_eq!(client.receive().expect("closed").kind(), PUBACK);
    }
    client.leave();
    relay.stop();
}

#[test]
fn a_renewed_certificate_is_shown_to_new_clients_and_ends_no_connection() {
    let host = Host::start();
    let relay = host.relay("mqtts", &TLS13, false);
    let mut first = Client::connect(relay.address, Version::V5);
    publish(&mut first, 1, 0..2);
    let before = relay.certificate();
    init(host.directory.path());
    host.signal("-HUP");
    let deadline = Instant::now() + PATIENCE;
    while relay.certificate() == before {
        assert!(Instant::now() < deadline, "the old certificate is still shown");
        publish(&mut Client::connect(relay.address, Version::V5), 2, 0..1);
    }
    publish(&mut first, 1, 2..4);
    relay.stop();
}

#[test]
fn what_is_no_tls_is_refused_by_name_and_others_are_served() {
    let host = Host::start();
    for bytes in
        [&b"\x10\x10\0\x04MQTT\x05\0\0\0\0\0\0\0"[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff]]
    {
        let mut stream = TcpStream::connect(host.process.listens("mqtts")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // It is closed, with an alert at most.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 10, "{answer:?}");
    }
    host.process.until_metric("rollcall_gateway_refusals_total{reason=\"tls_failed\"} 3\n");
    let relay = host.relay("mqtts", &TLS13, false);
    publish(&mut Client::connect(relay.address, Version::V5), 1, 0..1);
    relay.stop();
}

#[test]
fn questions_are_answered_over_tls_and_what_is_no_tls_is_not() {
    let host = Host::start();
    for (version, dribble) in [(&TLS13, false), (&TLS12, true)] {
        let relay = host.relay("https", version, dribble);
        let answer = get(relay.address, "/status_count?start=0&end=1", "host: localhost\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"total\":0"), "{answer}");
        relay.stop();
    }
    let mut stream = TcpStream::connect(host.process.listens("https")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /status_count?start=0&end=1 HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 10, "{answer:?}");
    host.process.until_metric("rollcall_http_refusals_total{reason=\"tls_failed\"} 1\n");
}

#[test]
fn whoever_has_not_begun_tls_holds_up_no_end() {
    let mut host = Host::start();
    let _silent = ["mqtts", "https"].map(|of| TcpStream::connect(host.process.listens(of)).unwrap());
    // It is heard before the signal: connections are taken in their order.
    let _ = host.process.get("/healthz");
    host.signal("-TERM");
    assert!(host.process.child.wait().unwrap().success());
}
