//! Flags of `rollcall import`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use rollcall_host::log::mongo::MongoAddress;
use rollcall_wire::DeviceId;

use super::password::password;
use super::store::{Secret, StoreArgs};

pub(super) const EXAMPLE: &str = "\
Example:
  rollcall import --from mongodb://127.0.0.1:27017/demo.messages --store mongodb://127.0.0.1:27017/rollcall

Documents like {\"_id\": …, \"status\": 3, \"timestamp\": 1721433676} (Unix seconds, or a date). Run it again as
often as you like: a document is counted once, by its _id. Run one import at a time. With redb, stop `rollcall
serve` first; with MongoDB it may go on. A document without a usable status or time is refused, with the reason; the
exit status is then 1, and the others are imported.";

/// Flags of `rollcall import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What to read: mongodb://[USER:PASSWORD@]HOST[:PORT]/DATABASE.COLLECTION. Nothing there is changed.
    #[arg(long, env = "ROLLCALL_IMPORT_FROM", value_name = "URL", hide_env_values = true)]
    from: Secret,
    /// A file whose first line is the password of the user in --from mongodb://USER@…. It can also be given in the
    /// environment, as ROLLCALL_IMPORT_FROM_PASSWORD.
    #[arg(long, env = "ROLLCALL_IMPORT_FROM_PASSWORD_FILE", value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The device that the messages are counted for.
    #[arg(long, default_value = "imported", value_name = "DEVICE")]
    pub(crate) device: DeviceId,
    /// The field with the status, 0 to 6.
    #[arg(long, default_value = "status", value_name = "FIELD")]
    pub(crate) status_field: String,
    /// The field with the time.
    #[arg(long, default_value = "timestamp", value_name = "FIELD")]
    pub(crate) timestamp_field: String,
}

impl ImportArgs {
    /// What to read.
    ///
    /// # Errors
    /// A password that is given twice, cannot be read, or is no user's.
    pub(crate) fn from(&self) -> Result<MongoAddress> {
        let address = MongoAddress::new(self.from.text());
        let file = self.from_password_file.as_deref();
        Ok(match password("from", file, "ROLLCALL_IMPORT_FROM_PASSWORD")? {
            Some(password) => address.with_password(&password)?,
            None => address,
        })
    }
}
