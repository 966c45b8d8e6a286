//! `/v1/devices` against what a list of all records says, on a store in memory: the contract of stores has rows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use rollcall_host::api::{Api, router};
use rollcall_host::credentials::{self, Devices, List, Live, Secret};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::{LogStore, MemoryStore};
use rollcall_host::model::{Record, RecordKind, UnixMs};
use rollcall_host::ops::Ops;
use rollcall_wire::{Announcement, BootId, DeviceId, SampleId, Sequence};
use serde_json::{Value, json};
use tower::ServiceExt;

const DAY_MS: u64 = 86_400_000;

/// A file of devices with a password each.
fn issued(ids: impl IntoIterator<Item = DeviceId>) -> Live<Devices> {
    let mut list = List::default();
    for id in ids {
        list.add(credentials::Device::new(id, &Secret::random().unwrap()).unwrap()).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("devices");
    std::fs::write(&path, list.text()).unwrap();
    Live::open(&path).unwrap().0
}

fn api(store: &Arc<MemoryStore>, issued: Option<Live<Devices>>) -> Router {
    router(Api { store: store.clone(), ops: Arc::new(Ops::default()), issued })
}

async fn get(api: &Router, uri: &str) -> (StatusCode, Value) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let response = api.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 10_000_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn sample(random: &mut fastrand::Rng, device: DeviceId, seq: u64, sampled_at: UnixMs) -> Record {
    let id = SampleId { boot: BootId(7), seq: Sequence::new(seq).unwrap() };
    Record { id: Some(id), sampled_at, ..common::record(random, device, 0) }
}

/// What is expected of a device.
#[derive(Debug, Default)]
struct Expected {
    state: &'static str,
    last_at: u64,
    missing: u64,
    undecided: u64,
}

/// Random devices: their records, and what is expected of each.
fn fleet(random: &mut fastrand::Rng) -> (Vec<Record>, BTreeMap<DeviceId, Expected>) {
    let now = UnixMs::now().0;
    let (mut records, mut fleet) = (Vec::new(), BTreeMap::new());
    for number in 0..60 {
        let device = common::device(number);
        // Far from what divides one state from another; nobody waits here for time to pass.
        let (state, last_at) = match random.u8(..4) {
            0 => ("never_seen", 0),
            1 => ("offline", now - 2 * DAY_MS - random.u64(..DAY_MS)),
            2 => ("stale", now - 1_800_000 - random.u64(..60_000)),
            _ => ("online", now + DAY_MS),
        };
        let mut expected = Expected { state, last_at, ..Expected::default() };
        if state != "never_seen" {
            let seqs: BTreeSet<_> = (0..random.u64(1..20)).map(|_| random.u64(..20)).collect();
            let (first, last) = (*seqs.first().unwrap(), *seqs.last().unwrap());
            expected.missing = last - first + 1 - seqs.len() as u64;
            let at = |seq| UnixMs(last_at - (last - seq) * 1000);
            records.extend(seqs.iter().map(|seq| sample(random, device, *seq, at(*seq))));
            if random.u8(..4) == 0 {
                let undecided = sample(random, device, 500, UnixMs(0));
                records.push(Record { kind: RecordKind::Undecided, ..undecided });
                expected.undecided = 1;
            }
        }
        fleet.insert(device, expected);
    }
    random.shuffle(&mut records);
    (records, fleet)
}

async fn stored(records: &[Record]) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    for some in records.chunks(50) {
        ingest.commit(some, UnixMs::now()).await.unwrap();
    }
    ingest.write_all_rows().await.unwrap();
    store
}

