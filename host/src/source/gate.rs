//! What every source needs to end well: it counts the messages that it took and has not seen settled, and takes no
//! further ones once it drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::ops::{Dropped, Ops};

/// When draining, how often is looked whether all is settled.
const POLL: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    unsettled: AtomicUsize,
    draining: AtomicBool,
    ops: Arc<Ops>,
}

/// A message that was taken and is not settled. It is until this value goes.
#[derive(Debug)]
pub(super) struct Unsettled(Arc<Gate>);

impl Gate {
    /// An open one.
    pub(super) fn new(ops: Arc<Ops>) -> Arc<Self> {
        Arc::new(Self { unsettled: AtomicUsize::new(0), draining: AtomicBool::new(false), ops })
    }

    /// A message was received; `None` when it is not to be taken because the source drains. Counted first and
    /// looked second, so that a drain that sees zero has seen this one or is seen by it.
    pub(super) fn take(self: &Arc<Self>) -> Option<Unsettled> {
        self.ops.metrics.received.inc();
        self.ops.metrics.in_flight.inc();
        self.unsettled.fetch_add(1, Ordering::SeqCst);
        let unsettled = Unsettled(self.clone());
        if self.is_draining() {
            self.ops.dropped(Dropped::Draining, 1);
            return None;
        }
        Some(unsettled)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Takes nothing more, and waits until all that was taken is settled.
    pub(super) async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        while self.unsettled.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.unsettled.fetch_sub(1, Ordering::SeqCst);
        self.0.ops.metrics.in_flight.dec();
    }
}
