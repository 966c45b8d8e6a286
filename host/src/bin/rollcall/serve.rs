//! `rollcall serve`, `ingest` and `api`: sources, ingest, store and API in one process, or each in its own.

use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rollcall_host::api;
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::{FlushInterval, run};
use rollcall_host::log::{AnyStore, LateStore, LogStore, StoreAddress, StoreError};
use rollcall_host::ops::health::{Health, Part};
use rollcall_host::source::{self, LogState, RunningSource};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{ApiArgs, IngestArgs, ServeArgs, SourceSettings, bind, refuse_open_doors};
use crate::shutdown::Shutdown;

/// How long a drain may take: a store that is away must not keep the process for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long answers that are under way may take when the process ends.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before a store that is not there yet is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What one process does.
struct Role {
    store: StoreAddress,
    /// Where messages come from, if it takes any.
    source: Option<SourceSettings>,
    /// How long messages wait for others.
    flush_interval: FlushInterval,
    /// Where it answers, if it does.
    http: Option<SocketAddr>,
}

/// Takes, stores and answers until SIGTERM or Ctrl-C.
///
/// # Errors
/// What kept it from starting, from going on or from draining.
pub(crate) async fn serve(config: ServeArgs) -> anyhow::Result<()> {
    let source = config.source.source()?;
    refuse_open_doors(&[source.door(), config.http.door()], config.allow_anonymous)?;
    run(Role {
        store: config.store.store()?,
        source: Some(source),
        flush_interval: config.intake.flush_interval,
        http: Some(config.http.http_listen),
    })
    .await
}

/// Takes and stores until SIGTERM or Ctrl-C.
///
/// # Errors
/// As [`serve`].
pub(crate) async fn ingest(config: IngestArgs) -> anyhow::Result<()> {
    let source = config.source.source()?;
    refuse_open_doors(&[source.door()], config.allow_anonymous)?;
    let flush_interval = config.intake.flush_interval;
    run(Role { store: config.store.store()?, source: Some(source), flush_interval, http: None }).await
}

/// Answers until SIGTERM or Ctrl-C.
///
/// # Errors
/// As [`serve`].
pub(crate) async fn api(config: ApiArgs) -> anyhow::Result<()> {
    refuse_open_doors(&[config.http.door()], config.allow_anonymous)?;
    let (store, http) = (config.store.store()?, Some(config.http.http_listen));
    run(Role { store, source: None, flush_interval: FlushInterval::default(), http }).await
}

/// Both doors answer from the first moment, whatever is not there yet.
async fn run(role: Role) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::listen().context("cannot listen for signals")?;
    let http = role.http.map(|address| bind(address, "--http-listen")).transpose()?;
    let (inbox, messages) = source::inbox();
    let source = role.source.map(|source| source.set_up(inbox)).transpose()?;
    let store = Arc::new(LateStore::default());
    let health = Arc::new(Health::starting(Part::Store));
    let api = api::Api { store: store.clone(), health: health.clone() };
    let mut http = http.map(|listener| Http::start(listener, api)).transpose()?;
    let ended = async {
        let Some(opened) = open(&role.store, &mut shutdown, &health).await? else { return Ok(()) };
        store.arrive(opened);
        match source {
            Some(source) => {
                let Some(ingest) = open_ingest(store, &health, &mut shutdown).await? else { return Ok(()) };
                let log = if ingest.is_empty() { LogState::Empty } else { LogState::Written };
                let ingest = run::run(ingest, messages, role.flush_interval, health.clone());
                take(
                    source.start(log, health.clone()),
                    tokio::spawn(ingest),
                    health,
                    &mut http,
                    &mut shutdown,
                )
                .await
            }
            None => {
                health.healthy(Part::Store);
                tokio::select! {
                    () = shutdown.requested() => Ok(()),
                    () = Http::ended(&mut http) => bail!("the HTTP API ended by itself"),
                }
            }
        }
    };
    let ended = ended.await;
    if let Some(http) = http {
        http.stop().await;
    }
    ended
}