#[tokio::test]
async fn its_pages_together_are_all_that_are_wanted_in_order() {
    let mut random = common::random();
    for _ in 0..4 {
        let (records, fleet) = fleet(&mut random);
        let api = api(&stored(&records).await, Some(issued(fleet.keys().copied())));
        for _ in 0..40 {
            let trouble = random.choice([
                None,
                Some("offline"),
                Some("stale"),
                Some("gaps"),
                Some("never_seen"),
                Some("undecided"),
            ]);
            let trouble = trouble.flatten();
            let sort = random.choice(["id", "silence", "missing"]).unwrap();
            let prefix = random.choice(["", "", "device-1", "device-60", "x"]).unwrap();
            let wanted = |(id, device): &(&DeviceId, &Expected)| {
                let troubled = match trouble {
                    None => true,
                    Some("gaps") => device.missing > 0,
                    Some("undecided") => device.undecided > 0,
                    Some(state) => device.state == state,
                };
                troubled && id.as_str().starts_with(prefix)
            };
            let mut expected: Vec<_> = fleet.iter().filter(wanted).collect();
            match sort {
                "silence" => expected.sort_by_key(|(_, device)| device.last_at),
                "missing" => expected
                    .sort_by_key(|(_, device)| (device.state == "never_seen", u64::MAX - device.missing)),
                _ => {}
            }
            let limit = random.usize(1..70);
            let mut query = format!("/v1/devices?sort={sort}&limit={limit}&prefix={prefix}");
            query.extend(trouble.map(|trouble| format!("&trouble={trouble}")));
            let (mut listed, mut next) = (Vec::new(), String::new());
            loop {
                let (status, mut page) = get(&api, &format!("{query}{next}")).await;
                assert_eq!(status, StatusCode::OK, "{query}{next}: {page}");
                let devices = page["devices"].as_array_mut().unwrap();
                assert!(devices.len() <= limit, "{query}{next}");
                listed.append(devices);
                let Some(after) = page["next"].as_str() else { break };
                next = format!("&after={after}");
            }
            assert_eq!(listed.len(), expected.len(), "{query}");
            for (listed, (id, device)) in listed.iter().zip(expected) {
                assert_eq!(
                    (&listed["device"], &listed["state"]),
                    (&json!(id.as_str()), &json!(device.state)),
                    "{query}"
                );
                if device.state == "never_seen" {
                    assert_eq!(listed.as_object().unwrap().len(), 2, "{listed}");
                } else {
                    assert_eq!(listed["missing"], device.missing, "{listed}");
                    assert_eq!(listed["undecided"], device.undecided, "{listed}");
                    assert_eq!(listed["last_sample"]["at"], UnixMs(device.last_at).to_rfc3339(), "{listed}");
                }
            }
        }
    }
}

