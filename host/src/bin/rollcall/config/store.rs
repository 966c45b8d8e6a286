//! Where messages are stored.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use rollcall_host::log::StoreAddress;

use super::password::password;

/// The store when nothing else is said.
const DEFAULT: &str = "redb:./rollcall-data";

/// Flags of the store.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Where messages are stored: redb:DIRECTORY, or mongodb://[USER:PASSWORD@]HOST[:PORT]/DATABASE
    /// [default: redb:./rollcall-data].
    #[arg(long, env = "ROLLCALL_STORE", value_name = "STORE", hide_env_values = true)]
    store: Option<Secret>,
    /// A file whose first line is the password of the user in mongodb://USER@HOST/DATABASE. It can also be given
    /// in the environment, as ROLLCALL_STORE_PASSWORD.
    #[arg(long, env = "ROLLCALL_STORE_PASSWORD_FILE", value_name = "FILE", requires = "store")]
    store_password_file: Option<PathBuf>,
}

/// A value that may hold a password, so that neither clap nor a debug output may show it.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// Takes anything: an error here would quote it.
impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl StoreArgs {
    /// The store that was asked for, or the default.
    ///
    /// # Errors
    /// How a store and its password are given.
    pub(crate) fn store(&self) -> anyhow::Result<StoreAddress> {
        self.address(self.store.as_ref().map_or(DEFAULT, Secret::text))
    }

    /// The store that was asked for, if one was.
    ///
    /// # Errors
    /// As [`StoreArgs::store`].
    pub(crate) fn given_store(&self) -> anyhow::Result<Option<StoreAddress>> {
        self.store.as_ref().map(|store| self.address(store.text())).transpose()
    }

    fn address(&self, text: &str) -> anyhow::Result<StoreAddress> {
        let address = StoreAddress::parse(text)?;
        Ok(match password("store", self.store_password_file.as_deref(), "ROLLCALL_STORE_PASSWORD")? {
            Some(password) => address.with_password(&password)?,
            None => address,
        })
    }
}
