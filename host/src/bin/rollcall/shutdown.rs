//! SIGTERM and Ctrl-C: the first asks for a clean end, the second does not wait for it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for both signals from now on.
#[derive(Debug)]
pub(crate) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// # Errors
    /// When the system refuses a signal handler.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for either signal.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP: whoever sends it has changed a file. From now on it does not end the process.
#[derive(Debug)]
pub(crate) struct Hangup(Signal);

impl Hangup {
    /// # Errors
    /// When the system refuses a signal handler.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for one.
    pub(crate) async fn received(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
