//! The HTTP API. It reads the store; it knows nothing of ingest. `guard` stands before all of it,
//! and `cors` before that.

mod answers;
mod cors;
mod counts;
mod device;
mod devices;
mod differs;
mod error;
mod guard;
mod health;
mod host_name;
mod metrics;
mod queries;
mod range;
mod series;
mod status_count;

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get};
use rollcall_wire::DeviceId;

use self::queries::Queries;
use crate::credentials::{Devices, Live};
use crate::fleet::FleetDevice;
use crate::log::LogStore;
use crate::ops::Ops;

pub use cors::{Origin, OriginError, allow_origins};
pub use error::Problem;
pub use guard::{Guard, guarded};
pub use host_name::{HostName, InvalidHostName};
pub use range::parse_query;

/// What the handlers share.
pub struct Api<S> {
    /// Where the counts are.
    pub store: Arc<S>,
    /// How the process is.
    pub ops: Arc<Ops>,
    /// Who may come, if that is known.
    pub issued: Option<Live<Devices>>,
}

impl<S> Api<S> {
    /// A device, and when it left, if this process heard of it.
    fn with_presence(&self, device: FleetDevice) -> FleetDevice {
        FleetDevice { left_at: self.ops.presence.left_at(&device.id), ..device }
    }

    /// Every device that has a credential, as far as that is known.
    fn issued(&self) -> HashSet<DeviceId> {
        self.issued.as_ref().map(|issued| issued.get().ids().collect()).unwrap_or_default()
    }

    /// Has a device a credential?
    fn is_issued(&self, device: &DeviceId) -> bool {
        self.issued.as_ref().is_some_and(|issued| issued.get().contains(device))
    }
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), ops: self.ops.clone(), issued: self.issued.clone() }
    }
}

/// Every route. The server and the tests call this same function.
pub fn router<S: LogStore>(api: Api<S>) -> Router {
    let in_turn = from_fn_with_state(Queries::new(api.ops.clone()), queries::in_turn);
    let routes = at("/status_count", get(status_count::get::<S>).layer(in_turn.clone()), how_it_is());
    let routes = at("/v1/counts", get(counts::get::<S>).layer(in_turn.clone()), routes);
    let routes = at("/v1/series", get(series::get::<S>).layer(in_turn.clone()), routes);
    let routes = at("/v1/devices", get(devices::get::<S>).layer(in_turn.clone()), routes);
    let routes = at("/v1/devices/{id}", get(device::get::<S>).layer(in_turn.clone()), routes);
    let routes = at("/v1/differs", get(differs::get::<S>).layer(in_turn), routes);
    let there_are = "/status_count, /v1/counts, /v1/series, /v1/devices, /v1/devices/ID, /v1/differs, /healthz, /readyz and /metrics";
    finished(routes, there_are, api)
}

/// The routes of a process that stores and leaves the answers to others.
pub fn router_without_counts<S: LogStore>(api: Api<S>) -> Router {
    finished(how_it_is(), "/healthz, /readyz and /metrics; rollcall api has the counts", api)
}

/// What every role answers.
fn how_it_is<S: LogStore>() -> Router<Api<S>> {
    let routes = at("/healthz", get(health::live), Router::new());
    let routes = at("/readyz", get(health::ready::<S>), routes);
    at("/metrics", get(metrics::get::<S>), routes)
}

/// Adds a resource. A trailing slash does not name another one.
fn at<S: LogStore>(path: &str, handler: MethodRouter<Api<S>>, routes: Router<Api<S>>) -> Router<Api<S>> {
    routes.route(&format!("{path}/"), handler.clone()).route(path, handler)
}

fn finished<S: LogStore>(routes: Router<Api<S>>, there_are: &'static str, api: Api<S>) -> Router {
    routes
        .fallback(move |uri: Uri| async move { error::no_resource(&uri, there_are) })
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(api)
}
