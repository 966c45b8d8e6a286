//! `completeness=true`, rule by rule, as a client asks for it; `tests/store_contract/completeness.rs` has random data.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use common::{device, record};
use rollcall_host::api::{Api, router};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::MemoryStore;
use rollcall_host::log::row::OPEN_BOOTS_MAX;
use rollcall_host::model::{Record, RecordKind, TimeError, UnixMs};
use rollcall_host::ops::Ops;
use rollcall_wire::{BootId, SampleId, Sequence};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A sample of device 1, of the second at which it was taken, and in time.
fn sample(boot: u64, seq: u64, second: u64) -> Record {
    let mut random = fastrand::Rng::with_seed(seq);
    let id = SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() };
    let at = UnixMs(second * 1000);
    let time_error = TimeError::Exact;
    Record { id: Some(id), sampled_at: at, received_at: at, time_error, ..record(&mut random, device(1), 0) }
}

async fn api(records: &[Record]) -> Router {
    let store = Arc::new(MemoryStore::default());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    for record in records {
        ingest.commit(&[*record], record.received_at).await.unwrap();
    }
    ingest.write_all_rows().await.unwrap();
    router(Api { store, ops: Arc::new(Ops::default()), issued: None })
}

async fn get(api: &Router, uri: &str) -> (StatusCode, Value) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let response = api.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 10_000_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// The completeness of a range in whole minutes: of the fleet, which is device 1, and the same of the device.
async fn of(api: &Router, start: u64, end: u64) -> Value {
    let uri = format!("/v1/counts?start={start}&end={end}&completeness=true");
    let (status, mut fleet) = get(api, &uri).await;
    assert_eq!(status, StatusCode::OK, "{fleet}");
    let (status, mut alone) = get(api, &format!("{uri}&device=device-1")).await;
    assert_eq!(status, StatusCode::OK, "{alone}");
    let completeness = fleet["completeness"].take();
    assert_eq!(alone["devices"][0]["completeness"].take(), completeness, "{uri}");
    assert_eq!(fleet["total"], completeness["seen"], "{uri}");
    completeness
}

/// The numbers of it in the order in which they are documented.
fn numbers(completeness: &Value) -> [u64; 7] {
    ["seen", "missing", "expected", "unknown", "undecided", "late", "time_uncertain"]
        .map(|name| completeness[name].as_u64().unwrap())
}

#[tokio::test]
async fn missing_samples_lie_evenly_between_their_neighbours() {
    // Nine, 20 s apart.
    let api = api(&[sample(1, 0, 100), sample(1, 10, 300)]).await;
    for (start, end, missing) in [(60, 120, 0), (120, 180, 3), (180, 240, 3), (240, 300, 3), (60, 360, 9)] {
        let completeness = of(&api, start, end).await;
        assert_eq!(completeness["missing"], missing, "{start} to {end}: {completeness}");
    }
}

#[tokio::test]
async fn what_arrives_late_shrinks_a_gap() {
    let late = Record { received_at: UnixMs(9_000_000), ..sample(1, 5, 205) };
    let all = [sample(1, 0, 200), sample(1, 10, 210), late];
    assert_eq!(numbers(&of(&api(&all[..2]).await, 180, 240).await)[..3], [2, 9, 11]);
    assert_eq!(numbers(&of(&api(&all).await, 180, 240).await)[..3], [3, 8, 11]);
}

#[tokio::test]
async fn before_a_boots_first_sample_and_after_its_last_is_unknown_and_not_missing() {
    // The first boot is heard from its third sample on. The second begins at 300 s and is heard from 305 s on.
    let records = [sample(1, 3, 123), sample(1, 4, 124), sample(2, 5, 305), sample(2, 6, 306)];
    let api = api(&records).await;
    assert_eq!(numbers(&of(&api, 60, 120).await)[..4], [0, 0, 0, 0], "before there was a device");
    assert_eq!(numbers(&of(&api, 120, 180).await)[..4], [2, 0, 2, 3 + 55]);
    assert_eq!(numbers(&of(&api, 240, 300).await)[..4], [0, 0, 0, 60]);
    assert_eq!(numbers(&of(&api, 300, 360).await)[..4], [2, 0, 2, 5 + 53]);
}

#[tokio::test]
async fn nothing_that_is_yet_to_come_is_unknown() {
    let now = UnixMs::now().0 / 1000;
    let api = api(&[sample(1, 0, now - 10), sample(1, 1, now - 9)]).await;
    let completeness = of(&api, now / 60 * 60 + 600, now / 60 * 60 + 1_200).await;
    assert_eq!(completeness["unknown"], 0, "{completeness}");
}

#[tokio::test]
async fn the_period_is_the_slope_of_sampled_time_over_sequence() {
    // Whatever the jitter in between, ten steps take 50 s.
    let api = api(&[sample(1, 0, 100), sample(1, 1, 108), sample(1, 10, 150)]).await;
    assert_eq!(numbers(&of(&api, 180, 240).await)[3], 12);
}

