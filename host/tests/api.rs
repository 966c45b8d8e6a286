//! Every line of the API, asked as a client asks.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use common::{device, record};
use rollcall_host::api::{Api, allow_origins, parse_query, router};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::MemoryStore;
use rollcall_host::model::{Record, RecordKind, TimeError, UnixMs};
use rollcall_host::ops::{Ops, Part};
use rollcall_wire::Status;
use serde_json::{Value, json};
use tower::ServiceExt;

/// Answers one request over a store that holds `records`.
async fn request(method: Method, uri: &str, records: &[Record], ops: Ops) -> (StatusCode, String, Value) {
    let store = Arc::new(MemoryStore::default());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    ingest.commit(records, UnixMs(0)).await.unwrap();
    ingest.write_all_rows().await.unwrap();
    let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    let response = router(Api { store, ops: Arc::new(ops), issued: None }).oneshot(request).await.unwrap();
    let status = response.status();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let body = axum::body::to_bytes(response.into_body(), 1_000_000).await.unwrap();
    (status, content_type, serde_json::from_slice(&body).unwrap())
}

async fn get(uri: &str) -> (StatusCode, String, Value) {
    request(Method::GET, uri, &[], Ops::default()).await
}

fn sampled_at(second: u64, status: u8) -> Record {
    let mut random = fastrand::Rng::with_seed(second);
    let (status, sampled_at) = (Status::new(status).unwrap(), UnixMs(second * 1000 + 999));
    let time_error = TimeError::Exact;
    Record { id: None, status, sampled_at, time_error, ..record(&mut random, device(1), 0) }
}

