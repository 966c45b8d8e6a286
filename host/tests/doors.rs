//! What many connections at once, or slow ones, can take of a process: its descriptors, and those are bounded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/serve.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod serve;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{Client, PUBACK, Version};
use rollcall_wire::{DeviceId, Kind, Topic};
use serve::Process;

/// Descriptors of the process: a fifth goes to HTTP, a half to MQTT.
const DESCRIPTORS: u32 = 256;

/// More than there are places at either door.
const CONNECTIONS: usize = 200;

/// Far below the time after which a connection that says nothing is closed for that.
const SOON: Duration = Duration::from_secs(5);

/// A connection that is not closed after this long stays open.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process with few descriptors.
fn start(directory: &tempfile::TempDir) -> Process {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_rollcall"), "serve", "--store"]);
    command.arg(format!("redb:{}", directory.path().display()));
    Process::start_as(command)
}

/// A device is let in and its message taken, and the process says how it is.
fn assert_answers(process: &Process) {
    let start = Instant::now();
    let topic = Topic { device: DeviceId::new("porch").unwrap(), kind: Kind::Status }.name();
    let taken = Client::connect(process.mqtt, Version::V5).publish(&topic, br#"{"status":3}"#).unwrap();
    assert_eq!((taken.kind(), taken.reason()), (PUBACK, 0));
    assert!(process.get("/readyz").contains(" 200 "));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// How many connections were turned away at a door for others.
fn turned_away(process: &Process, door: &str) -> u64 {
    let name = format!("rollcall_connections_turned_away_total{{door=\"{door}\",reason=\"for_another\"}} ");
    process.get("/metrics").lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

#[test]
fn connections_that_only_wait_shut_nobody_out_at_either_door() {
    let directory = tempfile::tempdir().unwrap();
    let process = start(&directory);
    let _silent: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(process.mqtt).unwrap()).collect();
    assert_answers(&process);
    let _idle: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(process.http).unwrap()).collect();
    assert_answers(&process);
    assert!(turned_away(&process, "source") > 0);
    assert!(turned_away(&process, "http") > 0);
}

#[test]
fn devices_that_have_all_places_of_their_address_leave_http_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let process = start(&directory);
    let mut let_in = Vec::new();
    while let Some(client) = Client::try_connect(process.mqtt, Version::V5) {
        let_in.push(client);
        assert!(let_in.len() < DESCRIPTORS as usize);
    }
    assert!(let_in.len() > DESCRIPTORS as usize / 3, "{}", let_in.len());
    assert!(process.get("/readyz").contains(" 200 "));
    drop(let_in);
    let deadline = Instant::now() + PATIENCE;
    while Client::try_connect(process.mqtt, Version::V5).is_none() {
        assert!(Instant::now() < deadline, "places are not given back");
    }
}

#[test]
fn a_request_that_does_not_arrive_is_waited_for_ten_seconds_and_has_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let process = start(&directory);
    // One that has had its answer and waits for the next request is nobody's fault.
    let mut idle = TcpStream::connect(process.http).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    idle.read_to_end(&mut Vec::new()).unwrap();
    let mut stream = TcpStream::connect(process.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: local").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    process.until_metric("rollcall_http_refusals_total{reason=\"head_timeout\"} 1\n");
}

#[test]
fn a_request_with_long_headers_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let process = start(&directory);
    let mut stream = TcpStream::connect(process.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    process.until_metric("rollcall_http_refusals_total{reason=\"head_too_large\"} 1\n");
    let mut stream = TcpStream::connect(process.http).unwrap();
    stream.write_all(b"hello\r\n\r\n").unwrap();
    process.until_metric("rollcall_http_refusals_total{reason=\"malformed_request\"} 1\n");
}
