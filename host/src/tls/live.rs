//! The certificate in force: its files are read again when they change, and when the process is told to (SIGHUP). Files
//! that make no sense are reported once and change nothing. A connection keeps the certificate that it began with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use super::certificate::{Certificate, CertificateError, WARN_DAYS};
use crate::model::UnixMs;
use crate::ops::{FileStamp, Ops};

/// A change is in force after two of these and the time to read it: within a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often it is said that the certificate expires.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// See the module.
#[derive(Debug)]
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    in_force: RwLock<Certificate>,
    watch: Mutex<Watch>,
}

/// What is remembered between two looks at the files.
#[derive(Debug)]
struct Watch {
    /// How the files were when they were read last, whatever came of it.
    read: [Option<FileStamp>; 2],
    /// How they were at the last look.
    seen: [Option<FileStamp>; 2],
    /// The error that was reported, as long as it lasts.
    reported: Option<String>,
    /// When it was said last that the certificate expires.
    warned: Option<Instant>,
}

impl Certificates {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`CertificateError`]: there is nothing yet that could stay in force.
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Self>, CertificateError> {
        // Before they are read, so that a change meanwhile is seen as one.
        let read = [certificate, key].map(FileStamp::of);
        let watch = Watch { read, seen: read, reported: None, warned: None };
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            in_force: RwLock::new(Certificate::open(certificate, key)?),
            watch: Mutex::new(watch),
        }))
    }

    /// How MQTT is answered.
    pub fn for_mqtt(self: &Arc<Self>) -> Arc<ServerConfig> {
        Arc::new(self.server())
    }

    /// How HTTP/1.1 is answered.
    pub fn for_http(self: &Arc<Self>) -> Arc<ServerConfig> {
        let mut server = self.server();
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(server)
    }

    /// With TLS 1.3, and 1.2 for older clients. Nothing is kept of a client that has left.
    fn server(self: &Arc<Self>) -> ServerConfig {
        let versions = [&version::TLS13, &version::TLS12];
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&versions)
            .expect("the provider has cipher suites for both versions");
        let mut server = builder.with_no_client_auth().with_cert_resolver(self.clone());
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server
    }

    /// Looks at the files from now on, in a thread of its own, until nobody else has this value.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn watch(self: &Arc<Self>, ops: Arc<Ops>) -> io::Result<()> {
        ops.certificate_in_force(self.current().expires());
        let watched = Arc::downgrade(self);
        let work = move || {
            while let Some(certificates) = watched.upgrade() {
                certificates.look(&ops, Instant::now());
                drop(certificates);
                thread::sleep(LOOK_EVERY);
            }
        };
        thread::Builder::new().name("certificates".into()).spawn(work)?;
        Ok(())
    }

    /// Reads the files now, changed or not.
    pub fn reread(&self, ops: &Ops) {
        self.read(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner), ops);
    }

    fn look(&self, ops: &Ops, now: Instant) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.stamps();
        let stand_still = std::mem::replace(&mut watch.seen, stamps) == stamps;
        // What cannot be read may be readable at the next look, although it is the same.
        if stand_still && (stamps != watch.read || stamps.contains(&None)) {
            self.read(&mut watch, ops);
        }
        let days_left = self.current().days_left(UnixMs::now());
        let is_said = watch.warned.is_some_and(|warned| now.duration_since(warned) < DAY);
        if days_left < WARN_DAYS && !is_said {
            watch.warned = Some(now);
            ops.certificate_expires(days_left);
        }
    }

    fn read(&self, watch: &mut Watch, ops: &Ops) {
        let stamps = self.stamps();
        match Certificate::open(&self.certificate, &self.key) {
            // Changed while they were read: the next look but one reads them.
            Ok(_) if self.stamps() != stamps => {}
            Ok(new) => {
                watch.read = stamps;
                watch.reported = None;
                watch.warned = None;
                ops.certificate_read(new.expires(), &self.certificate);
                *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = new;
            }
            Err(error) => {
                if !matches!(error, CertificateError::Unreadable { .. }) {
                    watch.read = stamps;
                }
                let error = error.to_string();
                if watch.reported.as_ref() != Some(&error) {
                    ops.certificate_broken(&error);
                    watch.reported = Some(error);
                }
            }
        }
    }

    fn stamps(&self) -> [Option<FileStamp>; 2] {
        [&self.certificate, &self.key].map(|path| FileStamp::of(path))
    }

    fn current(&self) -> Certificate {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::issue;
    use super::*;

    struct Watched {
        directory: tempfile::TempDir,
        certificates: Arc<Certificates>,
        ops: Ops,
    }

    impl Watched {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let [certificate, key] = issue(directory.path(), &["localhost".to_owned()]).unwrap().server;
            let certificates = Certificates::open(&certificate, &key).unwrap();
            Self { directory, certificates, ops: Ops::default() }
        }

        /// As often as it takes for a change to be seen.
        fn look(&self) {
            (0..3).for_each(|_| self.certificates.look(&self.ops, Instant::now()));
        }

        fn in_force(&self) -> Vec<u8> {
            self.certificates.current().key.cert[0].to_vec()
        }

        fn metric(&self, line: &str) -> bool {
            self.ops.metrics.text(true).contains(line)
        }
    }

    #[test]
    fn a_renewed_certificate_is_in_force_and_a_broken_one_is_not() {
        let watched = Watched::new();
        let first = watched.in_force();
        watched.look();
        assert_eq!(watched.in_force(), first);
        issue(watched.directory.path(), &["localhost".to_owned()]).unwrap();
        watched.look();
        let second = watched.in_force();
        assert_ne!(second, first);
        fs::write(&watched.certificates.certificate, "-----BEGIN").unwrap();
        watched.look();
        assert_eq!(watched.in_force(), second);
        assert!(watched.metric("rollcall_tls_certificate_broken 1\n"));
        fs::remove_file(&watched.certificates.certificate).unwrap();
        watched.look();
        assert_eq!(watched.in_force(), second);
        issue(watched.directory.path(), &["localhost".to_owned()]).unwrap();
        watched.look();
        assert_ne!(watched.in_force(), second);
        assert!(watched.metric("rollcall_tls_certificate_broken 0\n"));
    }

    #[test]
    fn it_is_read_at_once_when_asked() {
        let watched = Watched::new();
        let first = watched.in_force();
        issue(watched.directory.path(), &["localhost".to_owned()]).unwrap();
        watched.certificates.reread(&watched.ops);
        assert_ne!(watched.in_force(), first);
    }
}
