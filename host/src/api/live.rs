//! `GET /v1/live`: once a second, as server-sent events, how many of each status were taken in one of the last seconds,
//! at what rate, and how many devices answer.
//!
//! What is told is read once a second for all readers, and only while there are any. A reader that is slow misses
//! seconds and holds up nobody.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::ConnectInfo;
use axum::http::header;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use utoipa::ToSchema;

use super::Api;
use super::answers::{each_status, sums};
use super::error::Problem;
use super::tally::{SharedTally, TallyAnswer};
use crate::log::LogStore;
use crate::log::plan::{self, Plan};
use crate::model::{Counts, UnixMs};
use crate::ops::Ops;

/// So many readers there are at a time.
const READERS_MAX: usize = 128;

/// When one that found no place may ask again, in seconds.
const RETRY_S: &str = "10";

/// The second that is told has ended so long ago, in seconds: what was taken in it has arrived, unless it was held up.
const SETTLED_S: u64 = 2;

/// A store that does not answer for so long is told of, and is asked again.
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// So long a reader has its place, and the right to it that its token gave. It may ask again.
const LIFE: Duration = Duration::from_mins(10);

/// The rate is that of so many seconds.
const RATE_S: u64 = 10;

/// Completes when the process ends: a stream of events ends with it.
#[derive(Clone, Debug)]
pub struct Ending(pub watch::Receiver<()>);

impl Ending {
    pub(super) async fn has_come(mut self) {
        let _ = self.0.changed().await;
    }
}

/// What is told of a second.
#[derive(Serialize, ToSchema)]
pub(super) struct Second {
    /// Which one, in Unix time.
    second: u64,
    #[serde(serialize_with = "each_status")]
    #[schema(value_type = BTreeMap<String, u64>)]
    counts: Counts,
    total: u64,
    /// Samples a second, over the last ten of them.
    rate: f64,
    /// How the devices are; null until they are counted.
    devices: Option<TallyAnswer>,
    /// Where devices publish to, if this process listens for them.
    mqtt_port: Option<u16>,
    /// Everything that was acknowledged before this instant is counted.
    as_of: String,
}

/// A second, or why there is none, as all readers get it.
#[derive(Clone)]
struct Told {
    event: &'static str,
    data: Arc<str>,
}

/// What all readers share.
pub(super) struct Seconds<S> {
    api: Api<S>,
    tally: SharedTally,
    places: Arc<Semaphore>,
    latest: watch::Sender<Option<Told>>,
    /// What reads for the readers, while there are any.
    teller: Mutex<Option<JoinHandle<()>>>,
}

/// A reader's place, which it gives back.
struct Place {
    ops: Arc<Ops>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ops.metrics.live_readers.dec();
    }
}

/// What is counted, second by second, as server-sent events: `second`, or `problem` where it cannot be told.
#[utoipa::path(
    get,
    path = "/v1/live",
    operation_id = "live",
    tag = "queries",
    responses((status = 200, description = "The data of an event, one a second.", content_type = "text/event-stream", body = Second)),
)]
pub(super) async fn get<S: LogStore>(
    seconds: Arc<Seconds<S>>,
    ending: Option<Extension<Ending>>,
    client: Option<Extension<ConnectInfo<SocketAddr>>>,
) -> Response {
    seconds.events(ending, client)
}

