//! A backup of the embedded store, while it is written and when it is cut off.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use common::serve::{Process, rollcall};
use common::{SPAN_S, START_S, brute_force, device, range, record};
use rollcall_harness::mqtt::{Client, Version};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::plan::{Plan, total};
use rollcall_host::log::redb::Progress;
use rollcall_host::log::{LogStore, RedbStore};
use rollcall_host::model::{Entry, UnixMs};
use rollcall_wire::{Kind, Slot, Topic};
use tokio::sync::watch;

const NOW: UnixMs = UnixMs((START_S + SPAN_S) * 1000);

/// Stores `flushes` times 100 random records, beginning with sequence `seq`.
async fn write(ingest: &mut Ingest<RedbStore>, random: &mut fastrand::Rng, seq: u64, flushes: u64) {
    for seq in seq..seq + flushes {
        let records: Vec<_> = (0..100).map(|number| record(random, device(number), seq)).collect();
        ingest.commit(&records, NOW).await.unwrap();
        ingest.roll().await.unwrap();
    }
}

async fn log(store: &RedbStore, slot: Slot) -> Vec<Entry> {
    store.read(slot, 0, usize::MAX).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_while_messages_are_stored_holds_the_start_of_each_log_and_its_windows() {
    let mut random = common::random();
    let (directory, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = RedbStore::open(directory.path()).unwrap();
    let mut ingest = Ingest::open(Arc::new(store.clone())).await.unwrap();
    write(&mut ingest, &mut random, 0, 200).await;
    let mut before = Vec::new();
    for slot in Slot::all() {
        before.push(log(&store, slot).await.len());
    }
    let made = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (made, mut random) = (made.clone(), random.fork());
        async move {
            let mut seq = 200;
            while !made.load(Ordering::SeqCst) {
                write(&mut ingest, &mut random, seq, 1).await;
                seq += 1;
            }
            seq - 200
        }
    });
    let (progress, seen) = watch::channel(Progress::default());
    let copied = store.backup(to.path(), progress).await.unwrap();
    made.store(true, Ordering::SeqCst);
    println!("{} flushes meanwhile", writing.await.unwrap());
    assert_eq!(*seen.borrow(), copied);

    let copy = RedbStore::open(to.path()).unwrap();
    let mut records = Vec::new();
    for slot in Slot::all() {
        let (original, copied) = (log(&store, slot).await, log(&copy, slot).await);
        assert!(copied.len() >= before[slot.index()], "slot {slot} lost what was stored before");
        assert_eq!(copied, original[..copied.len()], "slot {slot}");
        records.extend(copied.into_iter().flat_map(|entry| entry.records));
    }
    assert!(records.len() >= 20_000);
    for range in std::iter::once(0..4_000_000_000).chain((0..100).map(|_| range(&mut random))) {
        let plan = Plan::new(range.clone());
        let counted = total(&plan, &copy.view(&plan).await.unwrap());
        assert_eq!(counted, brute_force(&records, &range), "{range:?}");
    }
    // It is a store like any other, which goes on where it was.
    let mut ingest = Ingest::open(Arc::new(copy)).await.unwrap();
    write(&mut ingest, &mut random, 1_000_000, 70).await;
}

/// What it has counted: the reply without the time of the question.
fn counts(host: &Process) -> String {
    let answer = host.get("/status_count?start=0&end=4000000000");
    let (counts, _) = answer.split_once("\"as_of\"").unwrap_or_else(|| panic!("{answer}"));
    counts[counts.find('{').unwrap()..].to_owned()
}

fn redb(data: &Path) -> String {
    format!("redb:{}", data.display())
}

fn serve(data: &Path) -> Process {
    Process::start("serve", &redb(data))
}

fn backup(data: &Path, to: &Path) -> Output {
    rollcall("backup", &redb(data)).arg("--to").arg(to).output().unwrap()
}

/// Publishes so many messages; each is acknowledged when this returns.
fn publish(host: &Process, count: usize) {
    let topic = Topic { device: device(1), kind: Kind::Status }.name();
    let mut client = Client::connect(host.mqtt, Version::V5);
    for number in 0..count {
        let payload = format!(r#"{{"status":{}}}"#, number % 7);
        let answer = client.publish(&topic, payload.as_bytes()).expect("no answer");
        assert_eq!(answer.reason(), 0);
    }
}

#[test]
fn a_running_host_makes_a_copy_from_which_another_answers_the_same() {
    let (data, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = parent.path().join("copy");
    let host = serve(data.path());
    let socket = data.path().join("rollcall.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    publish(&host, 100);
    let counted = counts(&host);
    assert!(counted.contains("\"total\":100"), "{counted}");
    let made = backup(data.path(), &to);
    assert!(made.status.success(), "{made:?}");
    publish(&host, 50);
    let again = backup(data.path(), &to);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is a store in"), "{again:?}");
    let other = serve(&to);
    assert_eq!(counts(&other), counted);
    // What was left by a process that was killed is in nobody's way, neither of a copy nor of a start.
    drop(host);
    assert!(socket.exists());
    let alone = backup(data.path(), &parent.path().join("alone"));
    assert!(alone.status.success(), "{alone:?}");
    let mut host = serve(data.path());
    assert!(counts(&host).contains("\"total\":150"));
    let asked = Command::new("kill").arg(host.child.id().to_string()).status().unwrap();
    assert!(asked.success() && host.child.wait().unwrap().success());
    assert!(!socket.exists(), "the socket is left behind");
}

#[test]
fn requests_that_are_none_are_refused_by_name_and_the_next_is_answered() {
    let (data, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = serve(data.path());
    let socket = data.path().join("rollcall.sock");
    for request in [
        &b"nonsense\n"[..],
        b"\n",
        b"backup \n",
        b"backup relative\n",
        b"backup /dev/null/copy\n",
        &[b'x'; 9000],
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.contains("error "), "{answer}");
    }
    let made = backup(data.path(), to.path());
    assert!(made.status.success(), "{made:?}");
    assert!(host.get("/readyz").contains(" 200 "));
}

#[tokio::test]
async fn a_copy_that_is_killed_leaves_no_store_and_one_that_is_made_is_whole() {
    let mut random = common::random();
    let data = tempfile::tempdir().unwrap();
    {
        let mut ingest = Ingest::open(Arc::new(RedbStore::open(data.path()).unwrap())).await.unwrap();
        write(&mut ingest, &mut random, 0, 200).await;
    }
    let whole = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let expected = backup(data.path(), whole.path()).stdout;
    let took = began.elapsed();
    let expected = String::from_utf8(expected).unwrap();
    let rows = expected.split(' ').next().unwrap();
    let mut cut_off = 0;
    for _ in 0..15 {
        let to = tempfile::tempdir().unwrap();
        let mut copying = rollcall("backup", &redb(data.path()))
            .arg("--to")
            .arg(to.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Some die while they begin, some while they copy, some when they are done.
        thread::sleep(took.mul_f64(random.f64()));
        copying.kill().unwrap();
        copying.wait().unwrap();
        cut_off += u32::from(to.path().join("rollcall.redb.new").exists());
        if to.path().join("rollcall.redb").exists() {
            let again = tempfile::tempdir().unwrap();
            let copied = String::from_utf8(backup(to.path(), again.path()).stdout).unwrap();
            assert_eq!(copied.split(' ').next().unwrap(), rows, "a part of a store has its name");
        } else {
            assert!(backup(data.path(), to.path()).status.success(), "what is left is in the way");
        }
    }
    println!("{cut_off} of 15 were cut off while they copied");
    assert!(cut_off > 0);
}
