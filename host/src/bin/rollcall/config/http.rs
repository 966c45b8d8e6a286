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
        let address = self.http_listen;
        (!address.ip().is_loopback()).then(|| format!("--http-listen {address}"))
    }
}
