//! Where messages are stored.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use clap::Args;
#[cfg(feature = "mongodb")]
use rollcall_host::log::mongo;

/// Where redb puts its data when nothing else is said.
const DEFAULT_DIRECTORY: &str = "./rollcall-data";

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

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// The embedded store, in this directory.
    Redb(PathBuf),
    /// MongoDB.
    #[cfg(feature = "mongodb")]
    Mongo(mongo::Address),
}

impl StoreArgs {
    /// The store that was asked for, or the default.
    ///
    /// # Errors
    /// How a store is written.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        Ok(self.given_store()?.unwrap_or_else(|| Store::Redb(DEFAULT_DIRECTORY.into())))
    }

    /// The store that was asked for, if one was.
    ///
    /// # Errors
    /// As [`StoreArgs::store`].
    pub(crate) fn given_store(&self) -> anyhow::Result<Option<Store>> {
        self.store.as_ref().map(|store| parse(store.text())).transpose()
    }
}

fn parse(text: &str) -> anyhow::Result<Store> {
    match text.split_once(':') {
        Some(("redb", directory)) if !directory.is_empty() => Ok(Store::Redb(directory.into())),
        #[cfg(feature = "mongodb")]
        Some(("mongodb" | "mongodb+srv", rest)) if rest.starts_with("//") => {
            Ok(Store::Mongo(mongo::Address::new(text)))
        }
        #[cfg(not(feature = "mongodb"))]
        Some(("mongodb", _)) => bail!("this rollcall was built without MongoDB: use redb:DIRECTORY"),
        _ => bail!(
            "--store is written redb:DIRECTORY, as redb:./rollcall-data, or mongodb://HOST:PORT/DATABASE, as \
                 mongodb://127.0.0.1:27017/rollcall"
        ),
    }
}
