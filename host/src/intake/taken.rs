//! Counts what the ingest loop took out of the inbox by what became of it, even if the loop does not live to see it.

use rollcall_wire::codec::Rejection;
use rollcall_wire::{Announcement, DeviceId};

use crate::model::{Record, UnixMs, Verdict};
use crate::ops::{Dropped, Ops};

/// The messages of a flush that are not settled yet.
pub(super) struct Taken<'a> {
    ops: &'a Ops,
    unsettled: usize,
}

impl<'a> Taken<'a> {
    /// So many were taken out of the inbox.
    pub(super) fn new(messages: usize, ops: &'a Ops) -> Self {
        Self { ops, unsettled: messages }
    }

    /// A message had waited so long in a broker.
    pub(super) fn waited(&self, seconds: u32) {
        self.ops.metrics.waited(seconds);
    }

    /// A sample has its verdict.
    pub(super) fn settled(&mut self, record: &Record, verdict: Verdict) {
        self.unsettled -= 1;
        match verdict {
            Verdict::Accepted => self.ops.counted(record.status),
            Verdict::Duplicate => drop(self.ops.metrics.duplicates.inc()),
            Verdict::Undecided => self.ops.undecided(record.device, record.id),
            Verdict::Rejected(rejection) => self.ops.not_counted(rejection, record.device, record.id),
        }
    }

    /// A message says that a device came or left, or something else of its presence.
    pub(super) fn presence(&mut self, device: DeviceId, announcement: Option<Announcement>, at: UnixMs) {
        self.unsettled -= 1;
        if let Some(announcement) = announcement {
            self.ops.presence.heard(device, &announcement, at);
        }
        self.ops.metrics.presence.inc();
    }

    /// A message is no sample.
    pub(super) fn rejected(&mut self, rejection: Rejection, topic: &str) {
        self.unsettled -= 1;
        self.ops.rejected(rejection, topic);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let why = if std::thread::panicking() { Dropped::IngestFailed } else { Dropped::Draining };
        self.ops.dropped(why, self.unsettled as u64);
    }
}
