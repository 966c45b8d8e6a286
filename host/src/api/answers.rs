//! What all answers with counts share: how they are read from the store, and how they are written.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use utoipa::ToSchema;

use super::Api;
use super::error::Problem;
use crate::log::LogStore;
use crate::log::plan::{Plan, View};
use crate::model::{Counts, UnixMs};

/// So many sums are added up in less time than another thread takes to begin with them.
const SUMS_AT_ONCE: usize = 4096;

/// How many of all may have been taken in another second than the one in which they are counted: a number, or one a
/// step.
#[derive(Serialize, ToSchema)]
pub(super) struct TimeUncertain<T> {
    /// Their time is known to a second only.
    pub(super) one_second: T,
    /// Their time is not known.
    pub(super) unknown: T,
}

/// The sums of a plan, and the instant before which everything that was acknowledged is in them.
///
/// # Errors
/// 503 when the store does not answer.
pub(super) async fn sums<S: LogStore, T: Send + 'static>(
    api: &Api<S>,
    plan: Plan,
    add_up: fn(&Plan, &View) -> T,
) -> Result<(T, UnixMs), Problem> {
    let as_of = UnixMs::now();
    let view = api.store.view(&plan).await?;
    let sums = if view.sums() <= SUMS_AT_ONCE {
        add_up(&plan, &view)
    } else {
        reckoned(move || add_up(&plan, &view)).await?
    };
    Ok((sums, as_of))
}

/// What takes its time, as a long tail does. Other requests do not wait for it.
pub(super) async fn reckoned<T: Send + 'static>(
    reckon: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(reckon).await.map_err(|error| Problem::unavailable(error.to_string()))
}

/// The counts of every status, zeros included.
pub(super) fn each_status<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    by_status(serializer, |status| counts.statuses[status])
}

/// Something of every status, in order.
pub(super) fn by_status<S: Serializer, T: Serialize>(
    serializer: S,
    of: impl Fn(usize) -> T,
) -> Result<S::Ok, S::Error> {
    let statuses = Counts::default().statuses.len();
    let mut map = serializer.serialize_map(Some(statuses))?;
    for status in 0..statuses {
        map.serialize_entry(&status.to_string(), &of(status))?;
    }
    map.end()
}

/// An answer of the moment.
pub(super) fn answer(answer: &impl Serialize) -> Response {
    // Structs of numbers and strings always serialise.
    let body = serde_json::to_string(answer).expect("plain data always serialises");
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}
