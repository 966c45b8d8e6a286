//! `/v1/differs` against what a list of all records says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use common::{START_S, brute_force, device};
use rollcall_host::api::{Api, router};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::{LogStore, MemoryStore, RedbStore};
use rollcall_host::model::{Record, UnixMs};
use rollcall_wire::DeviceId;
use serde_json::{Value, json};
use tower::ServiceExt;

async fn get(api: &Router, query: &str) -> (StatusCode, Value) {
    let request = Request::get(format!("/v1/differs?{query}")).body(Body::empty()).unwrap();
    let response = api.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 10_000_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn holding<S: LogStore>(store: S, records: &[Record]) -> Router {
    let store = Arc::new(store);
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    for some in records.chunks(40) {
        ingest.commit(some, UnixMs::now()).await.unwrap();
    }
    ingest.roll().await.unwrap();
    ingest.write_all_rows().await.unwrap();
    router(Api { store, ops: Arc::default(), issued: None })
}

/// Samples of three hours; a few devices are much louder than others.
fn records(random: &mut fastrand::Rng) -> Vec<Record> {
    let sample = |seq| {
        let number = if random.bool() { random.u64(..3) } else { random.u64(..40) };
        let sampled_at = UnixMs((START_S + random.u64(..3 * 3600)) * 1000);
        Record { sampled_at, ..common::record(random, device(number), seq) }
    };
    (0..2_000).map(sample).collect()
}

fn total(counts: &Value) -> [u64; 7] {
    std::array::from_fn(|status| counts[status.to_string()].as_u64().unwrap())
}

#[tokio::test]
async fn it_names_those_that_differ_most_from_the_same_length_before() {
    let mut random = common::random();
    let records = records(&mut random);
    let directory = tempfile::tempdir().unwrap();
    let redb = RedbStore::open(directory.path()).unwrap();
    let stores = [holding(MemoryStore::default(), &records).await, holding(redb, &records).await];
    for _ in 0..20 {
        let length = random.u64(1..90) * 60;
        let start = START_S / 60 * 60 + random.u64(..180) * 60;
        let (before, here) = (start - length..start, start..start + length);
        let of = |device: Option<DeviceId>, range: &Range<u64>| {
            let wanted = records.iter().filter(|record| device.is_none_or(|device| device == record.device));
            brute_force(wanted, range).statuses
        };
        let difference = |a: [u64; 7], b: [u64; 7]| a.iter().zip(b).map(|(a, b)| a.abs_diff(b)).sum::<u64>();
        let mut differing = BTreeMap::new();
        for device in (0..40).map(device) {
            let (before, here) = (of(Some(device), &before), of(Some(device), &here));
            if difference(before, here) > 0 {
                differing.insert((u64::MAX - difference(before, here), device), (before, here));
            }
        }
        for api in &stores {
            let (status, answer) = get(api, &format!("start={}&end={}", here.start, here.end)).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            assert_eq!(
                (&answer["before"], &answer["devices_differing"]),
                (&json!(before.start), &json!(differing.len()))
            );
            let named = answer["devices"].as_array().unwrap();
            assert_eq!(named.len(), differing.len().min(20));
            for (named, ((rest, device), (before, here))) in named.iter().zip(&differing) {
                assert_eq!(named["device"], device.as_str(), "{answer}");
                assert_eq!(named["difference"], u64::MAX - rest);
                assert_eq!((total(&named["before"]), total(&named["here"])), (*before, *here));
            }
            let (all_before, all_here) = (of(None, &before), of(None, &here));
            let statuses = answer["statuses"].as_array().unwrap();
            let changes: Vec<_> = statuses
                .iter()
                .map(|status| {
                    let number = status["status"].as_u64().unwrap() as usize;
                    assert_eq!(
                        (&status["before"], &status["here"]),
                        (&json!(all_before[number]), &json!(all_here[number]))
                    );
                    all_before[number].abs_diff(all_here[number])
                })
                .collect();
            assert_eq!(statuses.len(), 7);
            assert!(changes.is_sorted_by(|a, b| a >= b), "{changes:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_a_problem_that_says_why() {
    let api = holding(MemoryStore::default(), &[]).await;
    for (query, parameter, reason) in [
        ("start=120&end=181", "end", "end can be 180 or 240"),
        ("start=0&end=60", "start", "before 1970"),
        ("start=172800&end=259260", "end", "1441 minutes, and at most 1440"),
        ("start=60&end=120&device=d", "device", "only start and end"),
    ] {
        let (status, problem) = get(&api, query).await;
        assert_eq!(
            (status, &problem["parameter"]),
            (StatusCode::BAD_REQUEST, &json!(parameter)),
            "{problem}"
        );
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{query}: {problem}");
    }
    let (status, answer) = get(&api, "start=86400&end=172800").await;
    assert_eq!((status, &answer["devices"]), (StatusCode::OK, &json!([])), "{answer}");
}
