//! What one host tells of its messages, another one takes, each once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::serve::{Process, rollcall};
use rollcall_harness::mqtt::{Client, PUBACK, Version};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::remove_old_once;
use rollcall_host::log::RedbStore;
use rollcall_host::log::row::OPEN_BOOTS_MAX;
use rollcall_host::model::{Record, RecordKind, TimeError, UnixMs, hashed_id};
use rollcall_wire::{DeviceId, Kind, Slot, Topic};

const DAY_MS: u64 = 86_400_000;

const ALL: &str = "start=0&end=9999999999";

fn get(address: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{path}: {answer}");
    body.to_owned()
}

fn publish(client: &mut Client, device: &str, payload: &str) {
    let topic = Topic { device: DeviceId::new(device).unwrap(), kind: Kind::Status }.name();
    let answer = client.publish(&topic, payload.as_bytes()).unwrap();
    assert!(answer.kind() == PUBACK && answer.reason() == 0, "{payload}: {answer:02x?}");
}

fn stop(mut process: Process) {
    assert!(
        Command::new("kill").args(["-TERM", &process.child.id().to_string()]).status().unwrap().success()
    );
    assert!(process.child.wait().unwrap().success());
}

/// A host with more boots of a device than are open, late samples, and messages without numbers, some of which are alike.
fn record(data: &Path) -> Process {
    let process = Process::start("serve", &format!("redb:{}", data.display()));
    let mut client = Client::connect(process.mqtt, Version::V5);
    for boot in 0..OPEN_BOOTS_MAX as u64 + 5 {
        for seq in [0, 1, 3] {
            let age_ms = 1_000 * (100 - boot);
            let payload =
                format!(r#"{{"status":{},"seq":{seq},"boot":"{boot:016x}","age_ms":{age_ms}}}"#, seq % 7);
            publish(&mut client, "porch", &payload);
        }
    }
    for seq in 0..200 {
        let payload = format!(
            r#"{{"status":{},"seq":{seq},"boot":"0123456789abcdef","age_ms":{}}}"#,
            seq % 7,
            seq * 10
        );
        publish(&mut client, if seq % 2 == 0 { "attic" } else { "barn" }, &payload);
    }
    for _ in 0..20 {
        publish(&mut client, "cellar", r#"{"status":5}"#);
    }
    client.leave();
    process
}

/// What is counted, in all and by the second.
fn counted(data: &Path, range: &str) -> (String, String) {
    let process = Process::start("serve", &format!("redb:{}", data.display()));
    let counts = |path: &str| {
        let answer = get(process.http, path);
        answer.split(r#","as_of""#).next().unwrap().to_owned()
    };
    let counted = (counts(&format!("/status_count?{ALL}")), counts(&format!("/v1/series?{range}&step=1")));
    stop(process);
    counted
}

/// What it printed, and whether it ended well.
fn import(file: &Path, data: &Path) -> (bool, String) {
    let mut command = rollcall("import", &format!("redb:{}", data.display()));
    let output = command.arg("--from").arg(file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.success(), said)
}

#[test]
fn what_is_told_is_taken_once_from_either_format_and_by_its_own_host_not_again() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    let now = rollcall_host::model::UnixMs::now().second();
    let process = record(&first);
    let (ndjson, csv) = (dir.path().join("all.ndjson"), dir.path().join("all.csv"));
    fs::write(&ndjson, get(process.http, &format!("/v1/messages?{ALL}"))).unwrap();
    fs::write(&csv, get(process.http, &format!("/v1/messages?{ALL}&format=csv"))).unwrap();
    stop(process);
    let range = format!("start={}&end={}", now - 200, now + 60);
    let told = counted(&first, &range);

    let all = 3 * (OPEN_BOOTS_MAX + 5) + 220;
    let (is_good, said) = import(&ndjson, &second);
    assert!(
        is_good && said.contains(&format!("\n{all} imported")) && !said.contains("may be more"),
        "{said}"
    );
    assert_eq!(counted(&second, &range), told);
    // Again, from either file, and into where they are from.
    for (file, data) in [(&ndjson, &second), (&csv, &second), (&csv, &first), (&ndjson, &first)] {
        let (is_good, said) = import(file, data);
        assert!(is_good && said.contains("\n0 imported"), "{said}");
        assert!(said.contains(&format!("{all} were there already")), "{said}");
        assert_eq!(counted(data, &range), told);
    }
}

/// 60 days of samples of a device, of documents that were imported for it, and of messages without numbers.
async fn record_for_months(data: &Path, now: u64) {
    let mut random = common::random();
    let mut ingest = Ingest::open(Arc::new(RedbStore::open(data).unwrap())).await.unwrap();
    for nth in 0..600 {
        let at = UnixMs(now - 60 * DAY_MS + nth * DAY_MS / 10);
        let sample = Record {
            sampled_at: at,
            received_at: at,
            time_error: TimeError::Exact,
            ..common::record(&mut random, DeviceId::new("porch").unwrap(), nth)
        };
        let document =
            Record { id: Some(hashed_id(&nth.to_le_bytes())), kind: RecordKind::Imported, ..sample };
        let mut records = vec![sample, document];
        if nth % 10 == 0 {
            // Two that are alike.
            records.extend([Record { id: None, ..sample }; 2]);
        }
        ingest.commit(&records, at).await.unwrap();
    }
    ingest.roll().await.unwrap();
    ingest.write_all_rows().await.unwrap();
}

#[test]
fn what_was_removed_is_not_counted_again_and_what_nobody_can_tell_is_refused_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let now = UnixMs::now().0;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(record_for_months(&data, now));
    let process = Process::start("serve", &format!("redb:{}", data.display()));
    let told = get(process.http, &format!("/v1/messages?{ALL}"));
    stop(process);
    let range = format!("start={}&end={}", now / 1000 - 4_000, now / 1000);
    let before = counted(&data, &range);
    let gone = runtime.block_on(async {
        let store = RedbStore::open(&data).unwrap();
        remove_old_once(&store, "31d".parse().unwrap(), UnixMs(now)).await.unwrap()
    });
    assert_eq!(gone, 256);

    let is_bare = |line: &&str| line.contains(r#""seq":null"#);
    let (all, numbered) = (dir.path().join("all.ndjson"), dir.path().join("numbered.ndjson"));
    fs::write(&all, &told).unwrap();
    fs::write(&numbered, told.lines().filter(|line| !is_bare(line)).collect::<Vec<_>>().join("\n")).unwrap();
    for _ in 0..2 {
        let (is_good, said) = import(&numbered, &data);
        assert!(is_good && said.contains("\n0 imported\n1200 were there already"), "{said}");
        // Of bare messages that are gone no identity is kept.
        let (is_good, said) = import(&all, &data);
        assert!(!is_good && said.contains("\n0 imported"), "{said}");
        assert!(said.contains("52 refused: of days of which the store has removed messages"), "{said}");
        assert_eq!(counted(&data, &range), before);
    }
    // Of a device that is not known: of such a day it may have been counted, and of another one it was not.
    let porch = DeviceId::new("porch").unwrap();
    let other = (0..).map(common::device).find(|other| Slot::of(other) == Slot::of(&porch)).unwrap();
    let at = |days: u64| UnixMs(now - days * DAY_MS).to_rfc3339();
    let line = |seq: u64, days: u64| format!("{other},00000000000000aa,{seq},3,{}\n", at(days));
    let unknown = dir.path().join("unknown.csv");
    let text = format!("device,boot,seq,status,sampled_at\n{}{}{}", line(1, 50), line(2, 20), line(3, 45));
    fs::write(&unknown, text).unwrap();
    for imported in [1, 0] {
        let (is_good, said) = import(&unknown, &data);
        assert!(!is_good && said.contains(&format!("\n{imported} imported")), "{said}");
        assert!(said.contains("2 refused: of days of which"), "{said}");
    }
}

#[test]
fn what_is_no_message_is_refused_by_name_and_the_others_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("some.csv"), dir.path().join("data"));
    let long = "x".repeat(100_000);
    let text = format!(
        "sampled_at,status,device\n2026-11-23T00:00:00Z,3,porch\n2026-11-23T00:00:00Z,7,porch\n\
         yesterday,3,porch\n{long}\n2026-11-23T00:00:00Z,3\n\"2026-11-23T00:00:01Z\",\"4\",\"attic\"\n"
    );
    fs::write(&file, text).unwrap();
    let (is_good, said) = import(&file, &data);
    assert!(!is_good, "{said}");
    for line in [
        "6 messages read",
        "2 imported",
        "1 refused: status is not a whole number from 0 to 6",
        "1 refused: sampled_at or received_at is no time: write RFC 3339 with an offset",
        "1 refused: longer than 4096 bytes",
        "1 refused: another number of fields than the head has",
        "may be more",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
    let (is_good, said) = import(&dir.path().join("nothing"), &data);
    assert!(!is_good && said.contains("nothing"), "{said}");
}
