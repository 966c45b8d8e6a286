//! One connection: pumps between the socket and the tunnel, and polls the engine when there is work for it.
//!
//! Guarantees: every future may be dropped at any await. What the socket gave or took is noted in the poll in
//! which it did, and the engine is no part of these futures.

use core::cell::RefCell;
use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Waker};

use embedded_io_async::{ErrorType, Read, Write};

use crate::error::{Error, Failure};
use crate::tunnel::{Claim, Link};

/// The engine, where the caller pinned it.
pub(crate) type Engine<'e> = RefCell<Pin<&'e mut (dyn Future<Output = Infallible> + 'e)>>;

/// Something that works when it is asked to.
pub(crate) trait Turn {
    fn turn(&self);
}

impl Turn for Engine<'_> {
    fn turn(&self) {
        // Nobody else polls it, and it never asks for itself.
        if let Ok(mut engine) = self.try_borrow_mut() {
            // It wakes nobody: it waits for what the connection does.
            let _ = engine.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// A connection to a server that has proved who it is. What is written is sent when it is flushed, or when a
/// record is full.
pub struct TlsSocket<'a, S, const IN: usize, const OUT: usize> {
    pub(crate) socket: S,
    pub(crate) claim: Claim<'a, IN, OUT>,
    pub(crate) engine: &'a (dyn Turn + 'a),
}

impl<S: Read + Write, const IN: usize, const OUT: usize> TlsSocket<'_, S, IN, OUT> {
    /// Does the handshake.
    pub(crate) async fn open(&mut self) -> Result<(), Error<S::Error>> {
        self.claim.0.link.set(Link::Asked);
        self.turn()?;
        loop {
            self.send().await?;
            self.socket.flush().await.map_err(Error::Transport)?;
            if self.claim.0.link.get() == Link::Open {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    /// Lets the engine do what there is to do.
    fn turn(&self) -> Result<(), Failure> {
        self.engine.turn();
        self.claim.0.check()
    }

    /// Takes what the socket has for the record that is due, and what is in it once it is whole.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "the engine, who else has it, is not polled meanwhile"
    )]
    async fn receive(&mut self) -> Result<(), Error<S::Error>> {
        let mut inward = self.claim.0.inward.borrow_mut();
        let count = self.socket.read(inward.room()).await.map_err(Error::Transport)?;
        if count == 0 {
            return Err(Error::Closed);
        }
        let filled = inward.filled(count);
        drop(inward);
        if let Err(failure) = filled {
            self.claim.0.fail(failure);
        }
        Ok(self.turn()?)
    }

    /// Hands all that is encrypted to the socket.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "the engine, who else has it, is not polled meanwhile"
    )]
    async fn send(&mut self) -> Result<(), Error<S::Error>> {
        let mut outward = self.claim.0.outward.borrow_mut();
        while !outward.encrypted().is_empty() {
            match self.socket.write(outward.encrypted()).await.map_err(Error::Transport)? {
                0 => return Err(Error::Closed),
                count => outward.sent(count),
            }
        }
        Ok(())
    }

    /// Has what was written made a record, if there is any.
    fn seal(&self) -> Result<(), Failure> {
        let has_plain = !self.claim.0.outward.borrow().plain().is_empty();
        if has_plain {
            self.claim.0.is_sealing.set(true);
        }
        self.turn()
    }
}

impl<S: ErrorType, const IN: usize, const OUT: usize> ErrorType for TlsSocket<'_, S, IN, OUT> {
    type Error = Error<S::Error>;
}

impl<S: Read + Write, const IN: usize, const OUT: usize> Read for TlsSocket<'_, S, IN, OUT> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Self::Error> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            self.claim.0.check()?;
            if let Some(count) = self.claim.0.inward.borrow_mut().take_plain(out) {
                return Ok(count);
            }
            self.receive().await?;
        }
    }
}

impl<S: Read + Write, const IN: usize, const OUT: usize> Write for TlsSocket<'_, S, IN, OUT> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        loop {
            self.claim.0.check()?;
            let count = self.claim.0.outward.borrow_mut().append_plain(bytes);
            if count > 0 || bytes.is_empty() {
                return Ok(count);
            }
            self.seal()?;
            self.send().await?;
        }
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.claim.0.check()?;
        // What is encrypted already comes first.
        self.send().await?;
        self.seal()?;
        self.send().await?;
        self.socket.flush().await.map_err(Error::Transport)
    }
}
