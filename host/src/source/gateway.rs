//! The built-in MQTT endpoint (5 and 3.1.1), on ntex-mqtt. Its PUBACK means "committed to the store".
//!
//! It takes publishes of QoS 0 and 1 to status and presence topics; there is nothing to subscribe to, and it
//! keeps no sessions: the store is the only memory. `endpoint` speaks the protocol; here is what its
//! connections share, and how it ends.

mod endpoint;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::sync::{oneshot, watch};

use super::{Inbox, Message, Verdict};

/// When draining, the time for answers that are decided but not yet written: ntex writes them in the order
/// of their publishes, so one may wait for another's turn on the same thread.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// When draining, how long connections may take to send the last acknowledgements and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// When draining, how often its conditions are looked at.
const POLL: Duration = Duration::from_millis(5);

/// The name and password that every client must show.
#[derive(Clone)]
pub struct Credentials {
    /// MQTT user name.
    pub user: String,
    /// MQTT password; never logged.
    pub password: String,
}

impl Credentials {
    fn admit(&self, user: Option<&[u8]>, password: Option<&[u8]>) -> bool {
        let same = |ours: &str, theirs: Option<&[u8]>| ours.as_bytes().ct_eq(theirs.unwrap_or_default());
        (same(&self.user, user) & same(&self.password, password)).into()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    inbox: Inbox,
    credentials: Option<Credentials>,
    /// Messages handed to the ingest loop and not yet acknowledged.
    unsettled: AtomicUsize,
    /// Once true, no further message is taken.
    draining: AtomicBool,
    /// Once true, every connection says farewell and closes.
    closing: watch::Sender<bool>,
    /// Connections that are open.
    connections: AtomicUsize,
    /// Numbers the clients that bring no id of their own.
    unnamed: AtomicU64,
}

impl Gateway {
    /// Serves MQTT on `listener`, in threads of its own.
    ///
    /// # Errors
    /// When the listener or a thread cannot be set up.
    pub fn start(
        listener: TcpListener,
        credentials: Option<Credentials>,
        inbox: Inbox,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            inbox,
            credentials,
            unsettled: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            closing: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            unnamed: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = shared.clone();
        let thread = thread::Builder::new()
            .name("mqtt".into())
            .spawn(move || endpoint::serve(listener, &serving, stopped))?;
        Ok(Self { address, shared, stop, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further message, waits until those it took are acknowledged, and closes every connection.
    pub async fn drain(self) {
        let shared = &self.shared;
        shared.draining.store(true, Ordering::SeqCst);
        while shared.unsettled.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(POLL).await;
        }
        tokio::time::sleep(LAST_WORDS).await;
        shared.closing.send_replace(true);
        let close = async {
            while shared.connections.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
            let left = shared.connections.load(Ordering::SeqCst);
            tracing::warn!("{left} mqtt connections did not close in time and are cut");
        }
        let _ = self.stop.send(());
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

/// The message may not be stored, so it must not be acknowledged, and its connection cannot go on.
#[derive(Debug)]
struct Closed;

/// What became of a publish.
enum Outcome {
    /// The ingest loop has settled it.
    Settled(Verdict),
    /// The gateway is draining. It must be said at once: an answer that is held back would hold back those
    /// of later publishes on its connection, which may have been taken.
    NotTaken,
}

impl Shared {
    fn admits(&self, user: Option<&[u8]>, password: Option<&[u8]>) -> bool {
        self.credentials.as_ref().is_none_or(|credentials| credentials.admit(user, password))
    }

    /// Hands a message to the ingest loop and waits for `verdict`, if it is given.
    async fn take(
        &self,
        message: Message,
        verdict: Option<oneshot::Receiver<Verdict>>,
    ) -> Result<Outcome, Closed> {
        let Some(_unsettled) = self.begin() else { return Ok(Outcome::NotTaken) };
        self.inbox.send(message).await.map_err(|_| Closed)?;
        match verdict {
            Some(verdict) => verdict.await.map(Outcome::Settled).map_err(|_| Closed),
            None => Ok(Outcome::Settled(Verdict::Accepted)),
        }
    }

    /// Counts a message as unsettled until the guard goes; `None` while draining.
    fn begin(&self) -> Option<Unsettled<'_>> {
        self.unsettled.fetch_add(1, Ordering::SeqCst);
        let guard = Unsettled(&self.unsettled);
        (!self.draining.load(Ordering::SeqCst)).then_some(guard)
    }
}

/// See [`Shared::begin`].
struct Unsettled<'a>(&'a AtomicUsize);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
