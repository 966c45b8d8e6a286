//! Flags of `rollcall tls`, and those that say with which certificate a server answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use rollcall_host::tls::Certificates;

use super::password::warn_of_readers;

pub(super) const EXAMPLES: &str = "\
Example:
  rollcall tls init --dir ./tls --name rollcall.example --name 192.0.2.7
  rollcall serve --mqtt-tls-listen 0.0.0.0:8883 --devices-file ./devices --tls-cert tls/server.pem --tls-key tls/server.key
  curl --cacert tls/ca.pem …
      and whatever else clients use to name an authority of your own

The pin is the server's public key: devices know the host by it, without a clock and without an authority. Run it again to
renew the certificate: authority, key and pin stay, so that clients need nothing new, and a running server takes it over.
ca.key signs renewals and is needed for nothing else: keep it elsewhere, and put it back for them.";

/// Makes certificates for this host.
#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: TlsCommand,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Make an authority, a key and a certificate for this host, or renew the certificate.
    Init(InitArgs),
}

/// Flags of `rollcall tls init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where to: ca.pem, ca.key, server.pem and server.key, readable by you alone.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// A name or an address by which clients call this host. Repeat it for each.
    #[arg(long = "name", value_name = "HOST", required = true)]
    pub(crate) names: Vec<String>,
}

/// The certificate of a server.
#[derive(Debug, Args)]
pub(crate) struct CertificateArgs {
    /// The certificate for TLS, as PEM, the server's own first (rollcall tls init makes one). It is read again when it
    /// changes, and on SIGHUP.
    #[arg(long, env = "ROLLCALL_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, as PEM, without a passphrase.
    #[arg(long, env = "ROLLCALL_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl CertificateArgs {
    /// Where it is, if there is one.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        self.tls_cert.as_deref().zip(self.tls_key.as_deref())
    }

    /// The certificate, if there is one.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub(crate) fn certificates(&self) -> anyhow::Result<Option<Arc<Certificates>>> {
        let Some((certificate, key)) = self.files() else { return Ok(None) };
        let certificates = Certificates::open(certificate, key).context("--tls-cert")?;
        warn_of_readers("key for TLS", key);
        Ok(Some(certificates))
    }
}
