//! The HTTP server of a process, kept running until the process ends, in threads of its own.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem, thread};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rollcall_host::ops::door::{Door, Place, Places, TurnedAway};
use rollcall_host::ops::{Failure, GivenUp, Ops, Part, Supervised, supervise};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::bind;

/// How long answers that are under way may take when the process ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// A request has so long to arrive; a connection without one is closed after it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The request line and the headers, in bytes.
const HEADER_MAX: usize = 16 * 1024;

/// The pause before the next connection is taken when the system has no descriptor left for one.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Threads that read the store for an answer.
const THREADS_MAX: usize = 8;

/// The running server.
pub(crate) struct Http {
    stop: watch::Sender<()>,
    server: JoinHandle<Result<(), GivenUp>>,
}

impl Http {
    /// Answers on `address` from now on.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub(crate) fn start(address: SocketAddr, router: Router, ops: Arc<Ops>) -> anyhow::Result<Self> {
        let listener = bind(address, "--http-listen")?;
        // Port 0 has become a port: a server that takes the place of this one takes the same.
        let address = listener.local_addr()?;
        tracing::info!("http listening on {address}");
        let (stop, stopped) = watch::channel(());
        let stop_between = has_stopped(stopped.clone());
        let server = Server { first: Some(listener), address, router, ops: ops.clone(), stopped };
        let server = async move { supervise(Part::Http, &ops, stop_between, server).await };
        Ok(Self { stop, server: tokio::spawn(server) })
    }

    /// Why the server, if there is one, has ended without being asked to; completes only then.
    pub(crate) async fn ended(http: &mut Option<Self>) -> anyhow::Error {
        match http {
            Some(http) => crate::serve::reason((&mut http.server).await, "HTTP API"),
            None => std::future::pending().await,
        }
    }

    /// Takes no further request, and ends when those under way are answered.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        if !self.server.is_finished() && tokio::time::timeout(GOODBYE_TIMEOUT, self.server).await.is_err() {
            tracing::warn!("http connections were still open at the end");
        }
    }
}

/// What a server is made of anew.
struct Server {
    first: Option<TcpListener>,
    address: SocketAddr,
    router: Router,
    ops: Arc<Ops>,
    stopped: watch::Receiver<()>,
}

impl Supervised for Server {
    async fn run(&mut self) -> Result<(), Failure> {
        let listener = match self.first.take() {
            Some(first) => Ok(first),
            None => bind(self.address, "--http-listen"),
        };
        let listener = listener.map_err(|error| Failure::MayPass(format!("{error:#}")))?;
        let (router, ops, stopped) = (self.router.clone(), self.ops.clone(), self.stopped.clone());
        let (end, ended) = oneshot::channel();
        let serve = move || drop(end.send(serve(listener, &router, &ops, has_stopped(stopped))));
        let thread = thread::Builder::new().name("http".into()).spawn(serve);
        thread.map_err(|error| Failure::MayPass(error.to_string()))?;
        let ended = ended.await.map_err(|_| Failure::MayPass("its thread panicked".to_owned()))?;
        ended.map_err(|error| Failure::MayPass(error.to_string()))
    }
}

/// Answers, in this thread and in a few more that read the store: those that ingest uses are none of them.
fn serve(
    listener: TcpListener,
    router: &Router,
    ops: &Arc<Ops>,
    stopped: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(THREADS_MAX).build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        ops.healthy(Part::Http);
        let open = GracefulShutdown::new();
        tokio::select! {
            () = accept(listener, router, ops, &open) => {}
            () = stopped => open.shutdown().await,
        }
        Ok(())
    })
}

/// Takes connections, each into a task of its own.
async fn accept(listener: tokio::net::TcpListener, router: &Router, ops: &Arc<Ops>, open: &GracefulShutdown) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_MAX);
    let door = Door::new(Places::http());
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                if mem::take(&mut failing) {
                    ops.healthy(Part::Http);
                }
                match door.enter(client.ip()) {
                    Ok(place) => {
                        let place = Arc::new(place);
                        let answers = answers(router.clone(), client, place.clone());
                        let connection = protocol.serve_connection(TokioIo::new(stream), answers);
                        tokio::spawn(connected(open.watch(connection), client, place, ops.clone()));
                    }
                    Err(why) => ops.turned_away(Part::Http, why, client.ip()),
                }
                // Who was sent away for it goes now, so that no more descriptors are taken than there are places.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                failing = true;
                ops.accept_failed(Part::Http, &error);
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves a connection until either side closes it, or another one needs its place.
async fn connected<E>(
    connection: impl Future<Output = Result<(), E>>,
    client: SocketAddr,
    place: Arc<Place>,
    ops: Arc<Ops>,
) {
    ops.metrics.http_connections_open.inc();
    tokio::select! {
        // What is wrong with a request was said to who sent it.
        _ = connection => {}
        () = place.sent_away() => ops.turned_away(Part::Http, TurnedAway::ForAnother, client.ip()),
    }
    ops.metrics.http_connections_open.dec();
}

/// The answers to one client. Between two requests, and while it sends one, it only waits.
fn answers(
    router: Router,
    client: SocketAddr,
    place: Arc<Place>,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> {
    service_fn(move |mut request: Request<Incoming>| {
        place.is_busy();
        request.extensions_mut().insert(ConnectInfo(client));
        let (answer, place) = (TowerToHyperService::new(router.clone()).call(request), place.clone());
        async move {
            let answer = answer.await;
            place.waits();
            answer
        }
    })
}

/// Completes when the process ends.
async fn has_stopped(mut stopped: watch::Receiver<()>) {
    let _ = stopped.changed().await;
}
