//! `/openapi.json` against the routes that there are, and against the copy in the repository.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use rollcall_host::api::{Api, document, router};
use rollcall_host::log::MemoryStore;
use rollcall_host::ops::Ops;
use serde_json::Value;
use tower::ServiceExt;

const LIVE: &str = "/v1/live";

fn api() -> Router {
    router(Api { store: Arc::new(MemoryStore::default()), ops: Arc::new(Ops::default()), issued: None })
}

async fn get(api: &Router, uri: &str) -> (u16, String, String) {
    let response = api.clone().oneshot(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let body = axum::body::to_bytes(response.into_body(), 10_000_000).await.unwrap();
    (status, content_type, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_copy_in_the_repository_is_what_is_served() {
    let (_, _, served) = get(&api(), "/openapi.json").await;
    assert_eq!(served, document());
    let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::fs::read_to_string(copy).unwrap_or_default() != served {
        let current = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
        std::fs::write(&current, served).unwrap();
        panic!("docs/openapi.json is not current; look at {} and copy it there", current.display());
    }
}

#[tokio::test]
async fn every_route_is_described_and_answers_as_it_is_described() {
    let api = api();
    let document: Value = serde_json::from_str(document()).unwrap();
    let (_, _, routes) = get(&api, "/nowhere").await;
    let paths = document["paths"].as_object().unwrap();
    assert!(!paths.is_empty());
    for (path, item) in paths {
        let responses = item["get"]["responses"].as_object().unwrap();
        assert!(
            responses
                .values()
                .all(|response| response["$ref"].is_string() || response["content"].is_object())
        );
        if path == LIVE {
            // It does not end by itself.
            assert!(responses["200"]["content"]["text/event-stream"].is_object());
            continue;
        }
        let path = path.replace("{id}", "porch");
        for query in [
            "",
            "?start=0&end=60",
            "?start=7",
            "?start=60&end=120&device=porch&completeness=true",
            "?limit=7",
        ] {
            let (status, content_type, body) = get(&api, &format!("{path}{query}")).await;
            let described =
                &responses.get(&status.to_string()).unwrap_or_else(|| panic!("{path}{query}: {status}"));
            let described = match described["$ref"].as_str() {
                Some(name) => document.pointer(name.trim_start_matches('#')).unwrap(),
                None => described,
            };
            let media = described["content"].as_object().unwrap().keys().next().unwrap();
            assert!(
                content_type.starts_with(media.as_str()),
                "{path}{query}: {content_type}, and not {media}"
            );
            assert!(!body.is_empty());
        }
    }
    let routes: Value = serde_json::from_str(&routes).unwrap();
    let (_, listed) = routes["detail"].as_str().unwrap().split_once("there are ").unwrap();
    let listed: BTreeSet<_> =
        listed.split([',', ' ']).filter(|word| word.starts_with('/') && *word != "/").collect();
    let described: Vec<_> = paths.keys().map(|path| path.replace("{id}", "ID")).collect();
    assert_eq!(listed, described.iter().map(String::as_str).collect());
}

#[test]
fn what_is_open_to_all_needs_no_token_and_all_else_may() {
    let document: Value = serde_json::from_str(document()).unwrap();
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert!(document["security"].as_array().unwrap().iter().any(|scheme| scheme["token"].is_array()));
    for (path, item) in document["paths"].as_object().unwrap() {
        let is_open = item["get"]["security"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(is_open, ["/healthz", "/readyz"].contains(&path.as_str()), "{path}");
        assert_eq!(item["get"]["responses"]["401"].is_null(), is_open, "{path}");
    }
}
