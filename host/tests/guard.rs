//! Who may ask over HTTP, and by which name: whatever is behind the guard.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use rollcall_host::api::{Api, Guard, guarded, router};
use rollcall_host::credentials::{Live, Role, Token};
use rollcall_host::log::MemoryStore;
use rollcall_host::ops::Ops;
use serde_json::Value;
use tower::ServiceExt;

const COUNTS: &str = "/status_count?start=1&end=2";

/// An API with tokens for a page and for operators.
struct Locked {
    router: Router,
    ops: Arc<Ops>,
    page: String,
    operators: String,
}

impl Locked {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let token = |name: &str, role| Token::new(name.parse().unwrap(), role).unwrap();
        let ((one, page), (other, operators)) = (token("page", Role::Read), token("operators", Role::Admin));
        fs::write(&path, format!("{one}\n{other}\n")).unwrap();
        let (tokens, _) = Live::open(&path).unwrap();
        let ops = Arc::new(Ops::default());
        let names = vec!["rollcall.example".parse().unwrap()];
        let router = plain(&ops);
        let router = guarded(router, Guard { names, tokens: Some(tokens), ops: ops.clone() });
        Self { router, ops, page, operators }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        authorization: &[&str],
    ) -> (StatusCode, Value, Option<String>) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for value in authorization {
            request = request.header(header::AUTHORIZATION, *value);
        }
        answer(&self.router, request.body(Body::empty()).unwrap()).await
    }

    fn refusals(&self, reason: &str) -> u64 {
        let name = format!("rollcall_http_refusals_total{{reason=\"{reason}\"}} ");
        let text = self.ops.metrics.text(true);
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
    }
}

fn plain(ops: &Arc<Ops>) -> Router {
    router(Api { store: Arc::new(MemoryStore::default()), ops: ops.clone(), issued: None })
}

/// Status, problem, and which credentials are asked for.
async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, Value, Option<String>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 100_000).await.unwrap();
    if parts.status.is_client_error() {
        assert_eq!(parts.headers[header::CONTENT_TYPE], "application/problem+json");
    }
    let challenge = parts.headers.get(header::WWW_AUTHENTICATE);
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
    (parts.status, serde_json::from_slice(&body).unwrap_or_default(), challenge)
}

#[tokio::test]
async fn without_a_good_token_nothing_is_told_but_how_the_process_is() {
    let locked = Locked::new();
    let secret = locked.page.split_once('.').unwrap().1;
    let wrong =
        [format!("Bearer page.{}", "0".repeat(64)), format!("Bearer operators.{secret}"), "Bearer ".into()];
    for path in [COUNTS, "/metrics", "/v1/live", "/nothing/here", "/healthz/x"] {
        let (status, problem, challenge) = locked.ask(Method::GET, path, &[]).await;
        assert_eq!((status, problem["status"].as_u64()), (StatusCode::UNAUTHORIZED, Some(401)), "{path}");
        assert_eq!(challenge.as_deref(), Some("Bearer realm=\"rollcall\""), "{path}");
        for wrong in &wrong {
            let (status, problem, challenge) = locked.ask(Method::GET, path, &[wrong]).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(challenge.unwrap().contains("invalid_token"), "{path}");
            assert!(!problem.to_string().contains(secret), "{problem}");
        }
    }
    // The page is nothing without answers, and asks for a token itself.
    for path in ["/healthz", "/readyz", "/healthz/", "/", "/page/app.js"] {
        assert_eq!(locked.ask(Method::GET, path, &[]).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!((locked.refusals("no_token"), locked.refusals("bad_token")), (5, 15));
}

#[tokio::test]
async fn a_token_is_shown_once_and_as_a_bearers() {
    let locked = Locked::new();
    let good = format!("bearer  {}", locked.page);
    assert_eq!(locked.ask(Method::GET, COUNTS, &[&good]).await.0, StatusCode::OK);
    let basic = format!("Basic {}", locked.page);
    for authorization in [&[good.as_str(), good.as_str()][..], &[&basic], &[&locked.page], &["Bearer"]] {
        let (status, ..) = locked.ask(Method::GET, COUNTS, authorization).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{}", authorization.len());
    }
}

#[tokio::test]
async fn who_may_read_changes_nothing() {
    let locked = Locked::new();
    let (page, operators) = (format!("Bearer {}", locked.page), format!("Bearer {}", locked.operators));
    for path in [COUNTS, "/metrics"] {
        for token in [&page, &operators] {
            assert_eq!(locked.ask(Method::GET, path, &[token]).await.0, StatusCode::OK, "{path}");
        }
        let (status, problem, challenge) = locked.ask(Method::POST, path, &[&page]).await;
        assert_eq!((status, problem["status"].as_u64()), (StatusCode::FORBIDDEN, Some(403)), "{path}");
        assert!(challenge.unwrap().contains("insufficient_scope"));
        let (status, ..) = locked.ask(Method::POST, path, &[&operators]).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "there is nothing to change yet");
    }
    assert_eq!(locked.refusals("role_too_low"), 2);
}

#[tokio::test]
async fn a_request_for_another_host_is_misdirected_and_one_for_none_or_two_is_bad() {
    let ops = Arc::new(Ops::default());
    let names = vec!["rollcall.example".parse().unwrap(), "192.0.2.7".parse().unwrap()];
    let open = guarded(plain(&ops), Guard { names, tokens: None, ops: ops.clone() });
    let ask = async |path: &str, hosts: &[&str]| {
        let mut request = Request::get(path);
        for host in hosts {
            request = request.header("host", *host);
        }
        answer(&open, request.body(Body::empty()).unwrap()).await
    };
    for host in ["localhost:5000", "127.0.0.1", "[::1]:5000", "ROLLCALL.example:80", "192.0.2.7:5000"] {
        assert_eq!(ask(COUNTS, &[host]).await.0, StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "192.0.2.8", "rollcall.example.evil.example"] {
        for path in [COUNTS, "/metrics", "/"] {
            let (status, problem, _) = ask(path, &[host]).await;
            assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host}");
            assert!(problem["detail"].as_str().unwrap().contains("--http-name"), "{problem}");
        }
        // Whoever probes a process may know its address only, and learns nothing that a page elsewhere may not.
        assert_eq!(ask("/healthz", &[host]).await.0, StatusCode::OK, "{host}");
    }
    for hosts in
        [&[][..], &["localhost", "localhost"], &["localhost", "evil.example"], &["local host"], &[""]]
    {
        for path in [COUNTS, "/healthz"] {
            assert_eq!(ask(path, hosts).await.0, StatusCode::BAD_REQUEST, "RFC 9112, section 3.2: {hosts:?}");
        }
    }
    let text = ops.metrics.text(true);
    assert!(text.contains("rollcall_http_refusals_total{reason=\"other_host\"} 9\n"), "{text}");
    assert!(text.contains("rollcall_http_refusals_total{reason=\"bad_host\"} 10\n"), "{text}");
}
