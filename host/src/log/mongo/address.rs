//! Where a MongoDB is and who we are to it. What it shows of itself has no password.

use std::fmt;

use percent_encoding::NON_ALPHANUMERIC;

/// Why an address cannot take a password. It quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Whose password would it be?
    #[error("the MongoDB address has no user for the password: write mongodb://USER@HOST/…")]
    NoUser,
    /// Which of the two?
    #[error("give MongoDB's password in its address or in a file, not both")]
    Twice,
}

/// A MongoDB address, as `mongodb://user:password@host:27017/database`. Its password shows nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct MongoAddress(String);

impl MongoAddress {
    /// Takes a connection string as it is; [`MongoStore::open`](super::MongoStore::open) reads it.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The same address with the password of its user, of whatever signs it is made.
    ///
    /// # Errors
    /// [`PasswordError`] when there is no user, or it has a password.
    pub fn with_password(&self, password: &str) -> Result<Self, PasswordError> {
        let (place, options) = self.0.split_at(self.0.find('?').unwrap_or(self.0.len()));
        let (user, hosts) = place.rsplit_once('@').ok_or(PasswordError::NoUser)?;
        let name = user.split_once("://").map_or(user, |(_, name)| name);
        match name {
            "" => Err(PasswordError::NoUser),
            name if name.contains(':') => Err(PasswordError::Twice),
            _ => {
                let password = percent_encoding::utf8_percent_encode(password, NON_ALPHANUMERIC);
                Ok(Self(format!("{user}:{password}@{hosts}{options}")))
            }
        }
    }

    /// The connection string, password and all.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// `…/DATABASE.COLLECTION` as the database's address and the collection's name.
    pub(super) fn split_collection(&self) -> Option<(Self, String)> {
        let (place, options) = match self.0.split_once('?') {
            Some((place, options)) => (place, format!("?{options}")),
            None => (self.0.as_str(), String::new()),
        };
        let (place, names) = place.rsplit_once('/')?;
        let (database, collection) = names.split_once('.')?;
        if database.is_empty() || collection.is_empty() {
            return None;
        }
        Some((Self(format!("{place}/{database}{options}")), collection.to_owned()))
    }

    /// The address without user and password.
    fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return "a MongoDB address".to_owned() };
        // A password may hold a slash or an at sign that should have been escaped; options may hold secrets.
        let rest = rest.rsplit_once('@').map_or(rest, |(_, after)| after);
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        format!("{scheme}://{rest}")
    }
}

impl fmt::Debug for MongoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Display for MongoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_driver_finds_the_password_as_it_was_whatever_its_signs() {
        let password = "p@:/?#[]&=% ü\\\"";
        for address in
            ["mongodb://me@a,b:1/rollcall?replicaSet=r", "mongodb://me@a", "mongodb://me@a/?tls=true"]
        {
            let address = MongoAddress::new(address).with_password(password).unwrap();
            let options = mongodb::options::ClientOptions::parse(address.text()).await.unwrap();
            let credential = options.credential.unwrap();
            assert_eq!(credential.username.as_deref(), Some("me"));
            assert_eq!(credential.password.as_deref(), Some(password));
            assert!(!address.to_string().contains("p%40"), "{address}");
        }
    }
}
