//! `rollcall tls init`: an authority that signs this host's certificate, and nobody else's. Devices know the host by its
//! public key, other clients by the authority.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_cert::der::Decode;

use crate::ops::write_for_owner;

/// The files in the directory; the authority's key is needed for renewals only.
const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
const SERVER: &str = "server.pem";
const SERVER_KEY: &str = "server.key";

/// The authority's name. It is the same in each directory: clients tell authorities apart by their keys.
const AUTHORITY_NAME: &str = "Rollcall authority of this host";

const AUTHORITY_DAYS: i64 = 3_650;

/// Some clients refuse certificates that are valid for longer (Apple's limit since 2019, for authorities of one's own
/// too).
const SERVER_DAYS: i64 = 825;

/// A certificate is valid from a day ago on: a client's clock may be behind.
const CLOCK_BEHIND: Duration = Duration::DAY;

/// 16 random bytes, the first bit of which is 0: a number of at most 20 octets that is positive (RFC 5280, section
/// 4.1.2.2).
const SERIAL_BYTES: usize = 16;

/// What was made.
#[derive(Debug)]
pub struct Issued {
    /// The server's certificate, and its key.
    pub server: [PathBuf; 2],
    /// What other clients take as their authority.
    pub authority: PathBuf,
    /// Was the authority there already?
    pub authority_kept: bool,
    /// Was the server's key there already? Then its pin is what it was.
    pub key_kept: bool,
    /// The server's public key as devices pin it: the uncompressed point, 65 bytes, as base64.
    pub pin: String,
    /// When the server's certificate ends.
    pub expires: OffsetDateTime,
}

/// Why there is no new certificate. What was there is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It has to have a name by which clients call the host.
    #[error("{name} is no name of a host: write a DNS name or an IP address, without a port")]
    BadName {
        /// As it was given.
        name: String,
    },
    /// A file is there and is not what this command wrote.
    #[error("{} is not what rollcall tls init writes: {reason}; take another --dir", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One half of the authority is there.
    #[error("{} is there and {} is not: put it back, or take another --dir", there.display(), missing.display())]
    Half {
        /// The half that is there.
        there: PathBuf,
        /// The other one.
        missing: PathBuf,
    },
    /// The directory or a file in it cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Signing failed, or the system has no random numbers.
    #[error("cannot make a certificate: {reason}")]
    Crypto {
        /// What was said.
        reason: String,
    },
}

/// Makes a certificate for a host that clients call by `names`, in `directory`. Authority and server's key are made
/// the first time and kept from then on, so that clients need nothing new when it is renewed.
///
/// # Errors
/// [`IssueError`].
pub fn issue(directory: &Path, names: &[String]) -> Result<Issued, IssueError> {
    let names = names.iter().map(|name| host_name(name)).collect::<Result<Vec<_>, _>>()?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| io_error(directory, error))?;
    let now = OffsetDateTime::now_utc();
    let file = |name: &str| directory.join(name);
    let (authority, new_authority) = authority(&file(AUTHORITY), &file(AUTHORITY_KEY), now)?;
    let is_kept = new_authority.is_none();
    let (key, key_kept) = match read_key(&file(SERVER_KEY))? {
        Some(key) => (key, true),
        None => (new_key()?, false),
    };
    let mut expires = now + Duration::days(SERVER_DAYS);
    if is_kept {
        // Valid no longer than who signed it.
        expires = expires.min(ours(&file(AUTHORITY), authority.key())?);
    }
    let certificate = server(names, now, expires)?.signed_by(&key, &authority).map_err(crypto)?;
    if let Some(certificate) = &new_authority {
        // The key first: a certificate alone would be half of one.
        write(&file(AUTHORITY_KEY), &authority.key().serialize_pem())?;
        write(&file(AUTHORITY), &certificate.pem())?;
    }
    if !key_kept {
        write(&file(SERVER_KEY), &key.serialize_pem())?;
    }
    write(&file(SERVER), &certificate.pem())?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| io_error(directory, error))?;
    Ok(Issued {
        server: [file(SERVER), file(SERVER_KEY)],
        authority: file(AUTHORITY),
        authority_kept: is_kept,
        key_kept,
        pin: BASE64_STANDARD.encode(key.public_key_raw()),
        expires,
    })
}

