//! What was removed since the start of the process, because it was older than messages are kept.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// See the module.
#[derive(Debug)]
pub struct Removed {
    pub(super) entries: Counter,
    pub(super) messages: Counter,
    pub(super) complete_from: Gauge,
}

impl Removed {
    /// So many entries went, with so many messages.
    pub fn gone(&self, entries: u64, messages: u64) {
        self.entries.inc_by(entries);
        self.messages.inc_by(messages);
    }

    /// Messages that were sampled in this Unix second or later are all there.
    pub fn complete_from(&self, second: u64) {
        self.complete_from.set(i64::try_from(second).unwrap_or(i64::MAX));
    }
}
