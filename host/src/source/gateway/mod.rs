//! The built-in MQTT endpoint (5 and 3.1.1). Its PUBACK means "committed to the store".
//!
//! It takes publishes of QoS 0 and 1 to status and presence topics; there is nothing to subscribe to, and it
//! keeps no sessions: the store is the only memory. `protocol` turns bytes into requests and back,
//! `connection` serves one client; here is what connections share, and how the gateway ends.

mod connection;
mod protocol;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot, watch};

use super::{Credentials, Inbox, LogState, RunningSource, Source, Wait};
use crate::ops::health::Health;

/// When draining, how long connections may take to send the last acknowledgements and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// When draining, how often its conditions are looked at.
const POLL: Duration = Duration::from_millis(5);

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 100_000;

/// The pause before the next connection is taken when the system has no descriptor left for one.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How often a failure to take connections is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
    /// Its other end goes with the thread, however that ends.
    alive: oneshot::Receiver<()>,
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    inbox: Inbox,
    credentials: Option<Credentials>,
    /// Are clients let in? Not until what they send can be stored.
    open: AtomicBool,
    /// Messages handed to the ingest loop and not yet acknowledged.
    unsettled: AtomicUsize,
    /// Once true, no further message is taken.
    draining: AtomicBool,
    /// Once true, every connection says goodbye and closes.
    closing: watch::Sender<bool>,
    /// Connections that are open.
    connections: AtomicUsize,
    /// Numbers the clients that bring no id of their own.
    unnamed: AtomicU64,
}

impl Gateway {
    /// Answers on `listener`, in a thread of its own: with "server unavailable" until
    /// [`Source::start`].
    ///
    /// # Errors
    /// When the listener or a thread cannot be set up.
    pub fn bind(
        listener: TcpListener,
        credentials: Option<Credentials>,
        inbox: Inbox,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            inbox,
            credentials,
            open: AtomicBool::new(false),
            unsettled: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            closing: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            unnamed: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let (living, alive) = oneshot::channel::<()>();
        let serving = shared.clone();
        let thread = thread::Builder::new().name("mqtt".into()).spawn(move || {
            let _living = living;
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, &serving) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, shared, stop, thread, alive })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn close(self) {
        let shared = &self.shared;
        shared.draining.store(true, Ordering::SeqCst);
        while shared.unsettled.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(POLL).await;
        }
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

impl Source for Gateway {
    fn start(self: Box<Self>, _: LogState, _: Arc<Health>) -> Box<dyn RunningSource> {
        self.shared.open.store(true, Ordering::SeqCst);
        tracing::info!("mqtt listening on {}", self.address);
        self
    }
}

impl RunningSource for Gateway {
    fn ended(&mut self) -> Wait<'_> {
        Box::pin(async {
            let _ = (&mut self.alive).await;
        })
    }

    fn drain(self: Box<Self>) -> Wait<'static> {
        Box::pin(self.close())
    }
}

/// Takes connections, each into a task of its own.
async fn accept(listener: TcpListener, shared: &Arc<Shared>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "mqtt cannot listen"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut logged: Option<Instant> = None;
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // An acknowledgement is small, and its device waits for it.
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                tokio::spawn(async move {
                    connection::serve(stream, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                if logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
                    tracing::error!(%error, "cannot take an mqtt connection; trying again, and said once a minute");
                    logged = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Shared {
    fn admits(&self, user: Option<&[u8]>, password: Option<&[u8]>) -> bool {
        self.credentials.as_ref().is_none_or(|credentials| credentials.admit(user, password))
    }
}

/// A message that is handed to the ingest loop and not yet answered.
#[derive(Debug)]
struct Unsettled(Arc<Shared>);

impl Unsettled {
    /// Counts a message as unsettled until the value goes; `None` while draining. Counted first and looked
    /// second, so that a drain that sees zero has seen this one or is seen by it.
    fn begin(shared: &Arc<Shared>) -> Option<Self> {
        shared.unsettled.fetch_add(1, Ordering::SeqCst);
        let unsettled = Self(shared.clone());
        (!shared.draining.load(Ordering::SeqCst)).then_some(unsettled)
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.unsettled.fetch_sub(1, Ordering::SeqCst);
    }
}