/// A DNS name of letters, digits, dots and hyphens, or an address.
fn host_name(name: &str) -> Result<String, IssueError> {
    let label = |label: &str| {
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(of_name)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(label);
    if name.parse::<IpAddr>().is_err() && !is_name {
        return Err(IssueError::BadName { name: name.to_owned() });
    }
    Ok(name.to_ascii_lowercase())
}

/// The authority in the directory; made, with its certificate, if there is none.
fn authority(
    certificate: &Path,
    key: &Path,
    now: OffsetDateTime,
) -> Result<(Issuer<'static, KeyPair>, Option<Certificate>), IssueError> {
    let is_there = fs::exists(certificate).map_err(|error| io_error(certificate, error))?;
    let half =
        |there: &Path, missing: &Path| IssueError::Half { there: there.into(), missing: missing.into() };
    let params = authority_params(now)?;
    match read_key(key)? {
        None if is_there => Err(half(certificate, key)),
        None => {
            let key = new_key()?;
            let certificate = params.self_signed(&key).map_err(crypto)?;
            Ok((Issuer::new(params, key), Some(certificate)))
        }
        Some(_) if !is_there => Err(half(key, certificate)),
        // What an issuer signs has its name and its key in it, and both are as they were.
        Some(key) => Ok((Issuer::new(params, key), None)),
    }
}

/// When the authority ends whose certificate is in this file.
///
/// # Errors
/// It is not what was made here, or of another key: what is signed with `key` would not be believed.
fn ours(certificate: &Path, key: &KeyPair) -> Result<OffsetDateTime, IssueError> {
    let foreign =
        |reason: &str| IssueError::Foreign { path: certificate.to_owned(), reason: reason.to_owned() };
    let unreadable = || foreign("it holds no certificate that can be read");
    let der = CertificateDer::from_pem_file(certificate).map_err(|_| unreadable())?;
    let read = x509_cert::Certificate::from_der(&der).map_err(|_| unreadable())?;
    let tbs = read.tbs_certificate();
    if tbs.subject_public_key_info().subject_public_key.raw_bytes() != key.public_key_raw() {
        return Err(foreign("its key is not the one in ca.key"));
    }
    if tbs.subject().to_string() != format!("CN={AUTHORITY_NAME}") {
        return Err(foreign("it has another name"));
    }
    let ends = tbs.validity().not_after.to_unix_duration().as_secs();
    let ends = i64::try_from(ends).ok().and_then(|ends| OffsetDateTime::from_unix_timestamp(ends).ok());
    ends.filter(|ends| *ends > OffsetDateTime::now_utc())
        .ok_or_else(|| foreign("it has expired: clients need a new one"))
}

fn authority_params(now: OffsetDateTime) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(AUTHORITY_NAME);
    params.serial_number = Some(serial()?);
    params.not_before = now - CLOCK_BEHIND;
    params.not_after = now + Duration::days(AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn server(
    names: Vec<String>,
    now: OffsetDateTime,
    expires: OffsetDateTime,
) -> Result<CertificateParams, IssueError> {
    // The longest name that fits is 64 characters (RFC 5280, appendix A.1); clients look at the others only.
    let first = names.iter().find(|name| name.len() <= 64).map_or("rollcall", String::as_str).to_owned();
    let mut params = CertificateParams::new(names).map_err(crypto)?;
    params.distinguished_name = named(&first);
    params.serial_number = Some(serial()?);
    params.not_before = now - CLOCK_BEHIND;
    params.not_after = expires;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Another one each time: some clients refuse two certificates of an authority that have the same.
fn serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; SERIAL_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(crypto)?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

fn new_key() -> Result<KeyPair, IssueError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)
}

/// A key of ours; `None` if there is no such file.
fn read_key(path: &Path) -> Result<Option<KeyPair>, IssueError> {
    let foreign = |reason: &str| IssueError::Foreign { path: path.to_owned(), reason: reason.to_owned() };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, error)),
    };
    let key = KeyPair::from_pem(&text).map_err(|_| foreign("it holds no private key"))?;
    if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(foreign("its key is not one of P-256"));
    }
    Ok(Some(key))
}

