//! The HTTP API. It reads the store; it knows nothing of ingest. `guard` stands before all of it,
//! and `cors` before that.

mod answers;
mod completeness;
mod cors;
mod counts;
mod device;
mod devices;
mod differs;
mod error;
mod guard;
mod health;
mod host_name;
mod live;
mod messages;
mod metrics;
mod openapi;
mod page;
mod queries;
mod range;
mod series;
mod status_count;
mod statuses;
mod tally;

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get};
use rollcall_wire::DeviceId;

use self::live::Seconds;
use self::messages::Readers;
use self::queries::Queries;
use self::tally::SharedTally;
use crate::credentials::{Devices, Live};
use crate::fleet::FleetDevice;
use crate::log::LogStore;
use crate::ops::Ops;

pub use cors::{Origin, OriginError, allow_origins};
pub use error::Problem;
pub use guard::{Guard, guarded};
pub use host_name::{HostName, InvalidHostName};
pub use live::Ending;
pub use openapi::document;
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
    let queries = Queries::new(api.ops.clone());
    let query = |path: &'static str, handler: MethodRouter<Api<S>>, routes| {
        let handler = handler.layer(from_fn_with_state(queries.of(path), queries::in_turn));
        at(&path.replace("ID", "{id}"), handler, routes)
    };
    let tally = SharedTally::default();
    let routes = query("/status_count", get(status_count::get::<S>), how_it_is(tally.clone()));
    let routes = query("/v1/counts", get(counts::get::<S>), routes);
    let routes = query("/v1/series", get(series::get::<S>), routes);
    let routes = query("/v1/devices", get(devices::get::<S>), routes);
    let routes = query("/v1/devices/ID", get(device::get::<S>), routes);
    let routes = query("/v1/differs", get(differs::get::<S>), routes);
    let readers = Readers::default();
    let messages = move |api, ending, query| messages::get::<S>(api, readers.clone(), ending, query);
    let routes = query("/v1/messages", get(messages), routes);
    let routes = at("/v1/statuses", get(statuses::get::<S>), routes);
    let seconds = Seconds::new(api.clone(), tally);
    let routes =
        at("/v1/live", get(move |ending, client| live::get(seconds.clone(), ending, client)), routes);
    let routes = at("/openapi.json", get(openapi::get), routes);
    let there_are = "/, /status_count, /v1/counts, /v1/series, /v1/devices, /v1/devices/ID, /v1/differs, /v1/messages, /v1/statuses, /v1/live, /openapi.json, /healthz, /readyz and /metrics";
    let routes = routes.merge(page::routes());
    finished(routes, there_are, api)
}

/// The routes of a process that stores and leaves the answers to others.
pub fn router_without_counts<S: LogStore>(api: Api<S>) -> Router {
    finished(
        how_it_is(SharedTally::default()),
        "/healthz, /readyz and /metrics; rollcall api has the counts",
        api,
    )
}

/// What every role answers.
fn how_it_is<S: LogStore>(tally: SharedTally) -> Router<Api<S>> {
    let routes = at("/healthz", get(health::live), Router::new());
    let routes = at("/readyz", get(health::ready::<S>), routes);
    at("/metrics", get(move |api| metrics::get::<S>(api, tally.clone())), routes)
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
