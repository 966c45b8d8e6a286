//! How many samples of each status were counted, under the names that the statuses have.

use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use rollcall_wire::Status;

use crate::model::Statuses;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfStatus {
    status: usize,
    /// Empty when the status has none; so is the level.
    name: String,
    level: &'static str,
}

/// A counter of each status, which are looked up once.
#[derive(Debug)]
pub(super) struct ByStatus {
    family: Family<OfStatus, Counter>,
    counters: OnceLock<[Counter; Status::COUNT]>,
}

impl ByStatus {
    pub(super) fn new(family: Family<OfStatus, Counter>) -> Self {
        Self { family, counters: OnceLock::new() }
    }

    /// They have their names from now on, if none was counted yet.
    pub(super) fn named(&self, statuses: &Statuses) -> &[Counter; Status::COUNT] {
        self.counters.get_or_init(|| {
            std::array::from_fn(|status| {
                let meaning = statuses.meaning(status);
                let name = meaning.map(|meaning| meaning.name.clone()).unwrap_or_default();
                let level = meaning.map_or("", |meaning| meaning.level.word());
                self.family.get_or_create(&OfStatus { status, name, level }).clone()
            })
        })
    }

    /// One more sample.
    pub(super) fn inc(&self, status: Status) {
        if let Some(counter) = self.named(&Statuses::default()).get(usize::from(status.get())) {
            counter.inc();
        }
    }
}
