//! A certificate and its key, read from two files and found to belong together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;

use crate::model::UnixMs;
use crate::ops::check::Check;

/// From here on the log and `rollcall doctor` warn.
pub(super) const WARN_DAYS: i64 = 30;

const DAY_MS: i128 = 24 * 60 * 60 * 1000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    expires: UnixMs,
}

/// Why two files are no certificate with its key. None of these texts quotes a file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// One of them is not there, or not for us.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The first has none in it.
    #[error("{} has no certificate in it that can be read: it has to be PEM, the server's own first", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// The second has none in it.
    #[error("{} has no private key in it that can be used: it has to be PEM, without a passphrase", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// Each is one, but of another.
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    NotAPair {
        /// The first.
        certificate: PathBuf,
        /// The second.
        key: PathBuf,
    },
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| CertificateError::Unreadable { path: path.to_owned(), error })
        };
        let no_certificate = || CertificateError::NoCertificate { path: certificate.to_owned() };
        let no_key = || CertificateError::NoKey { path: key.to_owned() };
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| no_certificate())?;
        let own = chain.first().ok_or_else(no_certificate)?;
        let own = x509_cert::Certificate::from_der(own).map_err(|_| no_certificate())?;
        let ends = own.tbs_certificate().validity().not_after.to_unix_duration();
        let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| no_key())?;
        let pair =
            CertifiedKey::from_der(chain, private, &default_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    CertificateError::NotAPair { certificate: certificate.to_owned(), key: key.to_owned() }
                }
                rustls::Error::InvalidCertificate(_) => no_certificate(),
                _ => no_key(),
            })?;
        let expires = UnixMs(u64::try_from(ends.as_millis()).unwrap_or(u64::MAX));
        Ok(Self { key: Arc::new(pair), expires })
    }

    /// When it is valid no longer.
    pub fn expires(&self) -> UnixMs {
        self.expires
    }

    /// Whole days from `now` until it is valid no longer; negative after that.
    pub(super) fn days_left(&self, now: UnixMs) -> i64 {
        let ms = i128::from(self.expires.0) - i128::from(now.0);
        i64::try_from(ms.div_euclid(DAY_MS)).unwrap_or(i64::MAX)
    }
}

/// What `rollcall doctor` says of two files.
pub fn check(certificate: &Path, key: &Path) -> Check {
    const NAME: &str = "certificate";
    const RENEW: &str = "renew it: rollcall tls init with the same --dir";
    match Certificate::open(certificate, key).map(|pair| pair.days_left(UnixMs::now())) {
        Err(error) => {
            Check::fail(NAME, error.to_string(), "rollcall tls init makes a certificate and its key")
        }
        Ok(days) if days < 0 => Check::fail(NAME, "it has expired, and clients refuse it", RENEW),
        Ok(days) if days < WARN_DAYS => Check::warn(NAME, format!("it expires in {days} days"), RENEW),
        Ok(days) => Check::pass(NAME, format!("it is valid for {days} days")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::issue;
    use super::*;
    use crate::ops::check::Outcome;

    #[test]
    fn a_pair_is_taken_and_two_halves_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let issued = |name: &str| issue(&directory.path().join(name), &["localhost".to_owned()]).unwrap();
        let [(one, expires), (other, _)] =
            ["one", "other"].map(issued).map(|issued| (issued.server, issued.expires));
        let certificate = Certificate::open(&one[0], &one[1]).unwrap();
        assert_eq!(i64::try_from(certificate.expires().0 / 1000), Ok(expires.unix_timestamp()));
        let error = Certificate::open(&one[0], &other[1]).unwrap_err();
        assert!(matches!(error, CertificateError::NotAPair { .. }), "{error}");
        let error = Certificate::open(&one[1], &one[1]).unwrap_err();
        assert!(matches!(error, CertificateError::NoCertificate { .. }), "{error}");
        let error = Certificate::open(&one[0], &one[0]).unwrap_err();
        assert!(matches!(error, CertificateError::NoKey { .. }), "{error}");
        let error = Certificate::open(directory.path(), &one[1]).unwrap_err();
        assert!(matches!(error, CertificateError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_no_pair() {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = issue(directory.path(), &["localhost".to_owned()]).unwrap().server;
        for path in [&certificate, &key] {
            let whole = fs::read(path).unwrap();
            let end = whole.len() - "-----END".len() - 1;
            for length in (0..end).step_by(7) {
                fs::write(path, &whole[..length]).unwrap();
                assert!(Certificate::open(&certificate, &key).is_err(), "{} at {length}", path.display());
            }
            fs::write(path, &whole).unwrap();
        }
    }

    #[test]
    fn days_are_whole_and_negative_once_past() {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = issue(directory.path(), &["localhost".to_owned()]).unwrap().server;
        let day = 24 * 60 * 60 * 1000;
        let certificate =
            Certificate { expires: UnixMs(100 * day), ..Certificate::open(&certificate, &key).unwrap() };
        let left = |now| certificate.days_left(UnixMs(now));
        assert_eq!([70 * day, 70 * day + 1, 100 * day, 100 * day + 1].map(left), [30, 29, 0, -1]);
    }

    #[test]
    fn doctor_says_how_long_it_is_valid_or_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = issue(directory.path(), &["localhost".to_owned()]).unwrap().server;
        let good = check(&certificate, &key);
        assert_eq!((good.outcome, good.found.as_str()), (Outcome::Pass, "it is valid for 824 days"));
        assert_eq!(check(&key, &certificate).outcome, Outcome::Fail);
    }
}
