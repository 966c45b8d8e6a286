//! `GET /healthz`: the process lives. `GET /readyz`: it can take messages and answer.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::Problem;
use crate::log::LogStore;

const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

/// Does the process live?
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "health",
    responses((status = 200, description = "It does.", content_type = "application/json", body = BTreeMap<String, String>, example = json!({"status": "alive"}))),
)]
pub(super) async fn live() -> Response {
    (JSON, r#"{"status":"alive"}"#).into_response()
}

/// Can it take messages and answer?
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "health",
    responses((status = 200, description = "It can.", content_type = "application/json", body = BTreeMap<String, String>, example = json!({"status": "ready"}))),
)]
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
