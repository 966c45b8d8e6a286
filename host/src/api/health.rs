//! `GET /healthz`: the process lives. `GET /readyz`: it can take messages and answer.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::Problem;
use crate::log::LogStore;

const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

pub(super) async fn live() -> Response {
    (JSON, r#"{"status":"alive"}"#).into_response()
}

pub(super) async fn ready<S: LogStore>(State(api): State<Api<S>>) -> Result<Response, Problem> {
    reason(&api).await.map_or_else(
        || Ok((JSON, r#"{"status":"ready"}"#).into_response()),
        |reason| Err(Problem::unavailable(reason)),
    )
}

/// Why the process is not ready, if it is not.
pub(super) async fn reason<S: LogStore>(api: &Api<S>) -> Option<String> {
    match api.ops.reason() {
        Some(reason) => Some(reason),
        None => api.store.ping().await.err().map(|error| error.to_string()),
    }
}
