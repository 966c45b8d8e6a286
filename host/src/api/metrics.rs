//! `GET /metrics`: how the process is, as OpenMetrics text.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::{Api, health};
use crate::log::LogStore;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics are wanted most when a store does not answer: beyond this it is taken for away.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn get<S: LogStore>(State(api): State<Api<S>>) -> Response {
    let reason = tokio::time::timeout(STORE_TIMEOUT, health::reason(&api)).await;
    let ready = matches!(reason, Ok(None));
    ([(header::CONTENT_TYPE, OPEN_METRICS)], api.ops.metrics.text(ready)).into_response()
}
