//! What a board's samples outlast a reset in, if in anything.

use rollcall_device::BootId;
use rollcall_device::store::{Store, Volatile};

use crate::node::NodeEmitter;
#[cfg(feature = "tls")]
use crate::node::{NodeClock, NodeSampler, NodeSensor};

/// A store, and what it knows of earlier boots.
pub trait Memory: Store {
    /// The boot id to go on under; `None` is a fresh one.
    fn boot(&self) -> Option<BootId>;

    /// The time to go on from, in milliseconds.
    fn last_ms(&self) -> u64;

    /// Hands over what was not acknowledged.
    ///
    /// # Errors
    /// When it cannot: the emitter must not run then, since it would give numbers twice.
    fn restore(&mut self, emitter: &mut NodeEmitter<'_>) -> impl Future<Output = Result<(), Unreadable>>;

    /// Samples for ever, in an interrupt: `sampler.run(clock, sensor, self, pending())`. It is asked of the memory, because
    /// only of a memory that is known is it known that its futures may be polled there.
    #[cfg(feature = "tls")]
    fn sample(
        &mut self,
        sampler: NodeSampler<'_>,
        clock: &NodeClock,
        sensor: &mut NodeSensor,
    ) -> impl Future<Output = ()> + Send;
}

/// What was kept cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable;

impl Memory for Volatile {
    fn boot(&self) -> Option<BootId> {
        None
    }

    fn last_ms(&self) -> u64 {
        0
    }

    async fn restore(&mut self, _emitter: &mut NodeEmitter<'_>) -> Result<(), Unreadable> {
        Ok(())
    }

    #[cfg(feature = "tls")]
    fn sample(
        &mut self,
        sampler: NodeSampler<'_>,
        clock: &NodeClock,
        sensor: &mut NodeSensor,
    ) -> impl Future<Output = ()> + Send {
        sampler.run(clock, sensor, *self, core::future::pending())
    }
}
