//! The HTTP server of a process, kept running until the process ends, in threads of its own.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, mem, thread};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rollcall_host::api::Ending;
use rollcall_host::ops::door::{Door, Place, Places, TurnedAway};
use rollcall_host::ops::{Failure, GivenUp, HttpRefused, Ops, Part, Supervised, supervise};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::{HttpAddress, bind};

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
    addresses: Vec<(&'static str, SocketAddr)>,
}

impl Http {
    /// Answers on `addresses` from now on.
    ///
    /// # Errors
    /// When one of them cannot be listened on.
    pub(crate) fn start(
        mut addresses: Vec<HttpAddress>,
        router: Router,
        ops: Arc<Ops>,
    ) -> anyhow::Result<Self> {
        let first = bind_all(&mut addresses)?;
        let scheme = |of: &HttpAddress| if of.tls.is_some() { "https" } else { "http" };
        let listens_on: Vec<_> = addresses.iter().map(|of| (scheme(of), of.address)).collect();
        for (scheme, address) in &listens_on {
            tracing::info!("{scheme} listening on {address}");
        }
        let (stop, stopped) = watch::channel(());
        let stop_between = has_stopped(stopped.clone());
        let server = Server { first: Some(first), addresses, router, ops: ops.clone(), stopped };
        let server = async move { supervise(Part::Http, &ops, stop_between, server).await };
        Ok(Self { stop, server: tokio::spawn(server), addresses: listens_on })
    }

    /// Where a browser on this machine finds it.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = String> {
        self.addresses.iter().map(|(scheme, address)| {
            if address.ip().is_unspecified() {
                format!("{scheme}://localhost:{}/", address.port())
            } else {
                format!("{scheme}://{address}/")
            }
        })
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

/// A listener, and how it answers.
type Listening = (TcpListener, Option<Arc<ServerConfig>>);

/// Listens on all of them. Port 0 becomes a port: a server that takes the place of this one takes the same.
fn bind_all(addresses: &mut [HttpAddress]) -> anyhow::Result<Vec<Listening>> {
    let mut listening = Vec::new();
    for HttpAddress { flag, address, tls } in addresses {
        let listener = bind(*address, flag)?;
        *address = listener.local_addr()?;
        listening.push((listener, tls.clone()));
    }
    Ok(listening)
}

/// What a server is made of anew.
struct Server {
    first: Option<Vec<Listening>>,
    addresses: Vec<HttpAddress>,
    router: Router,
    ops: Arc<Ops>,
    stopped: watch::Receiver<()>,
}

impl Supervised for Server {
    async fn run(&mut self) -> Result<(), Failure> {
        let listening = match self.first.take() {
            Some(first) => Ok(first),
            None => bind_all(&mut self.addresses),
        };
        let listening = listening.map_err(|error| Failure::MayPass(format!("{error:#}")))?;
        let (router, ops, stopped) = (self.router.clone(), self.ops.clone(), self.stopped.clone());
        let (end, ended) = oneshot::channel();
        let serve = move || drop(end.send(serve(listening, router, ops, stopped)));
        let thread = thread::Builder::new().name("http".into()).spawn(serve);
        thread.map_err(|error| Failure::MayPass(error.to_string()))?;
        let ended = ended.await.map_err(|_| Failure::MayPass("its thread panicked".to_owned()))?;
        ended.map_err(|error| Failure::MayPass(error.to_string()))
    }
}

/// Answers, in this thread and in a few more that read the store: those that ingest uses are none of them.
fn serve(
    listening: Vec<Listening>,
    router: Router,
    ops: Arc<Ops>,
    stopped: watch::Receiver<()>,
) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(THREADS_MAX).build()?;
    runtime.block_on(async {
        let mut protocol = http1::Builder::new();
        protocol.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_MAX);
        let server =
            Answering { protocol, router, ops, stopped: stopped.clone(), open: GracefulShutdown::new() };
        let door = Door::new(Places::http());
        let listeners = listening.into_iter().map(|(listener, tls)| {
            Ok((tokio::net::TcpListener::from_std(listener)?, tls.map(TlsAcceptor::from)))
        });
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        server.ops.healthy(Part::Http);
        let accepting = listeners.into_iter().map(|(listener, tls)| server.accept(listener, tls, &door));
        tokio::select! {
            _ = join_all(accepting) => {}
            () = has_stopped(stopped) => server.open.shutdown().await,
        }
        Ok(())
    })
}

