//! `GET /metrics`: how the process is, as OpenMetrics text.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::tally::SharedTally;
use super::{Api, health};
use crate::log::LogStore;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics are wanted most when a store does not answer: beyond this it is taken for away.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// How the process is, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses((status = 200, description = "OpenMetrics text.", content_type = "application/openmetrics-text", body = String)),
)]
pub(super) async fn get<S: LogStore>(State(api): State<Api<S>>, tally: SharedTally) -> Response {
    let reason = tokio::time::timeout(STORE_TIMEOUT, health::reason(&api)).await;
    if reason.is_ok()
        && let Some(tally) = tally.latest(&api).await
    {
        api.ops.metrics.devices_by_state(&tally.by_state());
    }
    let ready = matches!(reason, Ok(None));
    ([(header::CONTENT_TYPE, OPEN_METRICS)], api.ops.metrics.text(ready)).into_response()
}
