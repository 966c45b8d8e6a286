//! Where the API listens.

use std::net::SocketAddr;

use clap::Args;

/// Flags of the API.
#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    /// Where the HTTP API listens. Port 0 takes a free one.
    #[arg(long, env = "ROLLCALL_HTTP_LISTEN", default_value = "127.0.0.1:5000", value_name = "IP:PORT")]
    pub(crate) http_listen: SocketAddr,
}

impl HttpArgs {
    /// The address, if everyone on the network can reach it.
    pub(crate) fn door(&self) -> Option<String> {
        door(self.http_listen)
    }
}

/// Flags of a role that needs no HTTP.
#[derive(Debug, Args)]
pub(crate) struct OptionalHttpArgs {
    /// Where /healthz, /readyz and /metrics are answered over HTTP; nowhere when it is not given.
    #[arg(long, env = "ROLLCALL_HTTP_LISTEN", value_name = "IP:PORT")]
    pub(crate) http_listen: Option<SocketAddr>,
}

impl OptionalHttpArgs {
    /// The address, if there is one and everyone on the network can reach it.
    pub(crate) fn door(&self) -> Option<String> {
        self.http_listen.and_then(door)
    }
}

fn door(address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| format!("--http-listen {address}"))
}
