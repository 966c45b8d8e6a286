//! A relay that speaks TLS to a server, for clients that speak none.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Ends with its value.
pub(crate) struct Relay {
    runtime: tokio::runtime::Runtime,
    pub(crate) address: SocketAddr,
    /// What the server showed last.
    certificate: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    /// Relays to `server`, whose authority is in the file; with `dribble` a byte at a time.
    pub(crate) fn start(
        server: SocketAddr,
        authority: &Path,
        version: &'static SupportedProtocolVersion,
        dribble: bool,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = Arc::<Mutex<Vec<u8>>>::default();
        let shown = certificate.clone();
        runtime.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (connector, shown) = (connector.clone(), shown.clone());
                tokio::spawn(async move {
                    let stream = Dribble { stream: TcpStream::connect(server).await?, dribble };
                    stream.stream.set_nodelay(true)?;
                    let name = ServerName::try_from("localhost").unwrap();
                    let mut server = connector.connect(name, stream).await?;
                    let certificates = server.get_ref().1.peer_certificates().unwrap();
                    *shown.lock().unwrap() = certificates[0].to_vec();
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { runtime, address, certificate }
    }

    /// What the server showed last.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.certificate.lock().unwrap().clone()
    }

    pub(crate) fn stop(self) {
        self.runtime.shutdown_background();
    }
}

struct Dribble {
    stream: TcpStream,
    dribble: bool,
}

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let bytes = if self.dribble { &bytes[..bytes.len().min(1)] } else { bytes };
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
