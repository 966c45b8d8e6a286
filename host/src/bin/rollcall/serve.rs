//! `rollcall serve`, `ingest` and `api`: sources, ingest, store and API in one process, or each in its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::Router;
use rollcall_host::api::{self, Api, Guard};
use rollcall_host::intake::{FlushInterval, KeepMessages, keep_storing, recount, remove_old};
use rollcall_host::log::{AnyStore, LateStore, StoreAddress};
use rollcall_host::model::{Clock, Statuses, WriterId};
use rollcall_host::ops::door::DESCRIPTORS_KEPT;
use rollcall_host::ops::{GivenUp, Ops, Outage, Part, watch_clock};
use rollcall_host::source::{self, Again, Inbox, LogState, Source, keep_running};
use rollcall_host::tls::Certificates;
use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle};

use crate::config::{ApiArgs, HttpSettings, IngestArgs, ServeArgs, SourceSettings};
use crate::http::Http;
use crate::shutdown::{Hangup, Shutdown};

/// How long a drain may take: a store that is away must not keep the process for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What one process does.
struct Role {
    store: StoreAddress,
    /// Where messages come from, if it takes any.
    source: Option<SourceSettings>,
    /// How long messages wait for others.
    flush_interval: FlushInterval,
    /// How long messages are kept, if not for ever.
    keep_messages: Option<KeepMessages>,
    /// Where and whom it answers, if it does.
    http: Option<HttpSettings>,
    /// With which certificate, if there is TLS.
    certificates: Option<Arc<Certificates>>,
    /// What the statuses are called.
    statuses: Statuses,
    /// Does it answer how many there are of each status?
    counts: bool,
}

/// Takes, stores and answers until SIGTERM or Ctrl-C.
///
/// # Errors
/// What kept it from starting, from going on or from draining.
pub(crate) async fn serve(config: ServeArgs) -> anyhow::Result<()> {
    let certificates = config.certificate.certificates()?;
    let source = config.source.source(certificates.as_ref())?;
    let http = config.http.http(certificates.as_ref())?;
    config.listen.check(source.listens_on().into_iter().chain(http.listens_on()), certificates.is_some())?;
    let store = config.store.store()?;
    let (flush_interval, statuses) = (config.intake.flush_interval, config.statuses.statuses()?);
    let (source, http, keep_messages) = (Some(source), Some(http), config.intake.keep_messages);
    run(Role { store, source, flush_interval, keep_messages, http, certificates, statuses, counts: true })
        .await
}

/// Takes and stores until SIGTERM or Ctrl-C.
///
/// # Errors
/// As [`serve`].
pub(crate) async fn ingest(config: IngestArgs) -> anyhow::Result<()> {
    let certificates = config.certificate.certificates()?;
    let source = config.source.source(certificates.as_ref())?;
    let http = config.http.http(certificates.as_ref())?;
    let addresses = source.listens_on().into_iter().chain(http.iter().flat_map(HttpSettings::listens_on));
    config.listen.check(addresses, certificates.is_some())?;
    let store = config.store.store()?;
    let (flush_interval, statuses) = (config.intake.flush_interval, config.statuses.statuses()?);
    let (source, keep_messages) = (Some(source), config.intake.keep_messages);
    run(Role { store, source, flush_interval, keep_messages, http, certificates, statuses, counts: false })
        .await
}

/// Answers until SIGTERM or Ctrl-C.
///
/// # Errors
/// As [`serve`].
pub(crate) async fn api(config: ApiArgs) -> anyhow::Result<()> {
    let certificates = config.certificate.certificates()?;
    let http = config.http.http(certificates.as_ref())?;
    config.listen.check(http.listens_on(), certificates.is_some())?;
    let store = config.store.store()?;
    let (flush_interval, statuses) = (FlushInterval::default(), config.statuses.statuses()?);
    let (source, http, keep_messages) = (None, Some(http), None);
    run(Role { store, source, flush_interval, keep_messages, http, certificates, statuses, counts: true })
        .await
}

/// Both doors answer from the first moment, whatever is not there yet.
async fn run(role: Role) -> anyhow::Result<()> {
    if let Some(limit) = rlimit::Resource::NOFILE.get_soft().ok().filter(|limit| *limit < DESCRIPTORS_KEPT) {
        bail!(
            "{limit} open files are too few to let anybody in: allow {DESCRIPTORS_KEPT} at least (ulimit -n)"
        );
    }
    let mut shutdown = Shutdown::listen().context("cannot listen for signals")?;
    let parts: &[Part] =
        if role.source.is_some() { &[Part::Store, Part::Source, Part::Ingest] } else { &[Part::Store] };
    let ops = Arc::new(Ops::starting(parts));
    ops.name_statuses(role.statuses);
    let watched = ops.clone();
    tokio::spawn(async move { watch_clock(&watched).await });
    if let Some(certificates) = role.certificates {
        keep_current(certificates, ops.clone())?;
    }
    let store = Arc::new(LateStore::default());
    let issued = role.source.as_ref().and_then(SourceSettings::issued);
    let api = Api { store: store.clone(), ops: ops.clone(), issued };
    let router = if role.counts { api::router(api) } else { api::router_without_counts(api) };
    let start = |settings| start_http(settings, router, role.counts, &ops);
    let mut http = role.http.map(start).transpose()?;
    let (inbox, messages) = source::inbox();
    let source = role.source.map(|settings| SetUp::new(settings, inbox, ops.clone())).transpose()?;
    // Not only when the store is there: whoever waits for that has /readyz, and systemd would end a process that waits.
    tell_systemd(NotifyState::Ready);
    let ended = async {
        let Some(opened) = open(&role.store, &mut shutdown, &ops).await? else { return Ok(()) };
        let _requests = opened.listen(recount);
        store.arrive(opened);
        match source {
            Some(source) => {
                let (opened, is_empty) = oneshot::channel();
                let (interval, writer, clock) = (role.flush_interval, WriterId::draw(), Clock::system());
                let retention = role
                    .keep_messages
                    .map(|keep| remove_old(store.clone(), keep, clock.clone(), ops.clone()));
                let ingest = keep_storing(store, messages, interval, writer, clock, ops.clone(), opened);
                let taken = take(source, tokio::spawn(ingest), is_empty, ops, &mut http, &mut shutdown);
                match retention {
                    None => taken.await,
                    // It is cut off with the end of the others: each of its steps is whole or not done.
                    Some(retention) => tokio::select! {
                        ended = taken => ended,
                        Err(given_up) = retention => Err(given_up.into()),
                    },
                }
            }
            None => {
                ops.healthy(Part::Store);
                tokio::select! {
                    () = shutdown.requested() => Ok(()),
                    reason = Http::ended(&mut http) => Err(reason),
                }
            }
        }
    };
    let ended = ended.await;
    tell_systemd(NotifyState::Stopping);
    if let Some(http) = http {
        http.stop().await;
    }
    ended
}

