//! The page's files: what they may load, how large they are, and that they are sent once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use rollcall_host::api::{Api, router};
use rollcall_host::log::MemoryStore;
use rollcall_host::model::Statuses;
use rollcall_host::ops::Ops;
use serde_json::{Value, json};
use tower::ServiceExt;

/// All that a first look takes, compressed.
const BYTES_MAX: usize = 60 * 1024;

fn api(ops: Ops) -> Router {
    router(Api { store: Arc::new(MemoryStore::default()), ops: Arc::new(ops), issued: None })
}

async fn get(
    api: &Router,
    path: &str,
    headers: &[(header::HeaderName, &str)],
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let answer = api.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    (parts.status, parts.headers, axum::body::to_bytes(body, 1_000_000).await.unwrap().to_vec())
}

/// What a file names between these signs, if it is a path.
fn named(text: &str, before: &str) -> BTreeSet<String> {
    let rests = text.split(before).skip(1);
    rests
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .filter(|path| !path.starts_with('?'))
        .collect()
}

/// Every file that the page loads.
async fn files(api: &Router) -> BTreeSet<String> {
    let (status, _, index) = get(api, "/", &[]).await;
    assert_eq!(status, StatusCode::OK);
    let index = String::from_utf8(index).unwrap();
    let mut files: BTreeSet<_> =
        named(&index, "src=\"").into_iter().chain(named(&index, "href=\"")).collect();
    files.retain(|file| file.starts_with("/page/"));
    files.insert("/".to_owned());
    files
}

#[tokio::test]
async fn every_file_comes_from_here_and_may_load_nothing_from_elsewhere() {
    let api = api(Ops::default());
    let files = files(&api).await;
    for file in &files {
        let (status, headers, body) = get(&api, file, &[]).await;
        assert_eq!(status, StatusCode::OK, "{file}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let text = String::from_utf8(body).unwrap();
        for module in named(&text, "from \"./") {
            assert!(
                files.contains(&format!("/page/{module}")),
                "{file} imports {module}, which the page does not name"
            );
        }
        let elsewhere =
            text.replace("http://www.w3.org/2000/svg", "").replace("https://github.com/leeoniya/uPlot", "");
        assert!(!elsewhere.contains("https://") && !elsewhere.contains("http://"), "{file}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/page");
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let is_sent = files.contains(&format!("/page/{name}")) || name == "index.html";
        assert!(is_sent || name == "VENDORED.md", "{name} is not part of the page");
    }
    assert_eq!(get(&api, "/page/nothing.js", &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&api, "/page/", &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn all_of_it_is_small_and_is_sent_once() {
    let api = api(Ops::default());
    let mut bytes = 0;
    for file in files(&api).await {
        let (_, headers, body) = get(&api, &file, &[(header::ACCEPT_ENCODING, "gzip")]).await;
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip", "{file}");
        bytes += body.len();
        let tag = headers[header::ETAG].to_str().unwrap();
        let (status, headers, body) = get(&api, &file, &[(header::IF_NONE_MATCH, tag)]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{file}");
        assert_eq!(headers[header::ETAG], tag);
        let (status, ..) = get(&api, &file, &[(header::IF_NONE_MATCH, "W/\"other\"")]).await;
        assert_eq!(status, StatusCode::OK, "{file}");
    }
    println!("{bytes} bytes");
    assert!((20_000..BYTES_MAX).contains(&bytes), "{bytes} bytes");
}

#[tokio::test]
async fn statuses_are_told_as_the_host_was_told_and_are_labels_of_what_is_counted() {
    let ask = async |api: &Router| {
        let (status, _, body) = get(api, "/v1/statuses", &[]).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let nothing = ask(&api(Ops::default())).await;
    assert_eq!(nothing["statuses"].as_object().unwrap().len(), 7);
    assert_eq!(nothing["statuses"]["6"], Value::Null);
    let mut meanings = json!({});
    for status in 0..7 {
        meanings[status.to_string()] = json!({"name": format!("s {status}"), "level": "warning"});
    }
    let ops = Ops::default();
    ops.name_statuses(Statuses::parse(&meanings.to_string()).unwrap());
    ops.counted(rollcall_wire::Status::new(3).unwrap());
    let api = api(ops);
    assert_eq!(ask(&api).await, json!({ "statuses": meanings }));
    let (_, _, metrics) = get(&api, "/metrics", &[]).await;
    let line = r#"rollcall_samples_counted_total{status="3",name="s 3",level="warning"} 1"#;
    let text = String::from_utf8(metrics).unwrap();
    assert!(text.lines().any(|one| one == line), "{text}");
}