#[tokio::test]
async fn what_came_late_what_is_undecided_and_what_has_no_exact_second_is_told_apart() {
    let held_up = |seq, ms| {
        let record = sample(1, seq, 120 + seq);
        Record { received_at: UnixMs(record.sampled_at.0 + ms), ..record }
    };
    let undecided = Record { kind: RecordKind::Undecided, ..held_up(9, 90_000) };
    let uncertain = |seq, time_error| Record { time_error, ..held_up(seq, 0) };
    let imported = Record { kind: RecordKind::Imported, ..held_up(20, 90_000) };
    let records = [
        held_up(0, 60_000),
        held_up(1, 60_001),
        held_up(2, 0),
        uncertain(3, TimeError::OneSecond),
        uncertain(4, TimeError::Unknown),
        undecided,
    ];
    let completeness = of(&api(&records).await, 120, 180).await;
    assert_eq!(numbers(&completeness)[..3], [5, 0, 5], "{completeness}");
    assert_eq!(numbers(&completeness)[4..], [1, 1, 2], "{completeness}");
    // A document of an older program is no device's, and was there in time.
    let (_, answer) = get(&api(&[imported]).await, "/v1/counts?start=120&end=180&completeness=true").await;
    assert_eq!(numbers(&answer["completeness"]), [1, 0, 1, 0, 0, 0, 0], "{answer}");
}

#[tokio::test]
async fn a_step_in_which_nothing_was_expected_is_told_from_one_in_which_it_is_missing() {
    let records = [sample(1, 0, 180), sample(1, 1, 210), sample(1, 4, 300), sample(1, 5, 330)];
    let api = api(&records).await;
    for device in ["", "&device=device-1"] {
        let uri = format!("/v1/series?start=60&end=420&completeness=true{device}");
        let (status, mut answer) = get(&api, &uri).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let none = [0; 6];
        let expected = json!({
            "seen": [0, 0, 2, 0, 2, 0], "missing": [0, 0, 0, 2, 0, 0], "expected": [0, 0, 2, 2, 2, 0],
            "unknown": [0, 0, 0, 0, 0, 2], "undecided": none, "late": none, "time_uncertain": none,
            "known_from": null, "partly_known": 0,
        });
        assert_eq!(answer["completeness"].take(), expected, "{uri}");
        assert_eq!(answer["total"], json!([0, 0, 2, 0, 2, 0]), "{uri}");
    }
    let (_, answer) = get(&api, "/v1/series?start=185&end=299&step=50&completeness=true").await;
    assert_eq!(answer["completeness"]["missing"], json!([0, 1, 1]), "{answer}");
}

#[tokio::test]
async fn from_when_on_all_is_known_is_told_once_a_boot_was_closed() {
    // Each boot lacks a sample. The one that was silent longest is closed for the last.
    let boot = |boot: u64| [sample(boot, 0, boot * 60), sample(boot, 2, boot * 60 + 20)];
    let boots: Vec<_> = (1..=OPEN_BOOTS_MAX as u64 + 1).flat_map(boot).collect();
    let before = of(&api(&boots[..boots.len() - 2]).await, 60, 180).await;
    assert_eq!(
        (&before["missing"], &before["known_from"], &before["partly_known"]),
        (&json!(2), &json!(null), &json!(0))
    );
    let api = api(&boots).await;
    let after = of(&api, 60, 180).await;
    let known_from = json!("1970-01-01T00:01:20.000Z");
    assert_eq!(
        (&after["missing"], &after["known_from"], &after["partly_known"]),
        (&json!(1), &known_from, &json!(1))
    );
    let later = of(&api, 120, 180).await;
    assert_eq!((&later["known_from"], &later["partly_known"]), (&known_from, &json!(0)));
}

#[tokio::test]
async fn it_is_as_of_what_the_rows_have_and_what_is_not_asked_for_is_not_there() {
    let store = Arc::new(MemoryStore::default());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let api = router(Api { store, ops: Arc::new(Ops::default()), issued: None });
    ingest.commit(&[sample(1, 0, 100), sample(1, 2, 102)], UnixMs(102_000)).await.unwrap();
    ingest.write_all_rows().await.unwrap();
    ingest.commit(&[sample(1, 1, 101)], UnixMs(200_000)).await.unwrap();
    for device in ["", "&device=device-1"] {
        let uri = format!("/v1/counts?start=60&end=120{device}");
        let (_, with) = get(&api, &format!("{uri}&completeness=true")).await;
        assert_eq!(with["as_of"], "1970-01-01T00:03:20.000Z", "{with}");
        for uri in [uri.clone(), format!("{uri}&completeness=false")] {
            assert!(!get(&api, &uri).await.1.to_string().contains("missing"), "{uri}");
        }
    }
    ingest.write_all_rows().await.unwrap();
    assert_eq!(numbers(&of(&api, 60, 120).await)[..3], [3, 0, 3]);
}

#[tokio::test]
async fn what_it_can_be_is_said_where_it_is_something_else_or_unknown() {
    let api = api(&[]).await;
    for (query, reason) in [
        ("v1/counts?start=0&end=60&completeness=yes", "completeness can be true and false"),
        ("v1/counts?start=0&end=60&completeness=", "completeness can be true and false"),
        ("v1/series?start=0&end=60&device=d&completeness=1", "completeness can be true and false"),
        ("v1/series?start=0&end=60&completeness=true&completeness=true", "more than once"),
        ("status_count?start=0&end=60&completeness=true", "only start and end are known"),
    ] {
        let (status, problem) = get(&api, &format!("/{query}")).await;
        assert_eq!(
            (status, &problem["parameter"]),
            (StatusCode::BAD_REQUEST, &json!("completeness")),
            "{query}"
        );
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{query}: {problem}");
    }
    for device in ["", "&device=device-1"] {
        let uri = format!("/v1/counts?start=0&end=0&completeness=true{device}");
        assert_eq!(get(&api, &uri).await.0, StatusCode::OK, "{uri}");
    }
}