/// Waits for a store that is not there yet; `None` when it was not waited for to the end.
async fn open(
    address: &StoreAddress,
    shutdown: &mut Shutdown,
    health: &Health,
) -> anyhow::Result<Option<AnyStore>> {
    loop {
        let opened = tokio::select! {
            opened = address.open() => opened,
            () = shutdown.requested() => return Ok(None),
        };
        match opened {
            Err(error) if error.may_pass() => {
                health.unhealthy(Part::Store, &error);
                tracing::warn!("{error}; trying again");
            }
            opened => return Ok(Some(opened?)),
        }
        if pause(shutdown).await.is_break() {
            return Ok(None);
        }
    }
}

/// The pause before a store is tried again; a break when the process is asked to end.
async fn pause(shutdown: &mut Shutdown) -> ControlFlow<()> {
    tokio::select! {
        () = tokio::time::sleep(STORE_RETRY) => ControlFlow::Continue(()),
        () = shutdown.requested() => ControlFlow::Break(()),
    }
}

/// Takes messages into the store until asked to stop. A part that ends by itself ends the process, with its
/// name: whoever started the process starts it again, and nothing looks ready that is not.
async fn take(
    mut source: Box<dyn RunningSource>,
    mut ingest: JoinHandle<()>,
    health: Arc<Health>,
    http: &mut Option<Http>,
    shutdown: &mut Shutdown,
) -> anyhow::Result<()> {
    health.healthy(Part::Store);
    tokio::select! {
        () = shutdown.requested() => {}
        ended = &mut ingest => bail!("the ingest loop ended by itself: {ended:?}"),
        () = source.ended() => bail!("the source of messages ended by itself"),
        () = Http::ended(http) => bail!("the HTTP API ended by itself"),
    }
    tracing::info!("draining: storing and acknowledging what was received");
    let drained = tokio::select! {
        drained = tokio::time::timeout(DRAIN_TIMEOUT, drain(source, ingest)) => drained,
        () = shutdown.requested() => bail!("ended by a second signal; devices send again what was not acknowledged"),
    };
    drained.map_err(|_| {
        let seconds = DRAIN_TIMEOUT.as_secs();
        anyhow!("the store did not take everything within {seconds} s; devices send again what was not acknowledged")
    })??;
    tracing::info!("drained");
    Ok(())
}

/// Reads the log, however long the store is away; `None` when it was not waited for to the end.
async fn open_ingest<S: LogStore>(
    store: Arc<S>,
    health: &Health,
    shutdown: &mut Shutdown,
) -> anyhow::Result<Option<Ingest<S>>> {
    loop {
        let opened = tokio::select! {
            opened = Ingest::open(store.clone()) => opened,
            () = shutdown.requested() => return Ok(None),
        };
        match opened {
            Err(error @ StoreError::Unavailable(_)) => {
                health.unhealthy(Part::Store, &error);
                tracing::warn!("cannot read the log: {error}; trying again");
            }
            opened => return Ok(Some(opened.context("cannot read the log")?)),
        }
        if pause(shutdown).await.is_break() {
            return Ok(None);
        }
    }
}

async fn drain(source: Box<dyn RunningSource>, ingest: JoinHandle<()>) -> anyhow::Result<()> {
    source.drain().await;
    ingest.await.context("the ingest loop failed")
}

/// The running API.
struct Http {
    stop: watch::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Http {
    fn start<S: LogStore>(listener: TcpListener, api: api::Api<S>) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!("http listening on {}", listener.local_addr()?);
        let (stop, mut stopped) = watch::channel(());
        let server = axum::serve(listener, api::router(api)).with_graceful_shutdown(async move {
            let _ = stopped.changed().await;
        });
        Ok(Self { stop, server: tokio::spawn(async move { server.await }) })
    }

    /// Completes when the server, if there is one, has ended without being asked to, which is a fault.
    async fn ended(http: &mut Option<Self>) {
        match http {
            Some(http) => drop((&mut http.server).await),
            None => std::future::pending().await,
        }
    }

    async fn stop(self) {
        drop(self.stop);
        if !self.server.is_finished() && tokio::time::timeout(HTTP_TIMEOUT, self.server).await.is_err() {
            tracing::warn!("http connections were still open at the end");
        }
    }
}
