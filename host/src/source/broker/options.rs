//! Who we are to a broker, how long our session lives, and whose certificates we trust.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rumqttc::v5::mqttbytes::v5::{Connect, ConnectProperties, Login, Packet};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::link::KEEP_ALIVE;
use super::{BrokerAddress, BrokerSettings, SESSION_EXPIRY_S, Transport};
use crate::source::Credentials;

/// A broker does not deliver what is longer (MQTT 5, section 3.1.2.11.4). It must not be less than what
/// others can publish for the session to make sense of it: what is too long is rejected by name.
pub(super) const PACKET_MAX: u32 = 256 * 1024;

/// Why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file with certificates.
    #[error("cannot use the certificates in {0}: {1}")]
    Certificates(PathBuf, String),
    /// The system has none.
    #[error(
        "this system has no certificates to check the broker's with; name a PEM file with --broker-ca-file"
    )]
    NoCertificates,
    /// No certificate can be for it.
    #[error("{0} is no name that a certificate can be for; TLS needs the name in the broker's certificate")]
    Name(String),
}

/// A broker, and how we log in.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) host: String,
    pub(super) port: u16,
    /// What encrypts, and whom the broker's certificate has to be for.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(super) credentials: Option<Credentials>,
    pub(super) client_id: String,
    /// Take up the session that the broker may have kept for us?
    pub(super) clean_start: bool,
    /// For how long the broker is to keep it; not at all when nothing is said.
    pub(super) session_expiry_s: Option<u32>,
    pub(super) receive_max: u16,
}

impl Options {
    /// Our session at the broker of `address`.
    ///
    /// # Errors
    /// [`SetupError`].
    pub(super) fn new(address: &BrokerAddress, settings: &BrokerSettings) -> Result<Self, SetupError> {
        let tls = match address.transport {
            Transport::Tcp => None,
            Transport::Tls => {
                let name = ServerName::try_from(address.host.clone())
                    .map_err(|_| SetupError::Name(address.host.clone()))?;
                Some((connector(settings.ca_file.as_deref())?, name))
            }
        };
        Ok(Self {
            host: address.host.clone(),
            port: address.port,
            tls,
            credentials: address.credentials.clone(),
            client_id: settings.client_id.clone(),
            clean_start: false,
            session_expiry_s: Some(SESSION_EXPIRY_S),
            receive_max: settings.receive_max,
        })
    }

    /// The first packet of a connection.
    pub(super) fn hello(&self) -> Packet {
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = self.session_expiry_s;
        properties.receive_maximum = Some(self.receive_max);
        properties.max_packet_size = Some(PACKET_MAX);
        let connect = Connect {
            keep_alive: u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX),
            client_id: self.client_id.clone(),
            clean_start: self.clean_start,
            properties: Some(properties),
        };
        let login = self.credentials.as_ref().map(|is| Login::new(is.user.clone(), is.password.clone()));
        Packet::Connect(connect, None, login)
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, SetupError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let unusable = |error: String| SetupError::Certificates(file.to_owned(), error);
            let pem = fs::read(file).map_err(|error| unusable(error.to_string()))?;
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(unusable("it holds no certificate in PEM that can be read".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(SetupError::NoCertificates);
            }
        }
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
