//! How many devices are in which state: counted by reading every device's row, and not all the time.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::Api;
use crate::fleet::{self, State};
use crate::log::{self, LogStore, StoreError};
use crate::model::UnixMs;
use rollcall_wire::Slot;

/// Between two counts there is so many times the time that the first one took, so that large fleets cost no more than small
/// ones.
const PAUSE_TIMES: u32 = 20;

/// So long a count is waited for, which those of most fleets are shorter than.
const WAIT: Duration = Duration::from_millis(500);

/// How the devices are.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = DevicesByState)]
pub(super) struct TallyAnswer {
    online: u64,
    stale: u64,
    offline: u64,
    never_seen: u64,
    /// So many samples are missing of the boots that can get more.
    missing: u64,
    /// When the stale ones took their last samples; null when there are none.
    silent: Option<Silent>,
    /// Everything that was acknowledged before this instant is in it, and states are those of this instant.
    as_of: String,
}

impl TallyAnswer {
    /// The devices in each state, by its word.
    pub(super) fn by_state(&self) -> [(&'static str, u64); 4] {
        let states = [State::Online, State::Stale, State::Offline].map(State::word);
        let [online, stale, offline] = states;
        [(online, self.online), (stale, self.stale), (offline, self.offline), ("never_seen", self.never_seen)]
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct Silent {
    first: String,
    last: String,
}

/// The count that all share who tell it.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    /// The latest count, which is made anew when it is time; `None` before the first one.
    pub(super) async fn latest<S: LogStore>(&self, api: &Api<S>) -> Option<TallyAnswer> {
        self.0.lock().await.latest(api).await
    }
}

/// The latest count, and the one that is being made.
#[derive(Debug, Default)]
struct Tally {
    latest: Option<TallyAnswer>,
    counting: Option<Counting>,
    next: Option<Instant>,
}

/// A count that is being made, and when it began; in the end, when it ended.
#[derive(Debug)]
struct Counting {
    began: Instant,
    task: JoinHandle<(Result<TallyAnswer, StoreError>, Instant)>,
}

impl Tally {
    /// See [`SharedTally::latest`]; one that takes long is told when it is there.
    async fn latest<S: LogStore>(&mut self, api: &Api<S>) -> Option<TallyAnswer> {
        // It may have ended long ago, when nobody asked.
        self.collect(Duration::ZERO).await;
        if self.counting.is_none() && self.next.is_none_or(|next| next <= Instant::now()) {
            let api = api.clone();
            let task = tokio::spawn(async move { (count(&api).await, Instant::now()) });
            self.counting = Some(Counting { began: Instant::now(), task });
        }
        self.collect(WAIT).await;
        self.latest.clone()
    }

    /// Takes the count that is being made, if it is there so long after its beginning. Who comes later does not wait again.
    async fn collect(&mut self, wait: Duration) {
        let Some(Counting { began, task }) = &mut self.counting else { return };
        let Ok(counted) = timeout_at(*began + wait, task).await else { return };
        // What cannot be counted now is counted the next time; until then as_of tells how old it is.
        let (latest, ended) =
            counted.map_or_else(|_| (None, Instant::now()), |(count, ended)| (count.ok(), ended));
        self.next = Some(ended + (ended - *began) * PAUSE_TIMES);
        self.latest = latest.or(self.latest.take());
        self.counting = None;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(counting) = &self.counting {
            counting.task.abort();
        }
    }
}

async fn count<S: LogStore>(api: &Api<S>) -> Result<TallyAnswer, StoreError> {
    let slots: Vec<_> = Slot::all().collect();
    let as_of = log::devices::as_of(&*api.store, &slots, UnixMs::now()).await?;
    let mut never_seen = api.issued();
    let mut tally = TallyAnswer { as_of: as_of.to_rfc3339(), ..TallyAnswer::default() };
    let mut silent: Option<(UnixMs, UnixMs)> = None;
    fleet::scan(&*api.store, |device| {
        never_seen.remove(&device.id);
        let device = api.with_presence(device);
        // Of forged sequences more may be missing than can be counted.
        tally.missing = tally.missing.saturating_add(device.missing());
        match device.state(as_of) {
            State::Online => tally.online += 1,
            State::Offline => tally.offline += 1,
            State::Stale => {
                tally.stale += 1;
                let at = device.last_at();
                silent = Some(silent.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
            }
        }
    })
    .await?;
    tally.never_seen = never_seen.len() as u64;
    tally.silent = silent.map(|(first, last)| Silent { first: first.to_rfc3339(), last: last.to_rfc3339() });
    Ok(tally)
}
