//! What a connection and the engine share: a record in each direction, and how far they are.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::Poll;

use crate::error::Failure;
use crate::wire::{Inward, Outward};

/// Room for the longest record that a server may send, in bytes: its certificate comes in one. OpenSSL and rustls
/// with a certificate of P-256 and another of who signed it take less than 1,500.
pub const INWARD_SIZE: usize = 2048;

/// Room for the longest record to a server, in bytes: 506 of content, more than Rollcall's longest packet.
pub const OUTWARD_SIZE: usize = 640;

/// The longest record that this crate makes by itself, ClientHello, fits into as much.
const OUTWARD_MIN: usize = 384;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Link {
    /// There is none.
    Idle,
    /// Somebody makes one, and TCP is not there yet.
    Claimed,
    /// The engine is to begin.
    Asked,
    /// The handshake.
    Handshake,
    /// The server has proved who it is, and both sides encrypt.
    Open,
    Failed(Failure),
}

/// Between a connection and the engine: room for a record of `IN` bytes from the server, and of `OUT` to it. The
/// engine has as much again, where the caller pins it.
pub struct Tunnel<const IN: usize = INWARD_SIZE, const OUT: usize = OUTWARD_SIZE> {
    pub(crate) link: Cell<Link>,
    /// The engine is to encrypt what was written.
    pub(crate) is_sealing: Cell<bool>,
    pub(crate) inward: RefCell<Inward<IN>>,
    pub(crate) outward: RefCell<Outward<OUT>>,
}

impl<const IN: usize, const OUT: usize> Tunnel<IN, OUT> {
    /// One without a connection.
    pub const fn new() -> Self {
        const { assert!(IN >= 64, "a record with a header and some content has to fit") };
        const { assert!(OUT >= OUTWARD_MIN, "what the device says first has to fit") };
        Self {
            link: Cell::new(Link::Idle),
            is_sealing: Cell::new(false),
            inward: RefCell::new(Inward::new()),
            outward: RefCell::new(Outward::new()),
        }
    }

    /// Completes once `condition` holds. No waker is kept: whoever changes anything polls the engine then.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        poll_fn(|_| if condition(self) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Ends what there is; what was encrypted and not sent never will be.
    pub(crate) fn fail(&self, failure: Failure) {
        self.link.set(Link::Failed(failure));
        self.outward.borrow_mut().clear();
    }

    /// Why there is no connection any longer.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.link.get() {
            Link::Failed(failure) => Err(failure),
            _ => Ok(()),
        }
    }

    /// The one connection, unless there is one.
    pub(crate) fn claim(&self) -> Option<Claim<'_, IN, OUT>> {
        if self.link.get() != Link::Idle {
            return None;
        }
        self.link.set(Link::Claimed);
        Some(Claim(self))
    }
}

impl<const IN: usize, const OUT: usize> Default for Tunnel<IN, OUT> {
    fn default() -> Self {
        Self::new()
    }
}

/// The right to the tunnel. Dropped, it leaves it to others.
pub(crate) struct Claim<'a, const IN: usize, const OUT: usize>(pub(crate) &'a Tunnel<IN, OUT>);

impl<const IN: usize, const OUT: usize> Drop for Claim<'_, IN, OUT> {
    fn drop(&mut self) {
        self.0.link.set(Link::Idle);
    }
}
