//! Where messages are stored.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use clap::Args;
use rollcall_host::log::{StoreAddress, StoreAddressError};

/// The store when nothing else is said.
const DEFAULT: &str = "redb:./rollcall-data";

/// Flags of the store.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Where messages are stored: redb:DIRECTORY, or mongodb://[USER:PASSWORD@]HOST[:PORT]/DATABASE
    /// [default: redb:./rollcall-data].
    #[arg(long, env = "ROLLCALL_STORE", value_name = "STORE", hide_env_values = true)]
    store: Option<Secret>,
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
    /// How a store is written.
    pub(crate) fn store(&self) -> Result<StoreAddress, StoreAddressError> {
        self.given_store().unwrap_or_else(|| StoreAddress::parse(DEFAULT))
    }

    /// The store that was asked for, if one was.
    ///
    /// # Errors
    /// As [`StoreArgs::store`].
    pub(crate) fn given_store(&self) -> Option<Result<StoreAddress, StoreAddressError>> {
        self.store.as_ref().map(|store| StoreAddress::parse(store.text()))
    }
}
