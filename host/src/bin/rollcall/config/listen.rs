//! The addresses that are listened on: who can come in there from beyond this machine, or listen in.

use std::net::SocketAddr;

use anyhow::bail;
use clap::Args;

/// Flags that let anyone in.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Let anyone who can reach the listening addresses in. Needed to listen beyond this machine without passwords for
    /// MQTT or tokens for HTTP.
    #[arg(long, env = "ROLLCALL_ALLOW_ANONYMOUS")]
    allow_anonymous: bool,
    /// Let anyone on the way read passwords, tokens and samples, and change them. Needed to listen beyond this machine
    /// without TLS: in a network of your own, in a tunnel, or behind a proxy with TLS.
    #[arg(long, env = "ROLLCALL_ALLOW_PLAINTEXT")]
    allow_plaintext: bool,
}

/// An address that is listened on.
#[derive(Debug)]
pub(crate) struct ListenAddress {
    /// With which flag.
    pub(crate) flag: &'static str,
    /// Which one.
    pub(crate) address: SocketAddr,
    /// Is there TLS?
    pub(crate) tls: bool,
    /// Does who comes in need a password or a token?
    pub(crate) locked: bool,
}

impl ListenArgs {
    /// Refuses addresses that let everyone on the network in, or listen in, unless that was asked for; and a certificate
    /// that is not used.
    ///
    /// # Errors
    /// Names the addresses and what to do.
    pub(crate) fn check(
        &self,
        addresses: impl IntoIterator<Item = ListenAddress>,
        has_certificate: bool,
    ) -> anyhow::Result<()> {
        let addresses: Vec<_> = addresses.into_iter().collect();
        if has_certificate && !addresses.iter().any(|address| address.tls) {
            bail!("--tls-cert is for --mqtt-tls-listen or --http-tls-listen: give one of them");
        }
        let beyond: Vec<_> =
            addresses.into_iter().filter(|address| !address.address.ip().is_loopback()).collect();
        let named = |is_open: fn(&ListenAddress) -> bool| {
            let open = beyond.iter().filter(|address| is_open(address));
            open.map(|address| format!("{} {}", address.flag, address.address))
                .collect::<Vec<_>>()
                .join(" and ")
        };
        let (unlocked, plain) = (named(|address| !address.locked), named(|address| !address.tls));
        if !unlocked.is_empty() && !self.allow_anonymous {
            bail!(
                "{unlocked} would let anyone on the network in: listen on 127.0.0.1, give --devices-file for MQTT (or \
                 --mqtt-user and --mqtt-password-file) and --tokens-file for HTTP, or say --allow-anonymous"
            );
        }
        if !plain.is_empty() && !self.allow_plaintext {
            bail!(
                "{plain} would let anyone on the network listen in: listen there with --mqtt-tls-listen or \
                 --http-tls-listen (rollcall tls init makes a certificate), or say --allow-plaintext"
            );
        }
        if !unlocked.is_empty() {
            tracing::warn!("ANONYMOUS ACCESS: {unlocked} is open to everyone who can reach it");
        }
        if !plain.is_empty() {
            tracing::warn!("NO TLS: who is on the way to {plain} can read and change everything");
        }
        Ok(())
    }
}
