//! When to stop, and how every emitter hears of it.

use std::cell::Cell;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_io::{Async, Timer};
use event_listener::Event;
use futures_lite::future::or;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

/// Shells report a process that a signal ended as 128 + the signal's number.
const EXIT_SIGNAL_BASE: i32 = 128;

/// A request to stop, which any number of emitters wait for.
#[derive(Default)]
pub(crate) struct Stop {
    drain_until_ms: Cell<Option<u64>>,
    requested: Event,
}

impl Stop {
    /// Asks every emitter to stop sampling now and to drain until `drain_until_ms` of their clock.
    pub(crate) fn request(&self, drain_until_ms: u64) {
        self.drain_until_ms.set(Some(drain_until_ms));
        self.requested.notify(usize::MAX);
    }

    /// Waits for the request.
    pub(crate) async fn requested(&self) -> u64 {
        loop {
            // Listening starts before the look, so no request falls between the two.
            let listener = self.requested.listen();
            if let Some(at_ms) = self.drain_until_ms.get() {
                return at_ms;
            }
            listener.await;
        }
    }
}

/// SIGINT and SIGTERM: while [`Signals::wait_or`] waits, one ends the wait; any later one ends the process
/// at once.
pub(crate) struct Signals {
    received: Async<UnixStream>,
    is_next_last: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers.
    pub(crate) fn new() -> Result<Self> {
        let (receive, send) = UnixStream::pair().context("no socket pair for signals")?;
        let is_next_last = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down and raises it for the second.
            flag::register_conditional_shutdown(
                signal,
                EXIT_SIGNAL_BASE + signal,
                Arc::clone(&is_next_last),
            )?;
            flag::register(signal, Arc::clone(&is_next_last))?;
            pipe::register(signal, send.try_clone()?)?;
        }
        Ok(Self { received: Async::new(receive)?, is_next_last })
    }

    /// Waits for a signal, or for the end of `lifetime` if there is one.
    pub(crate) async fn wait_or(&self, lifetime: Option<Duration>) -> Result<()> {
        let signal = self.received.read_with(|mut pipe| pipe.read(&mut [0]));
        let signal = async { signal.await.map(drop).context("cannot wait for signals") };
        let end = async {
            match lifetime {
                Some(lifetime) => Timer::after(lifetime).await,
                None => std::future::pending().await,
            };
            Ok(())
        };
        or(signal, end).await?;
        // The end of the lifetime counts as the first signal.
        self.is_next_last.store(true, Ordering::SeqCst);
        Ok(())
    }
}
