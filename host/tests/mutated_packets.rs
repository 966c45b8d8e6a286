//! 200,000 packets that no client would send, over real sockets to a real `rollcall serve`, beside a device that publishes:
//! it is counted exactly, the books of all messages balance, and nothing is left of those who sent the rest.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/serve.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rollcall_harness::mqtt::{
    CONNACK, Client, ConnectPacket, PUBACK, Version, Will, disconnect, property, publish_with, split_packet,
    subscribe,
};
use rollcall_harness::process::memory;
use rollcall_host::credentials::{Device, Edit, Secret};
use rollcall_wire::{DeviceId, Kind, Topic};

use self::serve::{Process, rollcall};

/// How many are sent in all.
const PACKETS: u64 = 200_000;

/// Of these, after which the memory is what it may be.
const WARM_UP: u64 = 50_000;

/// By how much the process may grow after that, in bytes.
const GROWTH_MAX: u64 = 8 << 20;

/// Devices that send them: so many that one whose password is changed too often to be let in is one of many.
const MUTANTS: usize = 256;

/// Who send them at a time.
const CLIENTS: usize = 16;

/// Packets to one connection: below the number from which those that are no messages have to wait.
const PACKETS_OF_A_CONNECTION: u64 = 40;

/// So many that are only garbled are sent at once, and one that is changed in any way.
const GROUP: u64 = 3;

/// What follows them: when it is answered, they were read.
const PING_REQUEST: [u8; 2] = [0xc0, 0];

const PING_RESPONSE: u8 = 13;

/// What is missing from a packet is made up to this length; of a longer one, the rest never comes.
const FILLED_MAX: usize = 2_048;

/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The device's samples are so old, which nobody else's are.
const PORCH_AGE_S: u64 = 1_000_000;

fn topic(device: &str, kind: Kind) -> String {
    Topic { device: DeviceId::new(device).unwrap(), kind }.name().to_string()
}

/// One of those who send what makes no sense.
struct Mutant<'a> {
    address: SocketAddr,
    logins: &'a [(String, String)],
    random: fastrand::Rng,
    /// Connections whose answer to CONNECT nobody waits for: a wrong password is answered after a second.
    lingering: VecDeque<TcpStream>,
}

