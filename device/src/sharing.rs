//! How sampler and session share what they share: in one task, or in two of which one may interrupt the other.
//!
//! A processor that calculates for a second, for a handshake of TLS, does nothing else in that task. A board whose
//! samples must not wait for it polls the sampler in an interrupt.

use core::task::Waker;

use embassy_sync::blocking_mutex::raw::{CriticalSectionRawMutex, NoopRawMutex, RawMutex};
use embassy_sync::waitqueue::AtomicWaker;

/// Who is kept out while somebody looks, and who is woken when something has changed.
pub trait Sharing {
    /// Keeps the other one out.
    type Lock: RawMutex;

    /// Nobody waits.
    const INIT: Self;

    /// Whom the sampler is to wake.
    fn register(&self, waker: &Waker);

    /// Wakes the session's task, if it was registered.
    fn wake(&self);
}

/// Sampler and session in one task, which polls the sampler first: nobody has to be kept out or woken.
#[derive(Debug)]
pub struct OneTask;

impl Sharing for OneTask {
    type Lock = NoopRawMutex;

    const INIT: Self = Self;

    fn register(&self, _waker: &Waker) {}

    fn wake(&self) {}
}

/// Sampler and session in a task each, of which one may interrupt the other. Critical sections keep it out, none of
/// which takes longer than a look through the outbox.
pub struct TwoTasks(AtomicWaker);

impl Sharing for TwoTasks {
    type Lock = CriticalSectionRawMutex;

    const INIT: Self = Self(AtomicWaker::new());

    fn register(&self, waker: &Waker) {
        self.0.register(waker);
    }

    fn wake(&self) {
        self.0.wake();
    }
}