#[tokio::test]
async fn the_range_holds_its_start_and_not_its_end_and_every_status_is_there() {
    let records =
        [sampled_at(99, 1), sampled_at(100, 1), sampled_at(101, 1), sampled_at(101, 3), sampled_at(102, 6)];
    let (status, content_type, mut answer) =
        request(Method::GET, "/status_count?start=100&end=102", &records, Ops::default()).await;
    assert_eq!((status, content_type.as_str()), (StatusCode::OK, "application/json"));
    let as_of = answer["as_of"].take();
    assert!(as_of.as_str().unwrap().ends_with('Z'), "{as_of}");
    let counts = json!({"0": 0, "1": 2, "2": 0, "3": 1, "4": 0, "5": 0, "6": 0});
    let time_uncertain = json!({"one_second": 0, "unknown": 0});
    let expected = json!({
        "start": 100, "end": 102, "counts": counts, "total": 3, "time_uncertain": time_uncertain, "as_of": null,
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn how_many_of_the_total_may_belong_to_another_second_is_told_for_the_range() {
    use TimeError::{Exact, OneSecond, Unknown};
    let at = |second, time_error| Record { time_error, ..sampled_at(second, 2) };
    let undecided = Record { kind: RecordKind::Undecided, ..at(101, Unknown) };
    let records = [
        at(99, Unknown),
        at(100, OneSecond),
        at(101, Exact),
        at(101, OneSecond),
        at(101, Unknown),
        undecided,
        at(102, OneSecond),
    ];
    let uri = "/status_count?start=100&end=102";
    let (_, _, answer) = request(Method::GET, uri, &records, Ops::default()).await;
    assert_eq!(answer["total"], 4);
    assert_eq!(answer["time_uncertain"], json!({"one_second": 2, "unknown": 1}));
}

#[tokio::test]
async fn an_empty_range_is_answered_with_zeros() {
    let (status, _, answer) = get("/status_count?start=100&end=100").await;
    assert_eq!((status, &answer["total"]), (StatusCode::OK, &json!(0)));
    assert_eq!(answer["counts"].as_object().unwrap().len(), Status::COUNT);
}

#[tokio::test]
async fn times_may_be_rfc_3339_with_an_offset_written_as_it_is_or_encoded() {
    for start in
        ["2024-07-20T02:01:16+02:00", "2024-07-20T02:01:16%2B02:00", "2024-07-20T00:01:16Z", "1721433676"]
    {
        let (status, _, answer) = get(&format!("/status_count?end=1721433678&start={start}")).await;
        assert_eq!((status, &answer["start"]), (StatusCode::OK, &json!(1_721_433_676)), "{start}");
    }
}

#[tokio::test]
async fn a_bad_query_is_a_problem_that_names_the_parameter() {
    for (query, parameter) in [
        ("", "start"),
        ("?", "start"),
        ("?end=2", "start"),
        ("?start=1", "end"),
        ("?start=&end=2", "start"),
        ("?start=1&end", "end"),
        ("?start=1&start=1&end=2", "start"),
        ("?start=1&end=2&end=3", "end"),
        ("?start=3&end=2", "start"),
        ("?start=1.5&end=2", "start"),
        ("?start=1&end=1e400", "end"),
        ("?start=-1&end=2", "start"),
        ("?start=+1&end=2", "start"),
        ("?start=0x1&end=2", "start"),
        ("?start=1%20&end=2", "start"),
        ("?start=1&end=99999999999999999999999", "end"),
        ("?start=1&end=253402300801", "end"),
        ("?start=2024-07-20T00:01:16&end=2", "start"),
        ("?start=1721433676000&end=1721433677000", "start"),
        ("?start=2024-02-30T00:00:00Z&end=2", "start"),
        ("?start[$gt]=1&end=2", "start[$gt]"),
        ("?start=1&end=2&device=7", "device"),
        ("?start=%ff&end=2", "start"),
        ("?start=1&end=%ff", "end"),
        ("?%ff=1&end=2", "%ff"),
        ("?start=NaN&end=2", "start"),
        ("?start=%D9%A1&end=2", "start"),
    ] {
        let (status, content_type, problem) = get(&format!("/status_count{query}")).await;
        assert_eq!(
            (status, content_type.as_str()),
            (StatusCode::BAD_REQUEST, "application/problem+json"),
            "{query}"
        );
        assert_eq!(problem["parameter"], parameter, "{query}");
        assert!(
            !problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty()
        );
    }
}

#[tokio::test]
async fn a_fraction_is_rounded_down_and_the_answer_shows_the_range_that_was_used() {
    let uri = "/status_count?start=2024-07-20T00:01:16.5Z&end=2024-07-20T00:01:17.999Z";
    let (status, _, answer) =
        request(Method::GET, uri, &[sampled_at(1_721_433_676, 3)], Ops::default()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&answer["start"], &answer["end"]), (&json!(1_721_433_676), &json!(1_721_433_677)));
    assert_eq!(answer["total"], 1);
}

#[tokio::test]
async fn as_of_is_taken_back_as_the_end() {
    let (_, _, first) = get("/status_count?start=0&end=0").await;
    let as_of = first["as_of"].as_str().unwrap();
    let (status, _, second) = get(&format!("/status_count?start=0&end={as_of}")).await;
    assert_eq!(status, StatusCode::OK, "{as_of}");
    let end = second["end"].as_u64().unwrap();
    assert_eq!(UnixMs(end * 1000).to_rfc3339()[..19], as_of[..19]);
}

#[tokio::test]
async fn milliseconds_are_recognised_and_explained() {
    for (end, detail) in [
        ("1721433676123", "milliseconds; write whole Unix seconds: 1721433676"),
        ("253402300800999", "milliseconds"),
        ("253402300801000", "after the year 9999"),
        ("99999999999999999999", "after the year 9999"),
    ] {
        let (status, _, problem) = get(&format!("/status_count?start=0&end={end}")).await;
        assert_eq!((status, &problem["parameter"]), (StatusCode::BAD_REQUEST, &json!("end")));
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
}

#[tokio::test]
async fn a_trailing_slash_does_not_name_another_resource() {
    for uri in ["/status_count/?start=1&end=2", "/healthz/", "/readyz/"] {
        assert_eq!(get(uri).await.0, StatusCode::OK, "{uri}");
    }
    assert_eq!(get("/status_count//?start=1&end=2").await.0, StatusCode::NOT_FOUND);
    let (status, ..) = request(Method::POST, "/status_count/", &[], Ops::default()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

/// What a page from `origin` is told about who may read the answer.
async fn allowed(method: Method, allowed: &[&str], origin: &str) -> (StatusCode, Option<String>) {
    let api = Api { store: Arc::new(MemoryStore::default()), ops: Arc::default(), issued: None };
    let origins: Vec<_> = allowed.iter().map(|origin| origin.parse().unwrap()).collect();
    let request = Request::builder()
        .method(method)
        .uri("/status_count?start=1&end=2")
        .header("origin", origin)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization");
    let request = request.body(Body::empty()).unwrap();
    let response = allow_origins(router(api), &origins).oneshot(request).await.unwrap();
    let header = response.headers().get("access-control-allow-origin");
    (response.status(), header.map(|value| value.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn pages_of_the_origins_that_are_named_may_read_the_answers_and_no_others() {
    let (here, there) = ("https://dashboard.example", "https://elsewhere.example");
    let some = |origin: &str| Some(origin.to_owned());
    assert_eq!(allowed(Method::GET, &[here], here).await, (StatusCode::OK, some(here)));
    assert_eq!(allowed(Method::GET, &[here], there).await, (StatusCode::OK, None));
    assert_eq!(allowed(Method::GET, &["*"], there).await, (StatusCode::OK, some("*")));
    assert_eq!(allowed(Method::GET, &[], here).await, (StatusCode::OK, None));
    assert_eq!(allowed(Method::OPTIONS, &[here], here).await, (StatusCode::OK, some(here)));
    assert_eq!(allowed(Method::OPTIONS, &[], here).await, (StatusCode::METHOD_NOT_ALLOWED, None));
}

#[tokio::test]
async fn a_series_has_every_step_and_its_first_and_last_may_be_parts() {
    let records =
        [sampled_at(99, 1), sampled_at(100, 1), sampled_at(119, 3), sampled_at(121, 3), sampled_at(185, 6)];
    let uri = "/v1/series?start=100&end=190&step=60";
    let (status, content_type, mut answer) = request(Method::GET, uri, &records, Ops::default()).await;
    assert_eq!((status, content_type.as_str()), (StatusCode::OK, "application/json"));
    assert!(answer["as_of"].take().as_str().unwrap().ends_with('Z'));
    let none = [0, 0, 0];
    let expected = json!({
        "start": 100, "end": 190, "step": 60, "first": 60,
        "counts": {
            "0": none, "1": [1, 0, 0], "2": none, "3": [1, 1, 0], "4": none, "5": none, "6": [0, 0, 1],
        },
        "total": [2, 1, 1],
        "time_uncertain": {"one_second": none, "unknown": none},
        "as_of": null,
    });
    assert_eq!(answer, expected);
    let (_, _, empty) = request(Method::GET, "/v1/series?start=100&end=100", &records, Ops::default()).await;
    assert_eq!((&empty["total"], &empty["step"]), (&json!([]), &json!(60)));
}

#[tokio::test]
async fn a_step_that_makes_no_sense_or_too_many_is_a_problem_that_names_one_that_fits() {
    for (query, reason) in [
        ("start=0&end=10&step=0", "from 1 on"),
        ("start=0&end=10&step=1.5", "from 1 on"),
        ("start=0&end=10&step=-1", "from 1 on"),
        ("start=0&end=10&step=", "from 1 on"),
        ("start=0&end=10&step=1&step=1", "more than once"),
        ("start=0&end=10&stop=1", "start, end, step, device and completeness are known"),
        ("start=0&end=5001&step=1", "shortest step that fits is 2 s; 5 s"),
        ("start=7&end=604807", "shortest step that fits is 121 s; 300 s"),
        ("start=1&end=5001&step=1", ""),
        ("start=0&end=253402300800&step=1", "shortest step that fits is 50716800 s"),
        ("start=0&end=253402300800&step=50716800", ""),
        ("start=0&end=10&step=18446744073709551615", "from 1 on"),
        ("start=0&end=350000000&step=86401", "shortest step that fits is 90000 s"),
        ("start=0&end=400000000&step=90000", "shortest step that fits is 172800 s"),
        ("start=0&end=253402300800&step=86400000", ""),
    ] {
        let (status, _, answer) = get(&format!("/v1/series?{query}")).await;
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert_eq!(status.is_client_error(), !reason.is_empty(), "{query}: {detail}");
        assert!(detail.contains(reason), "{query}: {detail}");
    }
}

#[tokio::test]
async fn counts_are_those_of_status_count() {
    let records = [sampled_at(99, 1), sampled_at(100, 1)];
    for uri in ["/v1/counts?start=99&end=101", "/status_count?start=99&end=101"] {
        let (_, _, answer) = request(Method::GET, uri, &records, Ops::default()).await;
        assert_eq!((&answer["total"], &answer["counts"]["1"]), (&json!(2), &json!(2)), "{uri}");
    }
}

#[tokio::test]
async fn each_device_that_is_asked_for_has_its_counts_in_whole_minutes() {
    let of_another = Record { device: device(2), ..sampled_at(120, 5) };
    let records = [sampled_at(59, 1), sampled_at(60, 1), sampled_at(179, 3), sampled_at(180, 3), of_another];
    let uri = "/v1/counts?start=60&end=1970-01-01T00:03:00Z&device=device-2&device=device-1&device=never";
    let (status, _, mut answer) = request(Method::GET, uri, &records, Ops::default()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(answer["as_of"].take().as_str().unwrap().ends_with('Z'));
    let of_device = |device, counts: [u64; 7]| {
        let total: u64 = counts.iter().sum();
        let counts: serde_json::Map<_, _> =
            counts.iter().enumerate().map(|(status, count)| (status.to_string(), json!(count))).collect();
        let time_uncertain = json!({"one_second": 0, "unknown": 0});
        json!({"device": device, "counts": counts, "total": total, "time_uncertain": time_uncertain})
    };
    let devices = [
        of_device("device-2", [0, 0, 0, 0, 0, 1, 0]),
        of_device("device-1", [0, 1, 0, 1, 0, 0, 0]),
        of_device("never", [0; 7]),
    ];
    assert_eq!(answer, json!({"start": 60, "end": 180, "devices": devices, "as_of": null}));
    let uri = "/v1/series?start=60&end=240&step=120&device=device-1";
    let (status, _, answer) = request(Method::GET, uri, &records, Ops::default()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["device"], &answer["first"], &answer["step"]),
        (&json!("device-1"), &json!(0), &json!(120))
    );
    assert_eq!((&answer["total"], &answer["counts"]["3"]), (&json!([1, 2]), &json!([0, 2])));
}

#[tokio::test]
async fn what_cannot_be_asked_of_a_device_is_a_problem_that_says_what_can() {
    for (query, parameter, reason) in [
        ("counts?start=61&end=120&device=d", "start", "start can be 60 or 120, and not 61"),
        ("counts?start=60&end=119&device=d", "end", "end can be 60 or 120, and not 119"),
        ("counts?start=60&end=120&device=d&device=d", "device", "d is given more than once"),
        ("counts?start=60&end=120&device=D", "device", "\"D\""),
        ("counts?start=60&end=120&device=", "device", "\"\""),
        ("counts?start=0&end=72003600&device=d", "end", "there are 20001 hours"),
        ("counts?start=0&end=36003600&device=d&device=e", "end", "there are 20002 hours"),
        ("series?start=0&end=60&device=d&device=e", "device", "of one, or of all"),
        ("series?start=0&end=60&step=90&device=d", "step", "step can be 120, and not 90"),
        ("series?start=0&end=300060&device=d", "step", "a step that fits is 120 s"),
        ("series?start=0&end=72003600&step=86400&device=d", "end", "at most 20000 of a device"),
    ] {
        let (status, _, problem) = get(&format!("/v1/{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
        assert_eq!(problem["parameter"], parameter, "{query}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{query}: {problem}");
    }
    for query in ["counts?start=0&end=72000000&device=d", "series?start=0&end=300000&device=d"] {
        assert_eq!(get(&format!("/v1/{query}")).await.0, StatusCode::OK, "{query}");
    }
}

#[tokio::test]
async fn what_does_not_exist_or_is_not_allowed_is_a_problem_too() {
    let (status, content_type, problem) = get("/status_counts").await;
    assert_eq!((status, content_type.as_str()), (StatusCode::NOT_FOUND, "application/problem+json"));
    assert!(problem["detail"].as_str().unwrap().contains("/status_count,"));
    let (status, content_type, _) = request(Method::POST, "/status_count", &[], Ops::default()).await;
    assert_eq!((status, content_type.as_str()), (StatusCode::METHOD_NOT_ALLOWED, "application/problem+json"));
}

#[tokio::test]
async fn it_is_alive_always_and_ready_unless_a_part_is_unhealthy() {
    assert_eq!(get("/healthz").await.0, StatusCode::OK);
    assert_eq!(get("/readyz").await.0, StatusCode::OK);
    let ops = Ops::default();
    ops.unhealthy(Part::Store, &"disk full");
    let (status, _, problem) = request(Method::GET, "/readyz", &[], ops).await;
    assert_eq!((status, &problem["detail"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("disk full")));
    let (status, ..) = request(Method::GET, "/healthz", &[], Ops::starting(&[Part::Store])).await;
    assert_eq!(status, StatusCode::OK);
}

proptest::proptest! {
    #[test]
    fn any_query_is_a_range_or_a_problem(query in ".{0,100}") {
        let _ = parse_query(&query);
    }

    #[test]
    fn any_pair_of_times_is_the_range_or_a_problem(start in 0..u64::MAX, end in 0..u64::MAX) {
        match parse_query(&format!("start={start}&end={end}")) {
            Ok(range) => assert_eq!(range, start..end),
            Err(problem) => assert!(start > end || end > 253_402_300_800, "{problem:?}"),
        }
    }
}
