//! The real process, and what its surroundings may do to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/mqtt.rs"]
mod mqtt;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mqtt::{Client, PUBACK, Version};
use rollcall_wire::{DeviceId, Kind, Topic};

/// A start that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address of a free port of this machine.
const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A `rollcall serve` that ends with this value.
struct Host(Child);

impl Host {
    fn start(data: &Path, mqtt: SocketAddr, http: SocketAddr, log: impl Into<Stdio>) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["serve", "--mqtt-listen", &mqtt.to_string(), "--http-listen", &http.to_string()])
            .args(["--store", &format!("redb:{}", data.display())])
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn assert_lives(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "the process has ended");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the log until it has told where MQTT and HTTP listen.
fn addresses(log: &mut BufReader<ChildStderr>) -> (SocketAddr, SocketAddr) {
    let (mut mqtt, mut http, mut seen) = (None, None, String::new());
    loop {
        if let (Some(mqtt), Some(http)) = (mqtt, http) {
            return (mqtt, http);
        }
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "rollcall did not start:\n{seen}");
        let address = |what| line.split_once(what).map(|(_, address)| address.trim().parse().unwrap());
        mqtt = mqtt.or_else(|| address("mqtt listening on "));
        http = http.or_else(|| address("http listening on "));
        seen += &line;
    }
}

/// A port that was free a moment ago, for a process that cannot tell which one it took.
fn free_address() -> SocketAddr {
    TcpListener::bind(FREE).unwrap().local_addr().unwrap()
}

/// The status of a GET, or `None` when nobody answers.
fn get(http: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(http).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Sends what is logged, and then what is to be stored; a host whose log is gone must do both.
fn assert_works(host: &mut Host, mqtt: SocketAddr, http: SocketAddr) {
    let topic = Topic { device: DeviceId::new("porch").unwrap(), kind: Kind::Status }.name();
    let mut client = Client::connect(mqtt, Version::V5);
    let refused = client.publish(&topic, b"nonsense").expect("no answer to a malformed message");
    assert_eq!(refused.kind(), PUBACK);
    assert_ne!(refused.reason(), 0);
    let taken = client.publish(&topic, br#"{"status":3}"#).expect("no answer to a good message");
    assert_eq!((taken.kind(), taken.reason()), (PUBACK, 0));
    assert_eq!(get(http, "/healthz"), Some(200));
    host.assert_lives();
}

#[test]
fn the_process_goes_on_when_the_reader_of_its_log_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let mut host = Host::start(data.path(), FREE, FREE, Stdio::piped());
    let mut log = BufReader::new(host.0.stderr.take().unwrap());
    let (mqtt, http) = addresses(&mut log);
    drop(log);
    assert_works(&mut host, mqtt, http);
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_starts_and_goes_on_when_the_disk_of_its_log_is_full() {
    let data = tempfile::tempdir().unwrap();
    let (mqtt, http) = (free_address(), free_address());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut host = Host::start(data.path(), mqtt, http, full);
    let deadline = Instant::now() + PATIENCE;
    while get(http, "/healthz").is_none() || TcpStream::connect(mqtt).is_err() {
        host.assert_lives();
        assert!(Instant::now() < deadline, "waited in vain for the process to start");
        thread::yield_now();
    }
    assert_works(&mut host, mqtt, http);
}
