//! The HTTP server of a process, kept running until the process ends.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rollcall_host::ops::{Failure, GivenUp, Ops, Part, Supervised, supervise};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::bind;

/// How long answers that are under way may take when the process ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

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
        let listener = listener.and_then(|listener| Ok(tokio::net::TcpListener::from_std(listener)?));
        let listener = listener.map_err(|error| Failure::MayPass(format!("{error:#}")))?;
        self.ops.healthy(Part::Http);
        let stopped = has_stopped(self.stopped.clone());
        let service = self.router.clone().into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).with_graceful_shutdown(stopped);
        server.await.map_err(|error| Failure::MayPass(error.to_string()))
    }
}

/// Completes when the process ends.
async fn has_stopped(mut stopped: watch::Receiver<()>) {
    let _ = stopped.changed().await;
}
