//! The tokens file: `NAME ROLE HASH`. A token is `NAME.SECRET`, so that one hash is enough to look at, however many
//! there are.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::list::{Entry, List};
use super::live::Kept;
use super::secret::{NoRandomness, SaltedHash, Secret};
use crate::ops::CredentialsFile;

/// The longest name, in bytes.
const NAME_MAX: usize = 32;

/// What a token is good for; each role has what those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To ask.
    Read,
    /// To change.
    Admin,
}

impl Role {
    const ALL: [Self; 2] = [Self::Read, Self::Admin];

    const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let role = Self::ALL.into_iter().find(|role| role.name() == text);
        role.ok_or_else(|| "a role is read or admin".to_owned())
    }
}

/// Whose a token is: 1 to 32 of `a-z 0-9 - _`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenName(String);

impl FromStr for TokenName {
    type Err = InvalidTokenName;

    fn from_str(text: &str) -> Result<Self, InvalidTokenName> {
        let is_good = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let good = (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_good);
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidTokenName) }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that is empty, too long or holds another character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token's name is 1 to {NAME_MAX} characters of a-z, 0-9, - and _")]
pub struct InvalidTokenName;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    name: TokenName,
    role: Role,
    hash: SaltedHash,
}

impl Token {
    /// A token and what its owner is to show.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(name: TokenName, role: Role) -> Result<(Self, String), NoRandomness> {
        let secret = Secret::random()?;
        let shown = format!("{name}.{}", secret.text());
        Ok((Self { name, role, hash: SaltedHash::of(&secret)? }, shown))
    }

    /// What it is good for.
    pub fn role(&self) -> Role {
        self.role
    }
}

impl Entry for Token {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let [name, role, hash] = words else {
            return Err("is not a name, a role and a hash, as rollcall token create writes them".to_owned());
        };
        let name = name.parse().map_err(|error: InvalidTokenName| error.to_string())?;
        let hash = SaltedHash::parse(hash)
            .ok_or("has no hash: base64 of 4 bytes of salt and 32 of SHA-256 of the token's secret")?;
        Ok(Self { name, role: role.parse()?, hash })
    }

    fn name(&self) -> &str {
        &self.name.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.role, self.hash)
    }
}

/// Which token is good for what: what a server keeps of the file.
#[derive(Debug)]
pub struct Tokens(HashMap<String, (Role, SaltedHash)>);

impl Tokens {
    /// What who shows `token` may do; `None` when it is none of ours.
    pub(crate) fn admit(&self, token: &str) -> Option<Role> {
        let (name, secret) = token.split_once('.').unwrap_or(("", token));
        let (role, hash) = match self.0.get(name) {
            Some((role, hash)) => (Some(*role), *hash),
            None => (None, SaltedHash::NOBODY),
        };
        let is_its = hash.is_of(secret.as_bytes());
        role.filter(|_| is_its)
    }
}

impl Kept for Tokens {
    type Entry = Token;
    const FILE: CredentialsFile = CredentialsFile::Tokens;

    fn of(list: &List<Token>) -> Self {
        let entry = |token: &Token| (token.name.0.clone(), (token.role, token.hash));
        Self(list.entries().map(entry).collect())
    }

    fn entries(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_role_and_a_wrong_one_for_nothing() {
        let make = |name: &str, role| Token::new(name.parse().unwrap(), role).unwrap();
        let ((one, shown_one), (other, shown_other)) = (make("page", Role::Read), make("ops", Role::Admin));
        let text = format!("# who may ask\n{one} # the page\n{other}\n");
        let tokens = Tokens::of(&List::read(text.as_bytes()).unwrap());
        assert_eq!(tokens.admit(&shown_one), Some(Role::Read));
        assert_eq!(tokens.admit(&shown_other), Some(Role::Admin));
        let secret = &shown_one["page.".len()..];
        for wrong in [
            "",
            ".",
            "page",
            "page.",
            secret,
            &format!("ops.{secret}"),
            &format!("Page.{secret}"),
            &format!("{shown_one} "),
        ] {
            assert_eq!(tokens.admit(wrong), None, "{wrong}");
        }
        assert!(!text.contains(secret), "the file holds the secret");
    }

    #[test]
    fn a_line_that_makes_no_sense_is_refused_with_its_number() {
        let (token, _) = Token::new("page".parse().unwrap(), Role::Read).unwrap();
        let line = token.to_string();
        assert_eq!(List::<Token>::read(line.as_bytes()).unwrap().get("page"), Some(&token));
        for (line, reason) in [
            ("page".to_owned(), "a name, a role and a hash"),
            (line.replace("read", "write"), "a role is read or admin"),
            (line.replace("page", "Page"), "a token's name is"),
            ("page read secret".to_owned(), "has no hash"),
            (format!("{line} {line}"), "a name, a role and a hash"),
        ] {
            let error = List::<Token>::read(line.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 1: ") && error.contains(reason), "{error}");
            assert!(!error.contains("secret "), "{error}");
        }
    }
}
