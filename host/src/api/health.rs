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
    if let Some(reason) = api.health.reason() {
        return Err(Problem::unavailable(reason));
    }
    api.store.ping().await.map_err(|error| Problem::unavailable(error.to_string()))?;
    Ok((JSON, r#"{"status":"ready"}"#).into_response())
}
