//! `mqtt://user:password@host:1883`: where a broker is and who we are there. The password shows nowhere.

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::source::Credentials;

/// A broker's address.
#[derive(Clone)]
pub struct BrokerAddress {
    pub(super) transport: Transport,
    /// A name or an address, which has no brackets here.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Option<Credentials>,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As they are.
    Tcp,
    /// Encrypted, to a broker whose certificate is checked.
    Tls,
}

/// What is wrong with an address. It does not quote the address, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerAddressError {
    /// Another scheme.
    #[error("a broker is written mqtt://[USER:PASSWORD@]HOST[:PORT], or mqtts:// for TLS")]
    Scheme,
    /// No host, or something after it.
    #[error("the broker's address has no host, or a path: write mqtt://[USER:PASSWORD@]HOST[:PORT]")]
    Host,
    /// A port that is no port.
    #[error("the broker's port is not a number from 1 to 65535")]
    Port,
    /// Half a credential, or signs that cannot be decoded.
    #[error(
        "the broker's user and password are written USER:PASSWORD, with %-escapes for the signs : / ? # [ ] @"
    )]
    Credentials,
}

impl BrokerAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`BrokerAddressError`] says what is wrong without quoting it.
    pub fn parse(text: &str) -> Result<Self, BrokerAddressError> {
        let (transport, default_port, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (Transport::Tcp, 1883, rest),
            Some(("mqtts", rest)) => (Transport::Tls, 8883, rest),
            _ => return Err(BrokerAddressError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) = host_and_port(place, default_port)?;
        let credentials = user.map(credentials).transpose()?;
        Ok(Self { transport, host: host.to_owned(), port, credentials })
    }

    /// How bytes travel.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Says who we are, unless the address says so itself.
    #[must_use]
    pub fn or_credentials(mut self, credentials: Option<Credentials>) -> Self {
        self.credentials = self.credentials.or(credentials);
        self
    }

    /// Does it say who we are?
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }
}

fn host_and_port(place: &str, default_port: u16) -> Result<(&str, u16), BrokerAddressError> {
    // An IPv6 address stands in brackets and is full of colons.
    let colon = place.rfind(':').filter(|at| !place[*at..].contains(']'));
    let (host, port) = match colon {
        Some(at) => (&place[..at], place[at + 1..].parse().map_err(|_| BrokerAddressError::Port)?),
        None => (place, default_port),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "-._".contains(sign);
    let valid =
        if inner == host { host.chars().all(plain) } else { inner.parse::<std::net::Ipv6Addr>().is_ok() };
    if port == 0 {
        return Err(BrokerAddressError::Port);
    }
    if host.is_empty() || !valid {
        return Err(BrokerAddressError::Host);
    }
    Ok((inner, port))
}

fn credentials(text: &str) -> Result<Credentials, BrokerAddressError> {
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().map_err(|_| BrokerAddressError::Credentials)?;
        if text.is_empty() { Err(BrokerAddressError::Credentials) } else { Ok(text.into_owned()) }
    };
    let (user, password) = text.split_once(':').ok_or(BrokerAddressError::Credentials)?;
    Ok(Credentials { user: decoded(user)?, password: decoded(password)? })
}

/// Without user and password.
impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.transport == Transport::Tls { "mqtts" } else { "mqtt" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_host_port_and_user() {
        let address = BrokerAddress::parse("mqtt://fleet:s%40crt@broker.example:11883").unwrap();
        let credentials = address.credentials.clone().unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("fleet", "s@crt"));
        assert_eq!(address.to_string(), "mqtt://broker.example:11883");
        assert_eq!(BrokerAddress::parse("mqtts://a").unwrap().to_string(), "mqtts://a:8883");
        let literal = BrokerAddress::parse("mqtt://[::1]:9/").unwrap();
        assert_eq!((literal.host.as_str(), literal.to_string().as_str()), ("::1", "mqtt://[::1]:9"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, error) in [
            ("", BrokerAddressError::Scheme),
            ("localhost:1883", BrokerAddressError::Scheme),
            ("http://a", BrokerAddressError::Scheme),
            ("mqtt://", BrokerAddressError::Host),
            ("mqtt://a/b", BrokerAddressError::Host),
            ("mqtt://[a]", BrokerAddressError::Host),
            ("mqtt://a:b", BrokerAddressError::Port),
            ("mqtt://a:0", BrokerAddressError::Port),
            ("mqtt://user@a", BrokerAddressError::Credentials),
            ("mqtt://user:@a", BrokerAddressError::Credentials),
            ("mqtt://user:%ff@a", BrokerAddressError::Credentials),
        ] {
            assert_eq!(BrokerAddress::parse(text).err(), Some(error), "{text}");
        }
    }

    #[test]
    fn a_password_shows_in_no_form_of_an_address() {
        let address = BrokerAddress::parse("mqtt://fleet:geheim@a").unwrap();
        assert!(!format!("{address} {address:?}").contains("geheim"));
    }
}
