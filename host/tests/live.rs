//! `/v1/live` as its readers see it, and what they cost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode, header};
use common::serve::Process;
use common::{device, record};
use futures_util::StreamExt;
use rollcall_host::api::{Api, Ending, router};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::{Fault, LogStore, MemoryStore};
use rollcall_host::model::{Record, UnixMs};
use rollcall_host::ops::Ops;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(30);

/// As many as there may be.
const READERS_MAX: usize = 128;

fn signal(which: &str, pid: u32) {
    assert!(Command::new("kill").args([which, &pid.to_string()]).status().unwrap().success());
}

/// An API over a store, and how its process is.
struct Host<S> {
    router: Router,
    store: Arc<S>,
    ops: Arc<Ops>,
}

impl Host<MemoryStore> {
    fn new() -> Self {
        Self::over(MemoryStore::default())
    }
}

impl<S: LogStore> Host<S> {
    fn over(store: S) -> Self {
        let (store, ops) = (Arc::new(store), Arc::new(Ops::default()));
        let router = router(Api { store: store.clone(), ops: ops.clone(), issued: None });
        Self { router, store, ops }
    }

    async fn holds(&self, records: &[Record]) {
        let mut ingest = Ingest::open(self.store.clone()).await.unwrap();
        ingest.commit(records, UnixMs::now()).await.unwrap();
        ingest.write_all_rows().await.unwrap();
    }

    async fn read(&self, ending: Option<Ending>) -> (StatusCode, Reader) {
        let mut request = Request::get("/v1/live").body(Body::empty()).unwrap();
        if let Some(ending) = ending {
            request.extensions_mut().insert(ending);
        }
        let answer = tower::ServiceExt::oneshot(self.router.clone(), request).await.unwrap();
        if answer.status() == StatusCode::OK {
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        } else {
            assert_eq!(answer.headers()[header::RETRY_AFTER], "10");
        }
        (answer.status(), Reader { body: answer.into_body().into_data_stream(), rest: String::new() })
    }

    fn number(&self, name: &str) -> u64 {
        let text = self.ops.metrics.text(true);
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
    }
}

struct Reader {
    body: BodyDataStream,
    rest: String,
}

impl Reader {
    /// The next event and its name; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let of = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
                let told = (of("event:").to_owned(), serde_json::from_str(of("data:")).unwrap());
                self.rest = rest.to_owned();
                return Some(told);
            }
            let some = timeout(PATIENCE, self.body.next()).await.expect("nothing is told")?;
            self.rest += std::str::from_utf8(&some.unwrap()).unwrap();
        }
    }

    async fn second(&mut self) -> Value {
        let (event, second) = self.next().await.unwrap();
        assert_eq!(event, "second", "{second}");
        second
    }

    /// The first second that tells how the devices are: they are counted apart.
    async fn second_with_devices(&mut self) -> Value {
        loop {
            let second = self.second().await;
            if !second["devices"].is_null() {
                return second;
            }
        }
    }
}

#[tokio::test]
async fn a_reader_hears_of_each_second_what_was_counted_in_it_and_how_the_devices_are() {
    let mut random = common::random();
    let host = Host::new();
    let now = UnixMs::now().0;
    // Two samples in every second that may be told, whenever that is.
    let records: Vec<_> = (0..160)
        .map(|number| Record {
            sampled_at: UnixMs((now / 1000 - 20 + number / 2) * 1000 + 7),
            ..record(&mut random, device(number % 2), number / 2)
        })
        .collect();
    host.holds(&records).await;
    let mut reader = host.read(None).await.1;
    let (first, next) = (reader.second_with_devices().await, reader.second().await);
    for second in [&first, &next] {
        let of = second["second"].as_u64().unwrap();
        let status = |status: u8| {
            let taken = records.iter().filter(|one| one.sampled_at.second() == of);
            taken.filter(|one| one.status.get() == status).count()
        };
        for number in 0..7 {
            assert_eq!(second["counts"][number.to_string()], status(number), "{second}");
        }
        assert_eq!((&second["total"], &second["rate"]), (&2.into(), &2.0.into()), "{second}");
        assert_eq!(second["devices"]["online"], 2, "{second}");
        assert_eq!((&second["devices"]["silent"], &second["mqtt_port"]), (&Value::Null, &Value::Null));
        assert!(second["as_of"].as_str() >= Some(UnixMs(now).to_rfc3339().as_str()), "{second}");
    }
    assert!(next["second"].as_u64() > first["second"].as_u64(), "{first} {next}");
}