impl<S: LogStore> Seconds<S> {
    pub(super) fn new(api: Api<S>, tally: SharedTally) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(READERS_MAX));
        Arc::new(Self { api, tally, places, latest: watch::Sender::new(None), teller: Mutex::default() })
    }

    /// The events, from the latest on.
    fn events(
        self: &Arc<Self>,
        ending: Option<Extension<Ending>>,
        client: Option<Extension<ConnectInfo<SocketAddr>>>,
    ) -> Response {
        let Ok(permit) = self.places.clone().try_acquire_owned() else {
            self.api.ops.live_refused(client.map(|Extension(ConnectInfo(client))| client));
            let problem = format!("there are {READERS_MAX} readers already; ask again in {RETRY_S} s");
            return ([(header::RETRY_AFTER, RETRY_S)], Problem::unavailable(problem)).into_response();
        };
        self.api.ops.metrics.live_readers.inc();
        let place = Place { ops: self.api.ops.clone(), _permit: permit };
        let events = stream::unfold((self.subscribe(), place), |(mut latest, place)| async move {
            loop {
                latest.changed().await.ok()?;
                let told = latest.borrow_and_update().clone();
                if let Some(told) = told {
                    let event = Event::default().event(told.event).data(told.data);
                    return Some((Ok::<_, Infallible>(event), (latest, place)));
                }
            }
        });
        let ended = async move {
            let ending = async {
                match ending {
                    Some(Extension(ending)) => ending.has_come().await,
                    None => std::future::pending().await,
                }
            };
            let _ = timeout(LIFE, ending).await;
        };
        let headers = [(header::CACHE_CONTROL, "no-store")];
        (headers, Sse::new(events.take_until(Box::pin(ended)))).into_response()
    }

    /// A reader, and what reads for it.
    fn subscribe(self: &Arc<Self>) -> watch::Receiver<Option<Told>> {
        let mut teller = self.teller();
        // One that ended with the threads that it ran in has no successor yet.
        if teller.as_ref().is_none_or(JoinHandle::is_finished) {
            self.latest.send_replace(None);
            *teller = Some(tokio::spawn(self.clone().tell()));
        }
        let mut latest = self.latest.subscribe();
        latest.mark_changed();
        latest
    }

    fn teller(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.teller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads once a second until nobody listens. A store that hangs is asked once, however long that is and whoever comes
    /// meanwhile: what asks it may hold a thread.
    async fn tell(self: Arc<Self>) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered: Option<JoinHandle<Result<Second, Problem>>> = None;
        loop {
            ticks.tick().await;
            if unanswered.is_none() {
                // Whoever comes after this finds that nobody reads any more.
                let mut teller = self.teller();
                if self.latest.receiver_count() == 0 {
                    *teller = None;
                    return;
                }
            }
            let is_late = unanswered.is_some();
            let mut asked = match unanswered.take() {
                Some(asked) => asked,
                None => {
                    let devices = self.tally.latest(&self.api).await;
                    let seconds = self.clone();
                    tokio::spawn(async move { seconds.second(devices).await })
                }
            };
            let second = match timeout(STORE_LIMIT, &mut asked).await {
                // What it says is of a second that is long over.
                Ok(_) if is_late => continue,
                Ok(second) => second.unwrap_or_else(|error| Err(Problem::unavailable(error.to_string()))),
                Err(_) => {
                    unanswered = Some(asked);
                    Err(Problem::unavailable("the store does not answer"))
                }
            };
            self.latest.send_replace(Some(told(second)));
        }
    }

    async fn second(&self, devices: Option<TallyAnswer>) -> Result<Second, Problem> {
        let second = UnixMs::now().second().saturating_sub(SETTLED_S);
        let seconds = (second + 1).saturating_sub(RATE_S)..second + 1;
        let (counts, as_of) = sums(&self.api, Plan::stepwise(seconds, 1), plan::series).await?;
        let in_all: u64 = counts.iter().map(Counts::total).sum();
        let counts = counts.last().copied().unwrap_or_default();
        Ok(Second {
            second,
            counts,
            total: counts.total(),
            rate: in_all as f64 / RATE_S as f64,
            devices,
            mqtt_port: self.api.ops.mqtt_port(),
            as_of: as_of.to_rfc3339(),
        })
    }
}

fn told(second: Result<Second, Problem>) -> Told {
    let (event, data) = match second {
        Ok(second) => ("second", serde_json::to_string(&second)),
        Err(problem) => ("problem", serde_json::to_string(&problem)),
    };
    // Structs of numbers and strings always serialise.
    Told { event, data: data.expect("plain data always serialises").into() }
}
