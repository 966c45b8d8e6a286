//! MQTT and HTTP over TLS, at a real `rollcall serve` over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/tls.rs"]
mod relay;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{self, Client, PUBACK, Version};
use rollcall_wire::{DeviceId, Kind, Topic};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use self::relay::Relay;

/// What takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    directory: tempfile::TempDir,
    child: Child,
    mqtts: SocketAddr,
    https: SocketAddr,
    http: SocketAddr,
}

impl Host {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        init(directory.path());
        let file = |name: &str| directory.path().join(name);
        let mut child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["serve", "--mqtt-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args([
                "--mqtt-tls-listen",
                "127.0.0.1:0",
                "--store",
                &format!("redb:{}", file("data").display()),
            ])
            .args(["--http-tls-listen", "127.0.0.1:0"])
            .arg("--tls-cert")
            .arg(file("server.pem"))
            .arg("--tls-key")
            .arg(file("server.key"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut mqtts, mut https, mut http, mut seen) = (None, None, None, String::new());
        while mqtts.is_none() || https.is_none() || http.is_none() {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "rollcall did not start:\n{seen}");
            let address = |what| line.split_once(what).map(|(_, address)| address.trim().parse().unwrap());
            mqtts = mqtts.or_else(|| address("mqtts listening on "));
            https = https.or_else(|| address("https listening on "));
            http = http.or_else(|| address("http listening on "));
            seen += &line;
        }
        // So that it may go on to log.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let (mqtts, https, http) = (mqtts.unwrap(), https.unwrap(), http.unwrap());
        Self { directory, child, mqtts, https, http }
    }

    fn relay(
        &self,
        version: &'static tokio_rustls::rustls::SupportedProtocolVersion,
        dribble: bool,
    ) -> Relay {
        self.relay_to(self.mqtts, version, dribble)
    }

    fn relay_to(
        &self,
        server: SocketAddr,
        version: &'static tokio_rustls::rustls::SupportedProtocolVersion,
        dribble: bool,
    ) -> Relay {
        Relay::start(server, &self.directory.path().join("ca.pem"), version, dribble)
    }

    fn get(&self, path: &str) -> String {
        self.get_from(self.http, path)
    }

    fn get_from(&self, address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn until_metric(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.get("/metrics").contains(line) {
            assert!(Instant::now() < deadline, "waited in vain for {line}");
            thread::yield_now();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
        let relay = host.relay(version, dribble);
        for mqtt in [Version::V5, Version::V311] {
            boot += 1;
            publish(&mut Client::connect(relay.address, mqtt), boot, 0..20);
        }
        relay.stop();
    }
    assert!(host.get("/status_count?start=0&end=4000000000").contains("\"total\":160"));
    host.until_metric("rollcall_connections_open 0\n");
}

#[test]
fn a_burst_that_is_not_read_is_answered_whole_once_it_is() {
    let host = Host::start();
    let relay = host.relay(&TLS13, false);
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
    let relay = host.relay(&TLS13, false);
    let mut first = Client::connect(relay.address, Version::V5);
    publish(&mut first, 1, 0..2);
    let before = relay.certificate();
    init(host.directory.path());
    let pid = host.child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
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
        let mut stream = TcpStream::connect(host.mqtts).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // It is closed, with an alert at most.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 10, "{answer:?}");
    }
    host.until_metric("rollcall_gateway_refusals_total{reason=\"tls_failed\"} 3\n");
    let relay = host.relay(&TLS13, false);
    publish(&mut Client::connect(relay.address, Version::V5), 1, 0..1);
    relay.stop();
}

#[test]
fn questions_are_answered_over_tls_and_what_is_no_tls_is_not() {
    let host = Host::start();
    for (version, dribble) in [(&TLS13, false), (&TLS12, true)] {
        let relay = host.relay_to(host.https, version, dribble);
        let answer = host.get_from(relay.address, "/status_count?start=0&end=1");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"total\":0"), "{answer}");
        relay.stop();
    }
    let mut stream = TcpStream::connect(host.https).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /status_count?start=0&end=1 HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 10, "{answer:?}");
    host.until_metric("rollcall_http_refusals_total{reason=\"tls_failed\"} 1\n");
}

#[test]
fn whoever_has_not_begun_tls_holds_up_no_end() {
    let mut host = Host::start();
    let _silent = [host.mqtts, host.https].map(|address| TcpStream::connect(address).unwrap());
    // It is heard before the signal: connections are taken in their order.
    let _ = host.get("/healthz");
    let pid = host.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(host.child.wait().unwrap().success());
}
