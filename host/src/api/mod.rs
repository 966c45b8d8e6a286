//! The HTTP API. It reads the store; it knows nothing of ingest.

mod error;
mod health;
mod status_count;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::log::LogStore;
use crate::ops::health::Health;

pub use error::Problem;
pub use status_count::parse_query;

/// What the handlers share.
pub struct Api<S> {
    /// Where the counts are.
    pub store: Arc<S>,
    /// Why the process is not ready.
    pub health: Arc<Health>,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), health: self.health.clone() }
    }
}

/// Every route. The server and the tests call this same function.
pub fn router<S: LogStore>(api: Api<S>) -> Router {
    Router::new()
        .route("/status_count", get(status_count::get::<S>))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready::<S>))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(api)
}
