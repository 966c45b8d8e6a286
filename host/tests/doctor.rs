//! `rollcall doctor` beside the processes that use a store, and when nobody does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::serve::{Process, rollcall, said};
use common::{device, entry};
use rollcall_harness::mqtt::{Client, Version};
use rollcall_host::intake::partition::Partition;
use rollcall_host::log::{Checkpoint, LogStore, RedbStore};
use rollcall_host::model::UnixMs;
use rollcall_wire::{Kind, Slot, Topic};

/// How many clients publish at once.
const CLIENTS: u64 = 4;

/// Whose devices none of them publishes for.
const QUIET_SLOT: u8 = 3;

fn redb(data: &Path) -> String {
    format!("redb:{}", data.display())
}

fn doctor(store: &str) -> (Option<i32>, String) {
    said(&mut rollcall("doctor", store))
}

/// Publishes as fast as it goes until `work` is done; each message is acknowledged. How many there were, of which so
/// many while the work was under way.
fn under_load<T>(mqtt: SocketAddr, work: impl FnOnce(&AtomicU64) -> T) -> T {
    let (done, published) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut random = common::random();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (mut random, done, published) = (random.fork(), &done, &published);
            scope.spawn(move || {
                let mut connection = Client::connect(mqtt, Version::V5);
                for seq in 0_u64.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let device = device(client + CLIENTS * random.u64(..10));
                    if Slot::of(&device).index() == usize::from(QUIET_SLOT) {
                        continue;
                    }
                    // Some late, so that windows of days are added to.
                    let age_ms = if random.u8(..4) == 0 { random.u64(..3 * 86_400_000) } else { 0 };
                    let payload = format!(
                        r#"{{"status":{},"seq":{seq},"boot":"{:016x}","age_ms":{age_ms}}}"#,
                        random.u8(..7),
                        random.u8(..3)
                    );
                    let topic = Topic { device, kind: Kind::Status }.name();
                    let answer = connection.publish(&topic, payload.as_bytes()).expect("no answer");
                    assert_eq!(answer.reason(), 0);
                    published.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&published)));
        done.store(true, Ordering::Relaxed);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Waits until so many more messages are acknowledged.
fn wait_for(published: &AtomicU64, more: u64) {
    let until = published.load(Ordering::Relaxed) + more;
    while published.load(Ordering::Relaxed) < until {
        thread::yield_now();
    }
}

/// Stores a chunk of the quiet slot, and counts a sample of it in another second: which.
async fn count_wrongly<S: LogStore>(store: &S) -> String {
    let mut random = common::random();
    let slot = Slot::new(QUIET_SLOT).unwrap();
    let mut partition = Partition::restore(slot, Checkpoint::default());
    let mut chunk = None;
    for number in 0_u64.. {
        let entry = entry(&mut random, QUIET_SLOT, number, number * 3, 3);
        store.append(std::slice::from_ref(&entry)).await.unwrap();
        chunk = partition.apply(&entry).unwrap();
        if chunk.is_some() {
            break;
        }
    }
    let mut chunk = chunk.unwrap();
    let (second, counts) = chunk.counts.pop_first().unwrap();
    *chunk.counts.entry(second + 1).or_default() += counts;
    store.apply(&[chunk]).await.unwrap();
    UnixMs(second * 1000).to_rfc3339()
}

fn assert_names(doctor: &(Option<i32>, String), second: &str) {
    let (code, said) = doctor;
    assert_eq!(*code, Some(1), "{said}");
    assert!(
        said.contains(&format!("FAIL  windows                  the second at {second}: stored nothing")),
        "{said}"
    );
    assert!(said.contains("doctor --repair"), "{said}");
}