#[tokio::test]
async fn metrics_have_the_devices_by_state_and_the_queries_by_route_and_answer() {
    let mut random = common::random();
    let (records, fleet) = fleet(&mut random);
    let api = api(&stored(&records).await, Some(issued(fleet.keys().copied())));
    for (uri, times) in [("/v1/devices?limit=7", 3), ("/v1/devices/device-x", 1), ("/v1/devices?limit=0", 2)]
    {
        for _ in 0..times {
            get(&api, uri).await;
        }
    }
    let response = api.oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 1_000_000).await.unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    for state in ["online", "stale", "offline", "never_seen"] {
        let devices = fleet.values().filter(|device| device.state == state).count();
        let line = format!("rollcall_devices_by_state{{state=\"{state}\"}} {devices}");
        assert!(text.lines().any(|is| is == line), "{line}: {text}");
    }
    for (route, answer, queries) in [
        ("/v1/devices", "ok", 3),
        ("/v1/devices", "refused", 2),
        ("/v1/devices", "failed", 0),
        ("/v1/devices/ID", "refused", 1),
        ("/v1/counts", "ok", 0),
    ] {
        let line = format!("rollcall_queries_total{{route=\"{route}\",answer=\"{answer}\"}} {queries}");
        assert!(text.lines().any(|is| is == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_device_has_its_boots_and_what_is_missing_of_each() {
    let mut random = common::random();
    let device = common::device(1);
    let records = [3, 4, 9, 11].map(|seq| sample(&mut random, device, seq, UnixMs(1_000_000 + seq * 1000)));
    let never_seen = common::device(2);
    let api = api(&stored(&records).await, Some(issued([device, never_seen])));
    let (status, mut answer) = get(&api, "/v1/devices/device-1").await;
    assert_eq!(status, StatusCode::OK);
    let gap = |first_seq: u64, last_seq: u64, after: &str, before: &str| {
        json!({
            "first_seq": first_seq, "last_seq": last_seq, "missing": last_seq - first_seq + 1,
            "after": format!("1970-01-01T00:16:{after}.000Z"), "before": format!("1970-01-01T00:16:{before}.000Z"),
        })
    };
    let boot = json!({
        "boot": "0000000000000007", "known_from": 0, "first_seq": 3, "last_seq": 11,
        "first_at": "1970-01-01T00:16:43.000Z", "last_at": "1970-01-01T00:16:51.000Z",
        "period_ms": 1000, "seen": 4, "missing": 5,
        "gaps": [gap(5, 8, "44", "49"), gap(10, 10, "49", "51")],
    });
    assert_eq!(answer["boots"].take(), json!([boot]));
    assert_eq!((&answer["state"], &answer["period_ms"]), (&json!("offline"), &json!(1000)));
    assert_eq!((&answer["seen"], &answer["missing"], &answer["expected"]), (&json!(4), &json!(5), &json!(9)));
    let (status, answer) = get(&api, "/v1/devices/device-2/").await;
    assert_eq!(
        (status, &answer["state"], &answer["boots"]),
        (StatusCode::OK, &json!("never_seen"), &json!([]))
    );
    for id in ["device-3", "NO", "%00"] {
        let (status, problem) = get(&api, &format!("/v1/devices/{id}")).await;
        assert_eq!(
            (status, &problem["title"]),
            (StatusCode::NOT_FOUND, &json!("not found")),
            "{id}: {problem}"
        );
    }
}

#[tokio::test]
async fn a_device_that_left_is_offline_until_it_sends_or_says_that_it_came() {
    let mut random = common::random();
    let device = common::device(1);
    let now = UnixMs::now();
    let heard_at =
        |at| Record { received_at: at, ..sample(&mut random, device, at.0, UnixMs(now.0 + DAY_MS)) };
    let records = [now, UnixMs(now.0 + 10)].map(heard_at);
    let ops = Arc::new(Ops::default());
    let store = stored(&records[..1]).await;
    let api = router(Api { store: store.clone(), ops: ops.clone(), issued: None });
    let state = async |api: &Router| get(api, "/v1/devices/device-1").await.1["state"].take();
    assert_eq!(state(&api).await, "online");
    let heard = |is_online| {
        let announcement = Announcement { is_online, connection: None };
        ops.presence.heard(device, &announcement, UnixMs(now.0 + 5));
    };
    heard(false);
    assert_eq!(state(&api).await, "offline");
    assert_eq!(get(&api, "/v1/devices?trouble=offline").await.1["devices"][0]["device"], "device-1");
    heard(true);
    assert_eq!(state(&api).await, "online");
    // Whoever sends is there.
    heard(false);
    assert_eq!(state(&api).await, "offline");
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    ingest.commit(&records[1..], UnixMs(now.0 + 10)).await.unwrap();
    ingest.write_all_rows().await.unwrap();
    assert_eq!(state(&api).await, "online");
}

#[tokio::test]
async fn it_is_as_of_what_the_rows_have() {
    let mut random = common::random();
    let store = Arc::new(MemoryStore::default());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let device = common::device(1);
    let received_at = UnixMs(5_000_000);
    let late = |random: &mut fastrand::Rng, seq| sample(random, device, seq, UnixMs(4_000_000));
    ingest.commit(&[late(&mut random, 1)], UnixMs(4_500_000)).await.unwrap();
    ingest.write_all_rows().await.unwrap();
    ingest.commit(&[late(&mut random, 2)], received_at).await.unwrap();
    let api = api(&store, None);
    for uri in [
        "/v1/devices",
        "/v1/devices?sort=missing",
        "/v1/devices/device-1",
        "/v1/counts?start=0&end=6000&device=device-1",
    ] {
        let (_, answer) = get(&api, uri).await;
        assert_eq!(answer["as_of"], received_at.to_rfc3339(), "{uri}");
    }
    ingest.write_all_rows().await.unwrap();
    let (_, answer) = get(&api, "/v1/devices/device-1").await;
    assert_eq!(answer["seen"], 2);
    assert!(answer["as_of"].as_str().unwrap() > "2026", "{answer}");
    assert!(store.checkpoint(rollcall_wire::Slot::of(&device)).await.unwrap().rows > 0);
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_a_problem_that_names_what_can() {
    let api = api(&Arc::new(MemoryStore::default()), None);
    for (query, parameter, reason) in [
        ("sort=name", "sort", "sort can be id, silence and missing"),
        ("trouble=broken", "trouble", "offline, stale, gaps, never_seen and undecided"),
        ("limit=0", "limit", "from 1 to 1000"),
        ("limit=1001", "limit", "from 1 to 1000"),
        ("after=A", "after", "next was"),
        ("sort=missing&after=device-1", "after", "next was"),
        ("page=2", "page", "only sort, trouble, prefix, after and limit"),
    ] {
        let (status, problem) = get(&api, &format!("/v1/devices?{query}")).await;
        assert_eq!(
            (status, &problem["parameter"]),
            (StatusCode::BAD_REQUEST, &json!(parameter)),
            "{problem}"
        );
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{query}: {problem}");
    }
    assert_eq!(get(&api, "/v1/devices").await.1["devices"], json!([]));
}