#[tokio::test]
async fn it_is_told_since_when_devices_are_silent_and_what_of_them_is_missing() {
    let mut random = common::random();
    let host = Host::new();
    let now = UnixMs::now().0;
    let sample = |random: &mut fastrand::Rng, number, seq, ago_s: u64| Record {
        sampled_at: UnixMs(now - ago_s * 1000),
        ..record(random, device(number), seq)
    };
    // Period 1 s; of the second, three are missing; the third is offline, the last is well.
    let records: Vec<_> =
        [(0, 0, 601), (0, 1, 600), (1, 0, 905), (1, 5, 900), (2, 0, 200_001), (2, 1, 200_000), (3, 0, 0)]
            .map(|(number, seq, ago_s)| sample(&mut random, number, seq, ago_s))
            .to_vec();
    host.holds(&records).await;
    let devices = host.read(None).await.1.second_with_devices().await["devices"].take();
    for (state, number) in [("online", 1), ("stale", 2), ("offline", 1), ("never_seen", 0), ("missing", 4)] {
        assert_eq!(devices[state], number, "{devices}");
    }
    let silent = [("first", 900), ("last", 600)];
    for (which, ago_s) in silent {
        assert_eq!(devices["silent"][which], UnixMs(now - ago_s * 1000).to_rfc3339(), "{devices}");
    }
}

#[tokio::test]
async fn readers_are_bounded_and_who_leaves_gives_its_place_back() {
    let host = Host::new();
    let mut readers = Vec::new();
    for _ in 0..READERS_MAX {
        let (status, reader) = host.read(None).await;
        assert_eq!(status, StatusCode::OK);
        readers.push(reader);
    }
    assert_eq!(host.read(None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(host.number("rollcall_live_readers"), READERS_MAX as u64);
    assert_eq!(host.number("rollcall_live_refused_total"), 1);
    readers.pop();
    assert_eq!(host.read(None).await.0, StatusCode::OK);
    drop(readers);
    assert_eq!(host.number("rollcall_live_readers"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_misses_seconds_and_holds_up_nobody() {
    let host = Host::new();
    let (mut slow, mut quick) = (host.read(None).await.1, host.read(None).await.1);
    slow.second().await;
    for _ in 0..20 {
        quick.second().await;
    }
    slow.second().await;
    // What the slow one missed is not kept for it.
    let next = timeout(Duration::from_millis(900), slow.next()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test]
async fn the_stream_ends_with_the_process() {
    let host = Host::new();
    let (end, ended) = watch::channel(());
    let mut reader = host.read(Some(Ending(ended))).await.1;
    reader.second().await;
    drop(end);
    while let Some((event, _)) = reader.next().await {
        assert_eq!(event, "second");
    }
    assert_eq!(host.number("rollcall_live_readers"), 1, "its place is given back with the answer");
    drop(reader);
    assert_eq!(host.number("rollcall_live_readers"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_asked_once_whoever_comes_and_goes() {
    let host = Host::new();
    for _ in 0..3 {
        host.store.inject(Fault::HangView);
    }
    // More than one of three would be answered before the last.
    for _ in 0..10 {
        let mut reader = host.read(None).await.1;
        for _ in 0..5 {
            let (event, told) = reader.next().await.unwrap();
            assert_eq!((event.as_str(), &told["detail"]), ("problem", &"the store does not answer".into()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_ten_minutes() {
    let host = Host::new();
    let (mut reader, started) = (host.read(None).await.1, Instant::now());
    while reader.next().await.is_some() {}
    assert_eq!(started.elapsed().as_secs(), 600);
}

#[cfg(feature = "mongodb")]
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_a_problem_that_is_told_and_what_comes_after_it_too() {
    use rollcall_host::log::mongo::MongoStore;

    if !common::mongod::available() {
        return;
    }
    let server = common::mongod::own_server();
    let host = Host::over(MongoStore::open(&server.fresh_database()).await.unwrap());
    let mut reader = host.read(None).await.1;
    reader.second().await;
    signal("-STOP", server.mongod().process().pid());
    let problem = loop {
        if let (event, told) = reader.next().await.unwrap()
            && event == "problem"
        {
            break told;
        }
    };
    assert_eq!((&problem["status"], &problem["detail"]), (&503.into(), &"the store does not answer".into()));
    signal("-CONT", server.mongod().process().pid());
    while reader.next().await.unwrap().0 != "second" {}
}

#[test]
fn a_process_that_is_asked_to_end_does_not_wait_for_its_readers() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start("serve", &format!("redb:{}", directory.path().join("data").display()));
    let mut reader = TcpStream::connect(process.http).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    reader.write_all(b"GET /v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut told = String::new();
    let mut lines = BufReader::new(reader);
    while !told.contains("event: second") {
        assert!(lines.read_line(&mut told).unwrap() > 0, "{told}");
    }
    signal("-TERM", process.child.id());
    // The end of the stream, and not of the connection alone.
    lines.read_to_string(&mut told).unwrap();
    assert!(told.ends_with("0\r\n\r\n"), "{told}");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let said = process.said();
    assert!(said.contains("drained") && !said.contains("still open"), "{said}");
}