#[test]
fn doctor_beside_a_serve_under_load_finds_nothing_wrong_and_holds_nobody_up() {
    let data = tempfile::tempdir().unwrap();
    let store = redb(data.path());
    let mut host = Process::start("serve", &store);
    under_load(host.mqtt, |published| {
        for _ in 0..5 {
            wait_for(published, 500);
            let before = published.load(Ordering::Relaxed);
            let (code, said) = doctor(&store);
            let meanwhile = published.load(Ordering::Relaxed) - before;
            println!("{said}{meanwhile} messages meanwhile");
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("skip  redb file ") && said.contains("pass  windows "), "{said}");
            assert!(meanwhile > 0, "nothing was stored meanwhile");
        }
    });
    assert!(host.get("/readyz").contains(" 200 "));
    // As after a crash, and once more after a start and a clean end.
    host.child.kill().unwrap();
    host.child.wait().unwrap();
    let file = data.path().join("rollcall.redb");
    let before = fs::read(&file).unwrap();
    let (code, said) = doctor(&store);
    println!("{said}");
    assert_eq!(code, Some(0), "{said}");
    // It may have been killed in the middle of a commit.
    let killed = ["pass  redb file ", "warn  redb file "].iter().any(|line| said.starts_with(line));
    assert!(killed && said.contains("pass  windows "), "{said}");
    assert!(fs::read(&file).unwrap() == before, "doctor has changed the file");
    let mut host = Process::start("serve", &store);
    assert!(Command::new("kill").arg(host.child.id().to_string()).status().unwrap().success());
    assert!(host.child.wait().unwrap().success());
    let (code, said) = doctor(&store);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("pass  redb file ") && said.contains("nobody uses it"), "{said}");
}

#[tokio::test]
async fn doctor_names_a_wrong_window_beside_a_serve_and_alone() {
    let data = tempfile::tempdir().unwrap();
    let second = count_wrongly(&RedbStore::open(data.path()).unwrap()).await;
    let store = redb(data.path());
    assert_names(&doctor(&store), &second);
    let host = Process::start("serve", &store);
    assert_names(&doctor(&store), &second);
    drop(host);
    let (code, said) = said(rollcall("doctor", &store).arg("--repair"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("pass  windows "), "{said}");
}

#[test]
fn where_the_process_that_uses_the_store_cannot_be_asked_doctor_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let _user = RedbStore::open(data.path()).unwrap();
    let (code, said) = doctor(&redb(data.path()));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot be asked") && said.contains("wait until it is done"), "{said}");
}

#[test]
fn a_doctor_that_is_killed_leaves_a_serve_that_answers_the_next() {
    let data = tempfile::tempdir().unwrap();
    let store = redb(data.path());
    let host = Process::start("serve", &store);
    under_load(host.mqtt, |published| {
        for _ in 0..10 {
            wait_for(published, 100);
            let mut killed =
                rollcall("doctor", &store).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            wait_for(published, 10);
            killed.kill().unwrap();
            killed.wait().unwrap();
        }
        let (code, said) = doctor(&store);
        assert_eq!(code, Some(0), "{said}");
    });
}

#[cfg(feature = "mongodb")]
#[test]
fn doctor_beside_an_ingest_into_mongodb_finds_what_is_wrong_and_nothing_else() {
    use common::mongod;
    use rollcall_host::log::mongo::{MongoAddress, MongoStore};

    if !mongod::available() {
        return;
    }
    let server = mongod::server();
    let url = server.mongod().url("doctor");
    let host = Process::start("ingest", &url);
    under_load(host.mqtt, |published| {
        for _ in 0..5 {
            wait_for(published, 500);
            let before = published.load(Ordering::Relaxed);
            let (code, said) = doctor(&url);
            let meanwhile = published.load(Ordering::Relaxed) - before;
            println!("{said}{meanwhile} messages meanwhile");
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("pass  windows ") && said.contains("pass  rows of devices "), "{said}");
            assert!(meanwhile > 0, "nothing was stored meanwhile");
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let second = runtime.block_on(async {
            count_wrongly(&MongoStore::open(&MongoAddress::new(&url)).await.unwrap()).await
        });
        assert_names(&doctor(&url), &second);
    });
}
