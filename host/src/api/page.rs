//! `GET /`: the page for people, out of this program. Its files ask the other resources, and nobody else.

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use tower_http::compression::CompressionLayer;

/// Where the files are, but the first.
const FOLDER: &str = "/page/";

/// Everything is from here, nothing is in line, and no other page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A name, its content type, and its content.
type File = (&'static str, &'static str, &'static [u8]);

macro_rules! file {
    ($name:literal, $kind:expr) => {
        ($name, $kind, include_bytes!(concat!("page/", $name)))
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const INDEX: File = file!("index.html", HTML);

const FILES: [File; 20] = [
    file!("icon.svg", "image/svg+xml"),
    file!("style.css", STYLE),
    file!("uPlot.min.css", STYLE),
    file!("uPlot.iife.min.js", SCRIPT),
    file!("theme.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("address.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("chart.js", SCRIPT),
    file!("data.js", SCRIPT),
    file!("device.js", SCRIPT),
    file!("devices.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("fleet.js", SCRIPT),
    file!("live.js", SCRIPT),
    file!("over.js", SCRIPT),
    file!("range.js", SCRIPT),
    file!("samples.js", SCRIPT),
    file!("statuses.js", SCRIPT),
    file!("words.js", SCRIPT),
];

/// Is this the path of a file of the page?
pub(super) fn is_part(path: &str) -> bool {
    path == "/" || path.starts_with(FOLDER)
}

/// A route for each file.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let named = FILES.iter().map(|file| (format!("{FOLDER}{}", file.0), *file));
    let all = [("/".to_owned(), INDEX)].into_iter().chain(named);
    let routes = all.fold(Router::new(), |routes, (path, (_, kind, content))| {
        // What is sent may be compressed, so the tag is of what it means.
        let tag = URL_SAFE_NO_PAD.encode(digest(&SHA256, content));
        let tag = HeaderValue::from_str(&format!("W/\"{tag}\"")).expect("base64 is a header's value");
        routes.route(&path, get(async move |headers: HeaderMap| answer(&headers, kind, content, tag)))
    });
    routes.layer(CompressionLayer::new())
}

fn answer(asked: &HeaderMap, kind: &'static str, content: &'static [u8], tag: HeaderValue) -> Response {
    let is_known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| *known == tag);
    let headers = [
        (header::ETAG, tag),
        // It may be kept, and is asked for each time: a page of an older version asks what is not there any more.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(header::CONTENT_TYPE, kind)], content).into_response()
}
