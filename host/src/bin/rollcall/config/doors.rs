//! What listens beyond this machine, and who can come in or listen in there.

use std::net::SocketAddr;

use anyhow::bail;
use clap::Args;

/// Flags that open doors.
#[derive(Debug, Args)]
pub(crate) struct DoorArgs {
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
pub(crate) struct Door {
    /// With which flag.
    pub(crate) flag: &'static str,
    /// Which one.
    pub(crate) address: SocketAddr,
    /// Is there TLS?
    pub(crate) tls: bool,
    /// Does who comes in need a password or a token?
    pub(crate) locked: bool,
}

impl DoorArgs {
    /// Refuses addresses that let everyone on the network in, or listen in, unless that was asked for.
    ///
    /// # Errors
    /// Names the doors and what to do.
    pub(crate) fn check(&self, doors: impl IntoIterator<Item = Door>) -> anyhow::Result<()> {
        let beyond: Vec<_> = doors.into_iter().filter(|door| !door.address.ip().is_loopback()).collect();
        let named = |is_open: fn(&Door) -> bool| {
            let open = beyond.iter().filter(|door| is_open(door));
            open.map(|door| format!("{} {}", door.flag, door.address)).collect::<Vec<_>>().join(" and ")
        };
        let (unlocked, plain) = (named(|door| !door.locked), named(|door| !door.tls));
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
