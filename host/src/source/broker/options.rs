//! Our settings in rumqttc's terms: who we are, how long our session lives, and whose certificates we trust.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rumqttc::v5::MqttOptions;
use rumqttc::{NetworkOptions, TlsConfiguration};

use super::{BrokerSettings, KEEP_ALIVE, SESSION_EXPIRY_S, Transport};

const CONNECT_TIMEOUT_S: u64 = 10;

/// A broker does not deliver what is longer (MQTT 5, section 3.1.2.11.4). It must not be less than what
/// others can publish for the session to make sense of it: what is too long is rejected by name.
const PACKET_MAX: u32 = 256 * 1024;

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
}

pub(super) fn options(settings: &BrokerSettings) -> Result<MqttOptions, SetupError> {
    let address = &settings.address;
    let mut options = MqttOptions::new(&settings.client_id, &address.host, address.port);
    if let Some(credentials) = &address.credentials {
        options.set_credentials(&credentials.user, &credentials.password);
    }
    if address.transport == Transport::Tls {
        options.set_transport(rumqttc::Transport::tls_with_config(tls(settings.ca_file.as_deref())?));
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    options.set_clean_start(false).set_session_expiry_interval(Some(SESSION_EXPIRY_S));
    options.set_receive_maximum(Some(settings.receive_max)).set_max_packet_size(Some(PACKET_MAX));
    options.set_manual_acks(true).set_keep_alive(KEEP_ALIVE).set_connection_timeout(CONNECT_TIMEOUT_S);
    Ok(options)
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConfiguration, SetupError> {
    if let Some(file) = ca_file {
        let unusable = |error: &str| SetupError::Certificates(file.to_owned(), error.to_owned());
        let ca = fs::read(file).map_err(|error| unusable(&error.to_string()))?;
        if !ca.windows(11).any(|text| text == b"-----BEGIN ") {
            return Err(unusable("it holds no PEM"));
        }
        return Ok(TlsConfiguration::Simple { ca, alpn: None, client_auth: None });
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(SetupError::NoCertificates);
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}
