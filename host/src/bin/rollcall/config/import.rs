//! Flags of `rollcall import`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
#[cfg(feature = "mongodb")]
use rollcall_host::log::mongo::{Fields, MongoAddress};
use rollcall_wire::DeviceId;

use super::password::password;
use super::store::{Secret, StoreArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  curl 'http://127.0.0.1:5000/v1/messages?start=2026-11-23T00:00:00Z&end=2026-11-24T00:00:00Z' > day.ndjson
  rollcall import --from day.ndjson --store redb:/var/lib/other
      what /v1/messages told, as NDJSON or CSV; - is standard input
  rollcall import --from mongodb://127.0.0.1:27017/demo.messages --store mongodb://127.0.0.1:27017/rollcall
      documents like {\"_id\": …, \"status\": 3, \"timestamp\": 1721433676} (Unix seconds, or a date)

Run it again as often as you like: each is counted once, by its device, boot and seq, a document by its _id, and a message
without a number by all that its line says. With redb, stop `rollcall serve` first; with MongoDB it may go on. What is no
message is refused, with the reason; the exit status is then 1, and the others are imported.";

/// Flags of `rollcall import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What to read: a file, or mongodb://[USER:PASSWORD@]HOST[:PORT]/DATABASE.COLLECTION. Nothing there is changed.
    #[arg(long, env = "ROLLCALL_IMPORT_FROM", value_name = "FILE|URL", hide_env_values = true)]
    from: Secret,
    /// A file whose first line is the password of the user in --from mongodb://USER@…. It can also be given in the
    /// environment, as ROLLCALL_IMPORT_FROM_PASSWORD.
    #[arg(long, env = "ROLLCALL_IMPORT_FROM_PASSWORD_FILE", value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The device that documents are counted for.
    #[arg(long, default_value = "imported", value_name = "DEVICE")]
    pub(crate) device: DeviceId,
    /// The documents' field with the status, 0 to 6.
    #[arg(long, default_value = "status", value_name = "FIELD")]
    pub(crate) status_field: String,
    /// The documents' field with the time.
    #[arg(long, default_value = "timestamp", value_name = "FIELD")]
    pub(crate) timestamp_field: String,
}

/// What to read.
pub(crate) enum From {
    /// A file, or `-`.
    File(String),
    /// A collection.
    #[cfg(feature = "mongodb")]
    Mongo(MongoAddress),
}

impl ImportArgs {
    /// What to read.
    ///
    /// # Errors
    /// A password that is given twice, cannot be read, or is no user's.
    pub(crate) fn from(&self) -> Result<From> {
        let from = self.from.text();
        let file = self.from_password_file.as_deref();
        let password = password("from", file, "ROLLCALL_IMPORT_FROM_PASSWORD")?;
        if !from.starts_with("mongodb:") && !from.starts_with("mongodb+srv:") {
            ensure!(password.is_none(), "--from-password-file is for --from mongodb://…, not for a file");
            return Ok(From::File(from.to_owned()));
        }
        #[cfg(not(feature = "mongodb"))]
        anyhow::bail!("this rollcall was built without MongoDB: --from can be a file");
        #[cfg(feature = "mongodb")]
        {
            let address = MongoAddress::new(from);
            Ok(From::Mongo(match password {
                Some(password) => address.with_password(&password)?,
                None => address,
            }))
        }
    }

    /// What the documents' fields are called.
    #[cfg(feature = "mongodb")]
    pub(crate) fn fields(&self) -> Fields {
        Fields { status: self.status_field.clone(), timestamp: self.timestamp_field.clone() }
    }
}
