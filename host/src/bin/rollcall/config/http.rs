//! Where the API listens, and who may ask.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use rollcall_host::api::{HostName, Origin};
use rollcall_host::credentials::{Live, Rereader, Tokens};
use rollcall_host::tls::Certificates;
use rustls::ServerConfig;

use super::ListenAddress;
use super::password::warn_of_readers;

/// Flags of the API.
#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    /// Where the HTTP API listens. Port 0 takes a free one.
    #[arg(long, env = "ROLLCALL_HTTP_LISTEN", default_value = "127.0.0.1:5000", value_name = "IP:PORT")]
    http_listen: SocketAddr,
    #[command(flatten)]
    guard: GuardArgs,
}

/// Flags of a role that needs no HTTP.
#[derive(Debug, Args)]
pub(crate) struct OptionalHttpArgs {
    /// Where /healthz, /readyz and /metrics are answered over HTTP; nowhere when it is not given.
    #[arg(long, env = "ROLLCALL_HTTP_LISTEN", value_name = "IP:PORT")]
    http_listen: Option<SocketAddr>,
    #[command(flatten)]
    guard: GuardArgs,
}

/// Flags that say who may ask.
#[derive(Debug, Args)]
struct GuardArgs {
    /// Where it listens with TLS; needs --tls-cert and --tls-key.
    #[arg(long, env = "ROLLCALL_HTTP_TLS_LISTEN", value_name = "IP:PORT", requires = "tls_cert")]
    http_tls_listen: Option<SocketAddr>,
    /// A name or an address by which HTTP clients call this host, without the port. Repeat it for each, or separate
    /// them by commas in the environment. localhost, loopback addresses and the addresses that are listened on need none.
    #[arg(long, env = "ROLLCALL_HTTP_NAME", value_name = "NAME", value_delimiter = ',')]
    http_name: Vec<HostName>,
    /// A file of tokens, as rollcall token create writes it: all of HTTP but /healthz, /readyz and the
    /// page's files needs one of them then. It is read again when it changes.
    #[arg(long, env = "ROLLCALL_TOKENS_FILE", value_name = "FILE")]
    tokens_file: Option<PathBuf>,
    /// Let web pages from elsewhere read the answers: the origin of such pages, SCHEME://HOST[:PORT], or * for
    /// all. It may be given more than once.
    #[arg(long, env = "ROLLCALL_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<Origin>,
}

/// A place where it listens.
#[derive(Clone, Debug)]
pub(crate) struct HttpAddress {
    /// The flag that named it.
    pub(crate) flag: &'static str,
    /// Which one.
    pub(crate) address: SocketAddr,
    /// How it answers with TLS, if it does.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// What was said of HTTP, checked.
#[derive(Debug)]
pub(crate) struct HttpSettings {
    /// Where it listens: at least one.
    pub(crate) addresses: Vec<HttpAddress>,
    /// Its names.
    pub(crate) names: Vec<HostName>,
    /// The tokens that are needed, if any are, and what reads them again.
    pub(crate) tokens: Option<(Live<Tokens>, Rereader<Tokens>)>,
    /// Which web pages elsewhere may read the answers.
    pub(crate) origins: Vec<Origin>,
}

impl HttpArgs {
    /// What was asked for.
    ///
    /// # Errors
    /// A tokens file that cannot be used.
    pub(crate) fn http(&self, certificates: Option<&Arc<Certificates>>) -> anyhow::Result<HttpSettings> {
        self.guard.http(Some(self.http_listen), certificates)
    }
}

impl OptionalHttpArgs {
    /// What was asked for, if anything was.
    ///
    /// # Errors
    /// A tokens file that cannot be used.
    pub(crate) fn http(
        &self,
        certificates: Option<&Arc<Certificates>>,
    ) -> anyhow::Result<Option<HttpSettings>> {
        let settings = self.guard.http(self.http_listen, certificates)?;
        Ok((!settings.addresses.is_empty()).then_some(settings))
    }
}

impl GuardArgs {
    fn http(
        &self,
        listen: Option<SocketAddr>,
        certificates: Option<&Arc<Certificates>>,
    ) -> anyhow::Result<HttpSettings> {
        let plain = listen.map(|address| HttpAddress { flag: "--http-listen", address, tls: None });
        let server = certificates.map(|certificates| certificates.for_http());
        let with_tls = self.http_tls_listen.zip(server);
        let with_tls = with_tls.map(|(address, server)| HttpAddress {
            flag: "--http-tls-listen",
            address,
            tls: Some(server),
        });
        let addresses: Vec<_> = plain.into_iter().chain(with_tls).collect();
        let mut names = self.http_name.clone();
        let own = addresses.iter().map(|of| of.address.ip());
        let own = own.filter(|address| !address.is_unspecified());
        names.extend(own.map(|address| HostName::Address(address.to_canonical())));
        let tokens = self.tokens_file.as_deref().map(|file| {
            let tokens = Live::open(file).context("--tokens-file")?;
            warn_of_readers("tokens file", file);
            anyhow::Ok(tokens)
        });
        Ok(HttpSettings { addresses, names, tokens: tokens.transpose()?, origins: self.cors_origin.clone() })
    }
}

impl HttpSettings {
    /// What it listens on.
    pub(crate) fn listens_on(&self) -> impl Iterator<Item = ListenAddress> {
        let locked = self.tokens.is_some();
        self.addresses.iter().map(move |address| ListenAddress {
            flag: address.flag,
            address: address.address,
            tls: address.tls.is_some(),
            locked,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::super::CertificateArgs;
    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        http: HttpArgs,
        #[command(flatten)]
        _certificate: CertificateArgs,
    }

    fn settings(flags: &[&str]) -> anyhow::Result<HttpSettings> {
        Flags::try_parse_from(["serve"].iter().chain(flags)).unwrap().http.http(None)
    }

    #[test]
    fn tokens_close_the_door_and_a_file_that_makes_no_sense_opens_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens");
        let flags = ["--http-listen", "0.0.0.0:5000", "--tokens-file", file.to_str().unwrap()];
        assert!(settings(&flags).is_err());
        fs::write(&file, "# nobody yet\n").unwrap();
        assert!(settings(&flags).unwrap().listens_on().all(|address| address.locked));
        assert!(!settings(&flags[..2]).unwrap().listens_on().all(|address| address.locked));
        fs::write(&file, "page read\n").unwrap();
        assert!(format!("{:#}", settings(&flags).unwrap_err()).contains("line 1"));
    }

    #[test]
    fn the_address_that_is_listened_on_is_a_name_too() {
        let names = |flags: &[&str]| {
            let [one, other] =
                ["rollcall.example", "192.0.2.7"].map(|name| name.parse::<HostName>().unwrap());
            let names = settings(flags).unwrap().names;
            [names.contains(&one), names.contains(&other)]
        };
        assert_eq!(names(&["--http-listen", "192.0.2.7:5000"]), [false, true]);
        assert_eq!(
            names(&["--http-listen", "0.0.0.0:5000", "--http-name", "Rollcall.example."]),
            [true, false]
        );
        assert_eq!(names(&["--http-name", "rollcall.example,192.0.2.7"]), [true, true]);
        for name in ["", "rollcall.example:5000", "http://rollcall.example"] {
            assert!(Flags::try_parse_from(["serve", "--http-name", name]).is_err(), "{name}");
        }
    }
}