/// What all connections share.
struct Answering {
    protocol: http1::Builder,
    router: Router,
    ops: Arc<Ops>,
    stopped: watch::Receiver<()>,
    open: GracefulShutdown,
}

impl Answering {
    /// Takes connections, each into a task of its own.
    async fn accept(&self, listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, door: &Arc<Door>) {
        let mut failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    if mem::take(&mut failing) {
                        self.ops.healthy(Part::Http);
                    }
                    match door.enter(client.ip()) {
                        Ok(place) => {
                            let place = Arc::new(place);
                            let served = self.serve(stream, tls.clone(), client, place.clone());
                            tokio::spawn(connected(served, client, place, self.ops.clone()));
                        }
                        Err(why) => self.ops.turned_away(Part::Http, why, client.ip()),
                    }
                    // Who was sent away for it goes now, so that no more descriptors are taken than there are places.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    failing = true;
                    self.ops.accept_failed(Part::Http, &error);
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Answers on a connection, after TLS has begun if there is any.
    fn serve(
        &self,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
        client: SocketAddr,
        place: Arc<Place>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (protocol, open, ops) = (self.protocol.clone(), self.open.watcher(), self.ops.clone());
        let (heard, stopped) = (Arc::new(AtomicBool::new(false)), self.stopped.clone());
        let ending = Ending(self.stopped.clone());
        let answers = answers(self.router.clone(), client, ending, place, heard.clone());
        let ended = move |ended: Result<(), hyper::Error>, ops: &Ops| {
            let refused = ended.err().and_then(|error| refused(&error, heard.load(Ordering::Relaxed)));
            if let Some(refused) = refused {
                ops.http_refused(refused, Some(client));
            }
        };
        async move {
            let Some(tls) = tls else {
                let connection = protocol.serve_connection(TokioIo::new(stream), answers);
                return ended(open.watch(connection).await, &ops);
            };
            let begun = tokio::select! {
                begun = timeout(HEADER_TIMEOUT, tls.accept(stream)) => begun,
                () = has_stopped(stopped) => return,
            };
            match begun {
                Ok(Ok(stream)) => {
                    let connection = protocol.serve_connection(TokioIo::new(stream), answers);
                    ended(open.watch(connection).await, &ops);
                }
                Ok(Err(_)) | Err(_) => ops.http_refused(HttpRefused::TlsFailed, Some(client)),
            }
        }
    }
}

/// Why a connection was closed, if it is by a fault of the client's that nobody looks at afterwards. One that waits too
/// long for another request, after the first was `heard`, is none.
fn refused(error: &hyper::Error, heard: bool) -> Option<HttpRefused> {
    if error.is_parse_too_large() {
        Some(HttpRefused::HeadTooLarge)
    } else if error.is_parse() {
        Some(HttpRefused::MalformedRequest)
    } else {
        (error.is_timeout() && !heard).then_some(HttpRefused::HeadTimeout)
    }
}

/// Serves a connection until either side closes it, or another one needs its place.
async fn connected(
    connection: impl Future<Output = ()>,
    client: SocketAddr,
    place: Arc<Place>,
    ops: Arc<Ops>,
) {
    ops.metrics.http_connections_open.inc();
    tokio::select! {
        () = connection => {}
        () = place.sent_away() => ops.turned_away(Part::Http, TurnedAway::ForAnother, client.ip()),
    }
    ops.metrics.http_connections_open.dec();
}

/// The answers to one client. Between two requests, and while it sends one, it only waits.
fn answers(
    router: Router,
    client: SocketAddr,
    ending: Ending,
    place: Arc<Place>,
    heard: Arc<AtomicBool>,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> {
    service_fn(move |mut request: Request<Incoming>| {
        place.is_busy();
        heard.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(client));
        request.extensions_mut().insert(ending.clone());
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
