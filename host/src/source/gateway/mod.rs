//! The built-in MQTT endpoint (5 and 3.1.1). Its PUBACK means "committed to the store".
//!
//! It takes publishes of QoS 0 and 1 to status and presence topics; there is nothing to subscribe to, and it
//! keeps no sessions: the store is the only memory. `protocol` turns bytes into requests and back,
//! `socket` moves them, `connection` serves one client, `clients` knows them by their ids; here is what connections
//! share, and how the gateway ends.

#[cfg(feature = "testing")]
mod answers;
mod clients;
mod connection;
mod pace;
mod protocol;
mod socket;
mod unanswered;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::{oneshot, watch};

#[cfg(feature = "testing")]
pub use self::answers::answers;
use self::clients::Clients;
use super::gate::Gate;
use super::{Admission, Inbox, LogState, RunningSource, Source, Wait};
use crate::ops::door::{Door, Places};
use crate::ops::{FailedLogins, Ops, Part};

/// When draining, how long connections may take to send the last acknowledgements and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// When closing, how often is looked whether all connections are closed.
const POLL: Duration = Duration::from_millis(5);

/// The pause before the next connection is taken when the system has no descriptor left for one.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where a gateway listens.
#[derive(Debug)]
pub struct Listeners {
    /// Without TLS.
    pub plain: TcpListener,
    /// With TLS, and how it answers there.
    pub tls: Option<(TcpListener, Arc<ServerConfig>)>,
}

impl From<TcpListener> for Listeners {
    fn from(plain: TcpListener) -> Self {
        Self { plain, tls: None }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
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
    admission: Admission,
    /// Are clients let in? Not until what they send can be stored.
    open: AtomicBool,
    /// Messages handed to the ingest loop and not yet acknowledged.
    gate: Arc<Gate>,
    /// Once true, every connection says goodbye and closes.
    closing: watch::Sender<bool>,
    /// Connections that are open.
    connections: AtomicUsize,
    clients: Arc<Clients>,
    failed_logins: FailedLogins,
    ops: Arc<Ops>,
    /// Makes the thread panic.
    #[cfg(feature = "testing")]
    fault: Arc<tokio::sync::Notify>,
}

impl Gateway {
    /// Answers on `listeners`, in a thread of its own: with "server unavailable" until
    /// [`Source::start`].
    ///
    /// # Errors
    /// When a listener or a thread cannot be set up.
    pub fn bind(
        listeners: impl Into<Listeners>,
        admission: impl Into<Admission>,
        inbox: Inbox,
        ops: Arc<Ops>,
    ) -> std::io::Result<Self> {
        let Listeners { plain, tls } = listeners.into();
        let address = plain.local_addr()?;
        plain.set_nonblocking(true)?;
        let mut tls_address = None;
        if let Some((listener, _)) = &tls {
            tls_address = Some(listener.local_addr()?);
            listener.set_nonblocking(true)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            inbox,
            admission: admission.into(),
            open: AtomicBool::new(false),
            gate: Gate::new(ops.clone()),
            closing: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            clients: Arc::default(),
            failed_logins: FailedLogins::default(),
            ops,
            #[cfg(feature = "testing")]
            fault: Arc::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let (living, alive) = oneshot::channel::<()>();
        let serving = shared.clone();
        let thread = thread::Builder::new().name("mqtt".into()).spawn(move || {
            // Dropped in the opposite order: the connections are gone when it is heard that the thread is.
            let _living = living;
            let runtime = runtime;
            runtime.block_on(async {
                let door = Door::new(Places::mqtt());
                let with_tls = async {
                    match tls {
                        Some((listener, config)) => accept(listener, Some(config), &door, &serving).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = accept(plain, None, &door, &serving) => {}
                    () = with_tls => {}
                    _ = stopped => {}
                    () = serving.fault() => {}
                }
            });
        })?;
        Ok(Self { address, tls_address, shared, stop, thread, alive })
    }

    /// Where it listens without TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens with TLS, if it does.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// What makes its thread panic.
    #[cfg(feature = "testing")]
    pub fn fault(&self) -> GatewayFault {
        GatewayFault(self.shared.fault.clone())
    }

    async fn close(self) {
        let shared = &self.shared;
        shared.gate.drain().await;
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
    fn start(self: Box<Self>, _: LogState) -> Box<dyn RunningSource> {
        self.shared.open.store(true, Ordering::SeqCst);
        self.shared.ops.healthy(Part::Source);
        tracing::info!("mqtt listening on {}", self.address);
        self.shared.ops.listens_for_devices(self.address.port());
        if let Some(address) = self.tls_address {
            tracing::info!("mqtts listening on {address}");
        }
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
async fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    door: &Arc<Door>,
    shared: &Arc<Shared>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "mqtt cannot listen"),
    };
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                if std::mem::take(&mut failing) {
                    shared.ops.healthy(Part::Source);
                }
                // An acknowledgement is small, and its device waits for it.
                let _ = stream.set_nodelay(true);
                match door.enter(client.ip()) {
                    Ok(place) => {
                        let client = connection::serve(stream, tls.clone(), client, place, shared.clone());
                        tokio::spawn(client);
                    }
                    Err(why) => shared.ops.turned_away(Part::Source, why, client.ip()),
                }
                // Who was sent away for it goes now, so that no more descriptors are taken than there are places.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                failing = true;
                shared.ops.accept_failed(Part::Source, &error);
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Shared {
    /// Completes never; in tests, panics when it is told to.
    #[cfg_attr(feature = "testing", allow(clippy::panic, reason = "the fault is a panic"))]
    async fn fault(&self) {
        #[cfg(feature = "testing")]
        {
            self.fault.notified().await;
            panic!("injected into the gateway's thread");
        }
        #[cfg(not(feature = "testing"))]
        std::future::pending().await
    }
}

/// Makes a gateway's thread panic, for tests.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub struct GatewayFault(Arc<tokio::sync::Notify>);

#[cfg(feature = "testing")]
impl GatewayFault {
    /// Its thread panics now.
    pub fn inject(&self) {
        self.0.notify_one();
    }
}

/// A connection that is open, as long as this value lives.
#[derive(Debug)]
struct Connected(Arc<Shared>);

impl Connected {
    fn new(shared: Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.ops.metrics.connections.inc();
        shared.ops.metrics.connections_open.inc();
        Self(shared)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
        self.0.ops.metrics.connections_open.dec();
    }
}
