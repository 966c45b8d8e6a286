//! By which name a request calls this server. A page elsewhere whose name is made to lead here (DNS rebinding) has its
//! own name in the Host header, and must not read what only this machine may.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version, header};

/// A host: a name, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// IPv4, or IPv6.
    Address(IpAddr),
    /// In lower case, without the root's dot.
    Name(String),
}

/// Neither a name nor an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host name or an IP address; it has no port")]
pub struct InvalidHostName;

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, InvalidHostName> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_good) {
            return Err(InvalidHostName);
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

impl HostName {
    /// Does it lead to this machine, whoever asks?
    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            // RFC 6761, section 6.3
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

/// Whom a request is for; `None` in HTTP/1.0 without a Host header, which no browser speaks.
///
/// # Errors
/// RFC 9112, section 3.2: what the request has to change.
pub(super) fn named(
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<HostName>, &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err("there is more than one Host header"),
        (None, None) if version < Version::HTTP_11 => None,
        (None, None) => return Err("there is no Host header"),
        (Some(host), None) => {
            Some(host_of(host.as_bytes()).ok_or("the Host header is not HOST or HOST:PORT")?)
        }
    };
    match uri.authority() {
        // Section 3.2.2: what stands in the request line counts.
        Some(authority) => host_of(authority.as_str().as_bytes()).ok_or("the URL has no good host").map(Some),
        None => Ok(host),
    }
}

/// The host in `HOST[:PORT]`.
fn host_of(bytes: &[u8]) -> Option<HostName> {
    let text = str::from_utf8(bytes).ok()?;
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    // What is before it would be a user's name.
    let port = text.strip_prefix(host)?;
    let digits = port.strip_prefix(':').unwrap_or(port);
    let has_port = digits.len() < port.len();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || (!has_port && !digits.is_empty()) {
        return None;
    }
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Result<Option<HostName>, &'static str> {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(text).unwrap())]);
        named(Version::HTTP_11, &Uri::from_static("/"), &headers)
    }

    #[test]
    fn names_and_addresses_are_read_without_their_port() {
        let named = |text: &str| Ok(Some(text.parse().unwrap()));
        for (text, expected) in [
            ("localhost:5000", "localhost"),
            ("LocalHost.", "localhost"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:5000", "::1"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("rollcall.example:", "rollcall.example"),
        ] {
            assert_eq!(host(text), named(expected), "{text}");
        }
        for text in
            ["", ":80", "a b", "user@localhost", "localhost:http", "localhost:80:80", "[::1", "::1", "a/b"]
        {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_leads_to_this_machine_is_a_loopback_name() {
        for text in ["localhost", "a.LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(text.parse::<HostName>().unwrap().is_loopback(), "{text}");
        }
        for text in ["localhost.example", "notlocalhost", "0.0.0.0", "192.0.2.7", "127.0.0.1.example", "::2"]
        {
            assert!(!text.parse::<HostName>().unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn the_request_line_goes_before_the_header_and_only_http_1_0_needs_neither() {
        let parts = |request: Request<()>| {
            let (parts, ()) = request.into_parts();
            named(parts.version, &parts.uri, &parts.headers)
        };
        let absolute = Request::get("http://evil.example/metrics").header("host", "localhost");
        assert_eq!(parts(absolute.body(()).unwrap()), Ok(Some("evil.example".parse().unwrap())));
        assert!(parts(Request::get("http://localhost/").body(()).unwrap()).is_err());
        assert!(parts(Request::get("/").body(()).unwrap()).is_err());
        let old = Request::get("/").version(Version::HTTP_10);
        assert_eq!(parts(old.body(()).unwrap()), Ok(None));
        let twice = Request::get("/").header("host", "localhost").header("host", "localhost");
        assert!(parts(twice.body(()).unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn any_header_is_a_host_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = host_of(&bytes);
        }

        #[test]
        fn any_host_is_itself_with_and_without_a_port(text in "[a-z0-9.-]{1,20}", port in any::<u16>()) {
            assert_eq!(host_of(format!("{text}:{port}").as_bytes()), host_of(text.as_bytes()));
        }
    }
}