/// Where systemd started the process with `Type=notify`; nobody else is told.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell systemd how this process is");
    }
}

fn start_http(
    settings: HttpSettings,
    router: Router,
    has_page: bool,
    ops: &Arc<Ops>,
) -> anyhow::Result<Http> {
    let tokens = settings.tokens.map(|(tokens, rereader)| rereader.start(ops.clone()).map(|()| tokens));
    let tokens = tokens.transpose().context("cannot watch the tokens file")?;
    let guard = Guard { names: settings.names, tokens, ops: ops.clone() };
    // A browser asks what a page may read before it shows the page's token.
    let router = api::allow_origins(api::guarded(router, guard), &settings.origins);
    let http = Http::start(settings.addresses, router, ops.clone())?;
    if has_page {
        http.addresses().for_each(|address| tracing::info!("the page is at {address}"));
    }
    Ok(http)
}

/// Reads the certificate again when its files change, and on SIGHUP.
fn keep_current(certificates: Arc<Certificates>, ops: Arc<Ops>) -> anyhow::Result<()> {
    certificates.watch(ops.clone()).context("cannot watch the certificate")?;
    let mut hangup = Hangup::listen().context("cannot listen for signals")?;
    tokio::spawn(async move {
        loop {
            hangup.received().await;
            certificates.reread(&ops);
        }
    });
    Ok(())
}

/// Waits for a store that is not there yet; `None` when it was not waited for to the end.
async fn open(
    address: &StoreAddress,
    shutdown: &mut Shutdown,
    ops: &Ops,
) -> anyhow::Result<Option<AnyStore>> {
    let mut outage = Outage::new(ops);
    let opened = async {
        loop {
            match address.open().await {
                Err(error) if error.may_pass() => outage.wait("cannot open the store", &error).await,
                opened => return opened,
            }
        }
    };
    tokio::select! {
        opened = opened => Ok(Some(opened?)),
        () = shutdown.requested() => Ok(None),
    }
}

/// A source that is set up, and what sets up another in its place.
struct SetUp {
    source: Box<dyn Source>,
    again: Again,
}

impl SetUp {
    fn new(mut settings: SourceSettings, inbox: Inbox, ops: Arc<Ops>) -> anyhow::Result<Self> {
        let source = settings.set_up(inbox.clone(), ops.clone())?;
        let again = move || settings.set_up(inbox.clone(), ops.clone()).map_err(|error| format!("{error:#}"));
        Ok(Self { source, again: Box::new(again) })
    }
}

/// Takes messages into the store until asked to stop. A part that fails is started again; one that cannot be ends
/// the process, with its reason: whoever started the process starts it again, and nothing looks ready that is not.
async fn take(
    source: SetUp,
    mut ingest: JoinHandle<Result<(), GivenUp>>,
    is_empty: oneshot::Receiver<bool>,
    ops: Arc<Ops>,
    http: &mut Option<Http>,
    shutdown: &mut Shutdown,
) -> anyhow::Result<()> {
    let log = tokio::select! {
        Ok(is_empty) = is_empty => if is_empty { LogState::Empty } else { LogState::Written },
        ended = &mut ingest => return Err(reason(ended, "ingest loop")),
        () = shutdown.requested() => return Ok(()),
        reason = Http::ended(http) => return Err(reason),
    };
    let (stop, stopped) = watch::channel(false);
    let mut source = tokio::spawn(keep_running(source.source, source.again, log, ops, stopped));
    tokio::select! {
        () = shutdown.requested() => {}
        ended = &mut ingest => return Err(reason(ended, "ingest loop")),
        ended = &mut source => return Err(reason(ended, "source of messages")),
        reason = Http::ended(http) => return Err(reason),
    }
    tracing::info!("draining: storing and acknowledging what was received");
    stop.send_replace(true);
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

/// The source first: the inbox closes with it, and with the inbox the ingest loop.
async fn drain(
    source: JoinHandle<Result<(), GivenUp>>,
    ingest: JoinHandle<Result<(), GivenUp>>,
) -> anyhow::Result<()> {
    source.await.context("the source of messages failed")??;
    ingest.await.context("the ingest loop failed")??;
    Ok(())
}

/// Why a part ended that was not asked to.
pub(crate) fn reason(ended: Result<Result<(), GivenUp>, JoinError>, part: &str) -> anyhow::Error {
    match ended {
        Ok(Err(given_up)) => given_up.into(),
        Ok(Ok(())) => anyhow!("the {part} ended by itself"),
        Err(error) => anyhow!(error).context(format!("the {part} failed")),
    }
}
