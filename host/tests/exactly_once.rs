//! `kill -9` of the real process while clients publish: afterwards the log holds each sample that was
//! acknowledged, and none twice. Every (device, boot, sequence) is looked at, not just sums.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{Client, PUBACK, Version, publish};
use rollcall_host::log::{LogStore, RedbStore};
use rollcall_wire::codec::{MESSAGE_EXPIRY_S, encode};
use rollcall_wire::{BootId, DeviceId, Kind, Reading, SampleId, Sequence, Slot, Status, Taken, Topic};

const DEVICES: u64 = 10;
const KILLS: u64 = 5;
/// As the emitter: so many publishes wait for their acknowledgement at most.
const IN_FLIGHT: usize = 8;
/// How many acknowledgements pass between two kills at least, so that each kill hits work.
const BETWEEN_KILLS: u64 = 300;

/// A `rollcall serve` that ends with this value.
struct Host {
    child: Child,
    mqtt: SocketAddr,
}

impl Host {
    fn start(data: &Path) -> Self {
        let store = format!("redb:{}", data.display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args([
                "serve",
                "--mqtt-listen",
                "127.0.0.1:0",
                "--http-listen",
                "127.0.0.1:0",
                "--store",
                &store,
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        let mqtt = log.find_map(|line| {
            let address =
                line.split_once("mqtt listening on ").map(|(_, address)| address.trim().parse().unwrap());
            seen.push(line);
            address
        });
        // The pipe must be read on, or the process would stall on a full one.
        thread::spawn(move || log.for_each(drop));
        let mqtt = mqtt.unwrap_or_else(|| panic!("rollcall did not start:\n{}", seen.join("\n")));
        Self { child, mqtt }
    }

    /// SIGKILL, which no process can catch.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the clients share with the test.
struct Fleet {
    /// Where the host listens now; `None` between a kill and a restart.
    host: Mutex<Option<SocketAddr>>,
    acknowledged: AtomicU64,
    sampling: AtomicBool,
}

/// Samples until told to stop, keeps each until it is acknowledged, and tells how many it took.
fn run_device(fleet: &Fleet, number: u64) -> u64 {
    let device = DeviceId::new(&format!("device-{number}")).unwrap();
    let topic = Topic { device, kind: Kind::Status }.name();
    let (mut outbox, mut taken) = (VecDeque::<u64>::new(), 0);
    while fleet.sampling.load(Ordering::Relaxed) || !outbox.is_empty() {
        let Some(address) = *fleet.host.lock().unwrap() else {
            thread::yield_now();
            continue;
        };
        let Some(mut client) = Client::try_connect(address, Version::V5) else { continue };
        let mut in_flight = 0;
        loop {
            while in_flight < IN_FLIGHT {
                if fleet.sampling.load(Ordering::Relaxed) && in_flight == outbox.len() {
                    outbox.push_back(taken);
                    taken += 1;
                }
                let Some(seq) = outbox.get(in_flight) else { break };
                client.send(&publish(
                    Version::V5,
                    (*seq % 60_000 + 1) as u16,
                    &topic,
                    &payload(number, *seq),
                    Some(MESSAGE_EXPIRY_S),
                ));
                in_flight += 1;
            }
            if in_flight == 0 {
                break;
            }
            // PUBACKs come in order, so each is that of the oldest.
            let Some(packet) = client.receive() else { break };
            assert_eq!((packet.kind(), packet.reason()), (PUBACK, 0));
            outbox.pop_front();
            in_flight -= 1;
            fleet.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
    taken
}

fn payload(device: u64, seq: u64) -> Vec<u8> {
    let id = Some(SampleId { boot: BootId(device), seq: Sequence::new(seq).unwrap() });
    let status = Status::new((seq % 7) as u8).unwrap();
    let (up_ms, run, taken) = (None, None, Taken::ThisRun);
    encode(&Reading { status, id, age_ms: 0, up_ms, run, taken }).as_bytes().to_vec()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn every_acknowledged_sample_is_in_the_log_once_after_kills_at_random_moments() {
    let mut random = common::random();
    let data = tempfile::tempdir().unwrap();
    let mut host = Host::start(data.path());
    let fleet = Arc::new(Fleet {
        host: Mutex::new(Some(host.mqtt)),
        acknowledged: AtomicU64::new(0),
        sampling: AtomicBool::new(true),
    });
    let devices: Vec<_> = (0..DEVICES)
        .map(|number| {
            let fleet = fleet.clone();
            thread::spawn(move || run_device(&fleet, number))
        })
        .collect();
    for _ in 0..KILLS {
        let goal = fleet.acknowledged.load(Ordering::Relaxed) + BETWEEN_KILLS + random.u64(..BETWEEN_KILLS);
        wait_until("messages were acknowledged", || fleet.acknowledged.load(Ordering::Relaxed) >= goal);
        host.kill();
        *fleet.host.lock().unwrap() = None;
        host = Host::start(data.path());
        *fleet.host.lock().unwrap() = Some(host.mqtt);
    }
    fleet.sampling.store(false, Ordering::Relaxed);
    let taken: Vec<u64> = devices.into_iter().map(|device| device.join().unwrap()).collect();
    host.kill();

    let mut logged = BTreeMap::<u64, BTreeSet<u64>>::new();
    let store = RedbStore::open(data.path()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for slot in Slot::all() {
        for entry in runtime.block_on(store.read(slot, 0, usize::MAX)).unwrap() {
            for record in entry.records {
                let id = record.id.unwrap();
                assert!(
                    logged.entry(id.boot.0).or_default().insert(id.seq.get()),
                    "{record:?} is there twice"
                );
            }
        }
    }
    for (device, taken) in (0..).zip(taken) {
        // Every sample was acknowledged in the end, so the log holds exactly those that were taken.
        assert!(
            logged.remove(&device).unwrap_or_default().into_iter().eq(0..taken),
            "device {device}, {taken} samples"
        );
    }
    assert!(logged.is_empty());
    println!("{} acknowledged", fleet.acknowledged.load(Ordering::Relaxed));
}
