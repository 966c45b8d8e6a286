//! `rollcall serve`: gateway, ingest, store and API in one process.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rollcall_host::api::{self, Api};
use rollcall_host::health::{Health, Part};
use rollcall_host::ingest::{self, Ingest};
use rollcall_host::log::{LogStore, RedbStore};
use rollcall_host::source::{self, gateway::Gateway};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Serve, Store};
use crate::shutdown::Shutdown;

/// How long a drain may take: a store that is away must not keep the process for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long answers that are under way may take when the process ends.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// What kept it from starting, from going on or from draining.
pub(crate) async fn serve(config: Serve) -> anyhow::Result<()> {
    let credentials = config.credentials()?;
    let mut shutdown = Shutdown::listen().context("cannot listen for signals")?;
    let http = bind(config.http_listen, "--http-listen")?;
    let mqtt = bind(config.mqtt_listen, "--mqtt-listen")?;
    let Store::Redb(directory) = &config.store;
    let store = Arc::new(RedbStore::open(directory)?);

    let health = Arc::new(Health::starting(Part::Store));
    let http = Http::start(http, Api { store: store.clone(), health: health.clone() })?;
    let ingest = tokio::select! {
        opened = Ingest::open(store) => opened.context("cannot read the log")?,
        () = shutdown.requested() => return Ok(()),
    };
    health.well(Part::Store);
    let (inbox, messages) = source::inbox();
    let mut ingest = tokio::spawn(ingest::run(ingest, messages, health));
    let gateway = Gateway::start(mqtt, credentials, inbox).context("cannot start the MQTT gateway")?;
    tracing::info!("mqtt listening on {}", gateway.address());

    tokio::select! {
        () = shutdown.requested() => {}
        ended = &mut ingest => bail!("the ingest loop ended: {ended:?}"),
    }
    tracing::info!("draining: storing and acknowledging what was received");
    let drained = tokio::select! {
        drained = tokio::time::timeout(DRAIN_TIMEOUT, drain(gateway, ingest)) => drained,
        () = shutdown.requested() => bail!("ended by a second signal; devices send again what was not acknowledged"),
    };
    http.stop().await;
    drained.map_err(|_| {
        let seconds = DRAIN_TIMEOUT.as_secs();
        anyhow!("the store did not take everything within {seconds} s; devices send again what was not acknowledged")
    })??;
    tracing::info!("drained");
    Ok(())
}

async fn drain(gateway: Gateway, ingest: JoinHandle<()>) -> anyhow::Result<()> {
    gateway.drain().await;
    ingest.await.context("the ingest loop failed")
}

fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; name another address with {flag}, or port 0 for a free one")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The running API.
struct Http {
    stop: watch::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Http {
    fn start<S: LogStore>(listener: TcpListener, api: Api<S>) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!("http listening on {}", listener.local_addr()?);
        let (stop, mut stopped) = watch::channel(());
        let server = axum::serve(listener, api::router(api)).with_graceful_shutdown(async move {
            let _ = stopped.changed().await;
        });
        Ok(Self { stop, server: tokio::spawn(async move { server.await }) })
    }

    async fn stop(self) {
        drop(self.stop);
        if tokio::time::timeout(HTTP_TIMEOUT, self.server).await.is_err() {
            tracing::warn!("http connections were still open at the end");
        }
    }
}