fn write(path: &Path, text: &str) -> Result<(), IssueError> {
    write_for_owner(path, text).map_err(|error| io_error(path, error))
}

fn io_error(path: &Path, error: io::Error) -> IssueError {
    IssueError::Io { path: path.to_owned(), error }
}

fn crypto(error: impl std::fmt::Display) -> IssueError {
    IssueError::Crypto { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_made_again_keeps_authority_and_pin_and_is_another_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("tls");
        let first = issue(&dir, &names(&["rollcall.example"])).unwrap();
        let read = |name| fs::read(dir.join(name)).unwrap();
        let before = [AUTHORITY, AUTHORITY_KEY, SERVER_KEY, SERVER].map(read);
        let second = issue(&dir, &names(&["rollcall.example", "192.0.2.7"])).unwrap();
        let after = [AUTHORITY, AUTHORITY_KEY, SERVER_KEY, SERVER].map(read);
        assert_eq!(before[..3], after[..3]);
        assert_ne!(before[3], after[3]);
        assert_eq!((first.authority_kept, first.key_kept), (false, false));
        assert_eq!((second.authority_kept, second.key_kept), (true, true));
        assert_eq!(first.pin, second.pin);
        let pin = BASE64_STANDARD.decode(&first.pin).unwrap();
        assert_eq!((pin.len(), pin[0]), (65, 4));
        assert!(after[3].windows(5).any(|part| part == b"BEGIN"));
    }

    #[test]
    fn all_of_it_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("tls");
        issue(&dir, &names(&["localhost"])).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 4);
        assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
    }

    #[test]
    fn what_is_no_name_or_not_ours_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["", "a b", "host:1883", "https://host", "-a", "a..b", &"a".repeat(64)] {
            let error = issue(&directory.path().join("tls"), &names(&[name])).unwrap_err();
            assert!(matches!(error, IssueError::BadName { .. }), "{name}");
        }
        assert!(!directory.path().join("tls").exists());
        let server_key = directory.path().join(SERVER_KEY);
        fs::write(&server_key, "mine").unwrap();
        let error = issue(directory.path(), &names(&["localhost"])).unwrap_err().to_string();
        assert!(error.contains(SERVER_KEY) && !error.contains("mine"), "{error}");
        fs::remove_file(&server_key).unwrap();
        issue(directory.path(), &names(&["localhost"])).unwrap();
        let other = tempfile::tempdir().unwrap();
        issue(other.path(), &names(&["localhost"])).unwrap();
        let before = fs::read(directory.path().join(SERVER)).unwrap();
        for text in [fs::read_to_string(other.path().join(AUTHORITY)).unwrap(), "mine".to_owned()] {
            fs::write(directory.path().join(AUTHORITY), text).unwrap();
            let error = issue(directory.path(), &names(&["localhost"])).unwrap_err().to_string();
            assert!(error.contains(AUTHORITY), "{error}");
        }
        assert_eq!(fs::read(directory.path().join(SERVER)).unwrap(), before);
        fs::remove_file(directory.path().join(AUTHORITY_KEY)).unwrap();
        let error = issue(directory.path(), &names(&["localhost"])).unwrap_err();
        assert!(matches!(error, IssueError::Half { .. }), "{error}");
    }
}
