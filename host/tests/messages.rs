//! `/v1/messages` as its readers see it; `tests/store_contract/messages.rs` has what is found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use common::{device, record};
use futures_util::StreamExt;
use rollcall_host::api::{Api, Ending, router};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::remove_old_once;
use rollcall_host::log::{Fault, MemoryStore};
use rollcall_host::model::{Record, TimeError, UnixMs};
use rollcall_host::ops::Ops;
use rollcall_wire::Slot;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

/// As many as there may be.
const READERS_MAX: usize = 4;

async fn api(records: &[Record]) -> Router {
    api_over(Arc::default(), records).await
}

async fn api_over(store: Arc<MemoryStore>, records: &[Record]) -> Router {
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    // An entry each.
    for record in records {
        ingest.commit(&[*record], record.received_at).await.unwrap();
    }
    router(Api { store, ops: Arc::new(Ops::default()), issued: None })
}

async fn ask(api: &Router, query: &str) -> axum::response::Response {
    let request = Request::get(format!("/v1/messages?{query}")).body(Body::empty()).unwrap();
    api.clone().oneshot(request).await.unwrap()
}

async fn lines(api: &Router, query: &str) -> Vec<String> {
    let answer = ask(api, query).await;
    assert_eq!(answer.status(), StatusCode::OK, "{query}");
    let body = to_bytes(answer.into_body(), 10_000_000).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

fn samples(count: u64) -> Vec<Record> {
    let mut random = fastrand::Rng::with_seed(1);
    let sample = |seq| {
        let at = UnixMs(1_795_392_000_000 + seq * 1000);
        Record {
            sampled_at: at,
            received_at: UnixMs(at.0 + 20),
            time_error: TimeError::Exact,
            ..record(&mut random, device(1), seq)
        }
    };
    (0..count).map(sample).collect()
}

#[tokio::test]
async fn each_message_is_a_line_and_the_last_line_says_that_these_are_all() {
    let mut records = samples(3);
    records[1].id = None;
    records[2].time_error = TimeError::Unknown;
    let api = api(&records).await;
    let lines_of = lines(&api, "start=1795392000&end=1795392003").await;
    let parsed: Vec<Value> = lines_of.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let message = |number: usize, boot: Value, seq: Value, time_error: &str| {
        json!({
            "device": "device-1", "boot": boot, "seq": seq, "status": records[number].status.get(),
            "sampled_at": records[number].sampled_at.to_rfc3339(),
            "received_at": records[number].received_at.to_rfc3339(),
            "time_error": time_error, "kind": "sample",
        })
    };
    let boot = json!("0000000000000007");
    assert_eq!(parsed[0], message(0, boot.clone(), json!(0), "exact"));
    assert_eq!(parsed[1], message(1, Value::Null, Value::Null, "exact"));
    assert_eq!(parsed[2], message(2, boot, json!(2), "unknown"));
    assert_eq!((&parsed[3]["complete"], &parsed[3]["messages"]), (&json!(true), &json!(3)));
    assert_eq!(parsed.len(), 4);

    let csv = lines(&api, "start=1795392000&end=1795392001&format=csv").await;
    let Record { status, sampled_at, received_at, .. } = records[0];
    let (status, at, received) = (status.get(), sampled_at.to_rfc3339(), received_at.to_rfc3339());
    assert_eq!(csv[0], "device,boot,seq,status,sampled_at,received_at,time_error,kind");
    assert_eq!(csv[1], format!("device-1,0000000000000007,0,{status},{at},{received},exact,sample"));
    assert!(csv[2].starts_with("# complete: 1 messages, as of 2"), "{csv:?}");
    assert_eq!(csv.len(), 3);
}

#[tokio::test]
async fn an_empty_range_is_complete_and_a_wrong_question_is_refused() {
    let api = api(&samples(1)).await;
    let told = lines(&api, "start=0&end=0&device=nobody").await;
    assert!(told.len() == 1 && told[0].contains(r#""complete":true,"messages":0"#), "{told:?}");
    for (query, parameter) in [
        ("start=0", "end"),
        ("start=0&end=9&format=xml", "format"),
        ("start=0&end=9&device=a&device=b", "device"),
        ("start=0&end=9&limit=3", "limit"),
    ] {
        let answer = ask(&api, query).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
        let problem = to_bytes(answer.into_body(), 10_000).await.unwrap();
        let problem: Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!(problem["parameter"], parameter, "{problem}");
    }
}

#[tokio::test]
async fn a_range_of_which_messages_were_removed_is_gone_and_the_answer_says_since_when_all_are_there() {
    const DAY_MS: u64 = 86_400_000;
    let store = Arc::new(MemoryStore::default());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let first = samples(1)[0].sampled_at.0;
    for (day, record) in (0..).zip(samples(300)) {
        let at = UnixMs(first + day * DAY_MS / 3);
        let record = Record { sampled_at: at, received_at: at, ..record };
        ingest.commit(&[record], at).await.unwrap();
    }
    ingest.roll().await.unwrap();
    ingest.write_all_rows().await.unwrap();
    let api = router(Api { store: store.clone(), ops: Arc::new(Ops::default()), issued: None });
    let all = lines(&api, "start=0&end=9999999999").await;
    assert!(all.last().unwrap().contains(r#""complete":true,"messages":300"#), "{all:?}");
    let now = UnixMs(first + 100 * DAY_MS);
    assert_eq!(remove_old_once(&*store, "31d".parse().unwrap(), now).await.unwrap(), 192);

    for query in
        ["start=0&end=9999999999", "start=0&end=1&device=device-1", "start=1795392000&end=1795392003"]
    {
        let answer = ask(&api, query).await;
        assert_eq!(answer.status(), StatusCode::GONE, "{query}");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        let problem = to_bytes(answer.into_body(), 10_000).await.unwrap();
        let problem: Value = serde_json::from_slice(&problem).unwrap();
        let from = problem["complete_from"].as_str().unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(from), "{problem}");
        let told = lines(&api, &format!("start={from}&end=9999999999")).await;
        assert!(told.last().unwrap().contains(r#""complete":true,"messages":108"#), "{told:?}");
    }
    // Another slot has all of its own.
    let other = (0..).map(device).find(|other| Slot::of(other) != Slot::of(&device(1))).unwrap();
    let told = lines(&api, &format!("start=0&end=9999999999&device={other}")).await;
    assert!(told[0].contains(r#""complete":true,"messages":0"#), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_nothing_is_found_gives_the_place_back() {
    let store = Arc::new(MemoryStore::default());
    let api = api_over(store.clone(), &samples(500)).await;
    let of_device = "start=0&end=9999999999&device=device-1";
    let mut readers = Vec::new();
    for _ in 0..READERS_MAX {
        let mut told = ask(&api, of_device).await.into_body().into_data_stream();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // What comes after the second part is looked for, and not found.
        store.inject(Fault::HangRead);
        assert!(told.next().await.is_some());
        tokio::time::sleep(Duration::from_secs(1)).await;
        readers.push(told);
    }
    assert_eq!(ask(&api, of_device).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    readers.pop();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&api, of_device).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn readers_are_bounded_and_who_leaves_or_takes_nothing_gives_its_place_back() {
    let api = api(&samples(500)).await;
    let all = "start=0&end=9999999999";
    let mut readers = Vec::new();
    for _ in 0..READERS_MAX {
        let answer = ask(&api, all).await;
        assert_eq!(answer.status(), StatusCode::OK);
        readers.push(answer.into_body().into_data_stream());
    }
    let refused = ask(&api, all).await;
    assert_eq!(
        (refused.status(), &refused.headers()[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &"10".parse().unwrap())
    );
    // One leaves, and its place is free.
    readers.pop();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&api, all).await.status(), StatusCode::OK);
    // The others take nothing for a minute. What they are told then does not say that it is complete.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let mut told = String::new();
    while let Some(part) = readers[0].next().await {
        told += std::str::from_utf8(&part.unwrap()).unwrap();
    }
    assert!(!told.is_empty() && !told.contains("complete"), "{told}");
    assert_eq!(ask(&api, all).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_end_of_the_process_ends_an_answer_that_says_that_it_is_not_complete() {
    let api = api(&samples(2_000)).await;
    let (end, ended) = watch::channel(());
    let mut request = Request::get("/v1/messages?start=0&end=9999999999").body(Body::empty()).unwrap();
    request.extensions_mut().insert(Ending(ended));
    let mut body = api.oneshot(request).await.unwrap().into_body().into_data_stream();
    let mut told = body.next().await.unwrap().unwrap().to_vec();
    drop(end);
    while let Some(part) = body.next().await {
        told.extend(part.unwrap());
    }
    let told = String::from_utf8(told).unwrap();
    let last: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&last["complete"], &last["detail"]), (&json!(false), &json!("the host ends")));
}
