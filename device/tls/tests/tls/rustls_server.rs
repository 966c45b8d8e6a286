//! An honest server: rustls, with a certificate of its own making. It repeats what it is told.

use std::io::{Read, Write};
use std::sync::Arc;

use p256::ecdsa::SigningKey;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;
use rustls::{ServerConfig, ServerConnection};

use crate::net::Server;

/// A server's key.
pub(crate) struct ServerKey(pub(crate) KeyPair);

impl ServerKey {
    pub(crate) fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    pub(crate) fn pin(&self) -> Vec<u8> {
        self.0.public_key_raw().to_vec()
    }

    /// Another certificate each time.
    pub(crate) fn certificate(&self, name: &str) -> Vec<u8> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.self_signed(&self.0).unwrap().der().to_vec()
    }

    /// For those who sign by themselves.
    pub(crate) fn signing_key(&self) -> SigningKey {
        let der = self.0.serialize_der();
        // RFC 5915, section 3: version 1 and an octet string.
        let before = [2, 1, 1, 4, 32];
        let at = der.windows(before.len()).position(|bytes| bytes == before).unwrap() + before.len();
        SigningKey::from_slice(&der[at..][..32]).unwrap()
    }

    pub(crate) fn server(&self) -> RustlsServer {
        RustlsServer::new(self, 4)
    }
}

pub(crate) struct RustlsServer {
    config: Arc<ServerConfig>,
    connection: ServerConnection,
    /// What it was told.
    pub(crate) heard: Vec<u8>,
    /// It sends it back too.
    pub(crate) echoes: bool,
    is_closed: bool,
}

impl RustlsServer {
    pub(crate) fn new(key: &ServerKey, tickets: usize) -> Self {
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.0.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.certificate("broker.example").into()], private)
            .unwrap();
        config.send_tls13_tickets = tickets;
        let config = Arc::new(config);
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        Self { config, connection, heard: Vec::new(), echoes: true, is_closed: false }
    }

    /// Says that it sends nothing more.
    pub(crate) fn close(&mut self) {
        self.connection.send_close_notify();
    }
}

impl Server for RustlsServer {
    fn accept(&mut self) {
        self.connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        self.heard.clear();
        self.is_closed = false;
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_closed {
            self.connection.read_tls(&mut bytes).unwrap();
            self.is_closed = self.connection.process_new_packets().is_err();
            let mut plain = Vec::new();
            // It ends with `WouldBlock`.
            let _ = self.connection.reader().read_to_end(&mut plain);
            self.heard.extend(&plain);
            if self.echoes {
                self.connection.writer().write_all(&plain).unwrap();
            }
        }
    }

    fn say(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }
}