/// A connection of a mutant.
struct Connected {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Mutant<'_> {
    /// Sends packets over one connection until it is closed, or enough were sent; how many.
    fn spend_a_connection(&mut self) -> u64 {
        let (device, password) = self.random.choice(self.logins).unwrap();
        let version = self.random.choice([Version::V5, Version::V311]).unwrap();
        let will_topic = topic(device, Kind::Status);
        let will =
            Will { qos: 1, retain: false, properties: &[], topic: &will_topic, payload: br#"{"status":1}"# };
        let properties =
            if version == Version::V5 { property::receive_maximum(8).to_vec() } else { Vec::new() };
        let connect = ConnectPacket {
            properties: &properties,
            will: self.random.bool().then_some(will),
            login: Some((device, password)),
            ..ConnectPacket::new(version, device)
        };
        let connect = connect.encode();
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if self.random.u8(..32) == 0 {
            let _ = stream.write_all(&mutated(&mut self.random, &connect));
            self.lingering.push_back(stream);
            if self.lingering.len() > 32 {
                self.lingering.pop_front();
            }
            return 1;
        }
        let _ = stream.write_all(&connect);
        let mut connection = Connected { stream, input: Vec::new() };
        // Whoever is shut out because its password was wrong too often is closed here.
        let mut open = connection.wait_for(CONNACK);
        let mut sent = 0;
        while open && sent < PACKETS_OF_A_CONNECTION {
            let mut bytes = Vec::new();
            for _ in 0..GROUP {
                let sample = sample(&mut self.random, version, device);
                bytes.extend(garbled(&mut self.random, &sample));
            }
            let valid = valid(&mut self.random, version, device);
            bytes.extend(mutated(&mut self.random, &valid));
            let whole = filled(&mut self.random, &mut bytes);
            bytes.extend(PING_REQUEST);
            let _ = connection.stream.write_all(&bytes);
            open = whole && connection.wait_for(PING_RESPONSE);
            sent += GROUP + 1;
        }
        sent
    }
}

impl Connected {
    /// Reads until such a packet comes; false when the connection is closed.
    fn wait_for(&mut self, wanted: u8) -> bool {
        let mut buffer = [0; 4_096];
        loop {
            while let Some((packet, length)) = split_packet(&self.input).unwrap() {
                let found = packet.kind() == wanted;
                self.input.drain(..length);
                if found {
                    return true;
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.input.extend(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("neither an answer nor an end within {PATIENCE:?}")
                }
                Err(_) => return false,
            }
        }
    }
}

/// A packet that a client may send.
fn valid(random: &mut fastrand::Rng, version: Version, device: &str) -> Vec<u8> {
    match random.u8(..8) {
        0 => subscribe(version, random.u16(1..), "rollcall/#"),
        1 => PING_REQUEST.to_vec(),
        2 => disconnect(0),
        _ => sample(random, version, device),
    }
}

fn sample(random: &mut fastrand::Rng, version: Version, device: &str) -> Vec<u8> {
    let (status, seq, boot, age_ms) = (random.u8(..7), random.u32(..), random.u8(..4), random.u16(..));
    let payload = match random.u8(..4) {
        0 => format!(r#"{{"status":{status}}}"#),
        _ => format!(r#"{{"status":{status},"seq":{seq},"boot":"{boot:016x}","age_ms":{age_ms}}}"#),
    };
    let (first, id) = if random.bool() { (0x30, None) } else { (0x32, Some(random.u16(1..))) };
    let expiry = random.bool().then_some(2_592_000);
    publish_with(version, first, id, &topic(device, Kind::Status), payload.as_bytes(), expiry)
}

/// The packet with other bytes at its end and the same length: what follows is read too, as a rule.
fn garbled(random: &mut fastrand::Rng, packet: &[u8]) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    for _ in 0..random.u8(1..4) {
        let at = random.usize(bytes.len() * 2 / 3..bytes.len());
        bytes[at] ^= random.u8(1..);
    }
    bytes
}

/// The packet with one to three changes anywhere; never as it was.
fn mutated(random: &mut fastrand::Rng, packet: &[u8]) -> Vec<u8> {
    loop {
        let mut bytes = packet.to_vec();
        for _ in 0..random.u8(1..4) {
            let (from, to) = (random.usize(..=bytes.len()), random.usize(..=bytes.len()));
            let (from, to) = (from.min(to), from.max(to));
            match random.u8(..6) {
                _ if bytes.is_empty() => bytes.push(random.u8(..)),
                0 => {
                    let at = random.usize(..bytes.len());
                    bytes[at] ^= 1 << random.u8(..8);
                }
                1 => {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.choice([0, 1, 0x7f, 0x80, 0xff]).unwrap();
                }
                2 => bytes.insert(from, random.u8(..)),
                3 => drop(bytes.drain(from..to.min(from + 4))),
                4 => {
                    let again = bytes[from..to].to_vec();
                    bytes.splice(from..from, again);
                }
                _ => bytes.truncate(to),
            }
        }
        if bytes != packet && !bytes.is_empty() {
            return bytes;
        }
    }
}

/// Adds what is missing for the last packet in `bytes` to be whole; false when that is too much.
fn filled(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) -> bool {
    let mut start = 0;
    while start < bytes.len() {
        match split_packet(&bytes[start..]) {
            Ok(Some((_, length))) => start += length,
            Ok(None) if bytes.len() < FILLED_MAX => bytes.push(random.u8(..)),
            Ok(None) => return false,
            // Its length is no length: the connection ends here.
            Err(_) => return true,
        }
    }
    true
}

/// What the metrics say, by name.
fn metrics(process: &Process) -> BTreeMap<String, u64> {
    let text = process.get("/metrics");
    let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
    samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

fn sum(metrics: &BTreeMap<String, u64>, name: &str) -> u64 {
    metrics.iter().filter(|(of, _)| of.starts_with(name)).map(|(_, value)| value).sum()
}

/// How many of each status are counted.
fn counts(process: &Process, start: u64, end: u64) -> Vec<u64> {
    let answer = process.get(&format!("/status_count?start={start}&end={end}"));
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    (0..7).map(|status: u8| body["counts"][status.to_string()].as_u64().unwrap()).collect()
}

/// Publishes at once and at each turn; how many of each status were taken.
fn publish_as_the_porch(address: SocketAddr, password: &str, turns: Receiver<()>) -> Vec<u64> {
    let mut taken = vec![0; 7];
    let mut client = Client::hello(address, Version::V5, "porch", Some(("porch", password)));
    assert_eq!(client.receive().unwrap().reason(), 0);
    let (topic, mut slowest) = (topic("porch", Kind::Status), Duration::ZERO);
    for seq in 0_usize.. {
        let status = seq % 7;
        let age_ms = PORCH_AGE_S * 1000;
        let payload =
            format!(r#"{{"status":{status},"seq":{seq},"boot":"9f3c5a0be1d24c77","age_ms":{age_ms}}}"#);
        let start = Instant::now();
        let answer = client.publish(&topic, payload.as_bytes()).unwrap();
        assert_eq!((answer.kind(), answer.reason()), (PUBACK, 0));
        slowest = slowest.max(start.elapsed());
        taken[status] += 1;
        if turns.recv().is_err() {
            println!("the porch published {} samples, the slowest within {slowest:?}", seq + 1);
            break;
        }
    }
    taken
}

#[test]
fn packets_that_make_no_sense_change_nobody_elses_counts_and_leave_nothing_behind() {
    let mut random = rollcall_harness::random();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("devices");
    let mut edit = Edit::open(&file).unwrap();
    let mut issue = |device: String| {
        let secret = Secret::random().unwrap();
        edit.list.add(Device::new(DeviceId::new(&device).unwrap(), &secret).unwrap()).unwrap();
        (device, secret.text().to_owned())
    };
    let (_, porch) = issue("porch".to_owned());
    let logins: Vec<_> = (0..MUTANTS).map(|number| issue(format!("mutant-{number}"))).collect();
    edit.write().unwrap().put_in_place().unwrap();
    let mut command = rollcall("serve", &format!("redb:{}", directory.path().join("data").display()));
    // It is about packets, not about writes.
    command.args(["--flush-interval", "50ms"]).arg("--devices-file").arg(&file);
    let process = Process::start_as(command);
    let start = Instant::now();
    let now_s = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();

    let (turn, turns) = sync_channel(1);
    let send = |packets: u64, random: &mut fastrand::Rng, turn: &SyncSender<()>| {
        let sent = AtomicU64::new(0);
        thread::scope(|scope| {
            for logins in logins.chunks(MUTANTS / CLIENTS) {
                let (address, random) = (process.mqtt, random.fork());
                let mut mutant = Mutant { address, logins, random, lingering: VecDeque::new() };
                let (sent, turn) = (&sent, turn.clone());
                scope.spawn(move || {
                    while sent.load(Ordering::Relaxed) < packets {
                        sent.fetch_add(mutant.spend_a_connection(), Ordering::Relaxed);
                        // Or it has not published since the last one.
                        let _ = turn.try_send(());
                    }
                });
            }
        });
    };
    let (taken, warm) = thread::scope(|scope| {
        let publishing = scope.spawn(|| publish_as_the_porch(process.mqtt, &porch, turns));
        send(WARM_UP, &mut random, &turn);
        let warm = memory(process.child.id()).unwrap().now;
        send(PACKETS - WARM_UP, &mut random, &turn);
        drop(turn);
        (publishing.join().unwrap(), warm)
    });
    println!("{PACKETS} packets were sent within {:?}", start.elapsed());

    // All that was taken is settled, and nobody is left.
    process.until_metric("rollcall_connections_open 0\n");
    process.until_metric("rollcall_messages_in_flight 0\n");
    let after = metrics(&process);
    let hours = (now_s() - PORCH_AGE_S - 7_200, now_s() - PORCH_AGE_S + 3_600);
    assert_eq!(counts(&process, hours.0, hours.1), taken);
    let all: u64 = counts(&process, 0, now_s() + 3_600).iter().sum();
    assert_eq!(all, after["rollcall_messages_accepted_total"]);
    let became = [
        "accepted_total",
        "duplicate_total",
        "undecided_total",
        "presence_total",
        "rejected_total",
        "dropped_total",
    ];
    let became: u64 = became.iter().map(|name| sum(&after, &format!("rollcall_messages_{name}"))).sum();
    assert_eq!(became, after["rollcall_messages_received_total"]);
    assert_eq!(sum(&after, "rollcall_restarts_total"), 0);
    // They were read, though some of their connections had ended before, and most are nothing that anybody takes.
    let ended = sum(&after, "rollcall_gateway_refusals_total");
    let refused = ended + sum(&after, "rollcall_messages_rejected_total");
    assert!(
        ended + after["rollcall_messages_received_total"] > PACKETS && refused > PACKETS / 2,
        "{after:#?}"
    );
    println!(
        "{refused} were refused, {all} samples are counted, {} of them the porch's",
        taken.iter().sum::<u64>()
    );

    // It goes on to serve.
    let (turn, turns) = sync_channel(0);
    drop(turn);
    publish_as_the_porch(process.mqtt, &porch, turns);
    let end = memory(process.child.id()).unwrap().now;
    println!("{warm} bytes after {WARM_UP} packets, {end} after {PACKETS}");
    assert!(end < warm + GROWTH_MAX, "it grew from {warm} to {end} bytes");
    let said = process.said();
    assert!(!said.contains("panicked") && !said.contains("ERROR"), "{said}");
}
