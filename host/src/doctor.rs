//! `rollcall doctor`: looks at a live broker and store, and says what to mend.

use std::process::ExitCode;

use anyhow::bail;
use rollcall_host::checkup::{Check, Outcome};
use rollcall_host::log::RedbStore;
#[cfg(feature = "mongodb")]
use rollcall_host::log::mongo;
use rollcall_host::source::broker;

use crate::config::{Doctor, Store};

/// Prints one line a check; fails when one of them does.
///
/// # Errors
/// When the command line makes no sense; what ails the services is in the lines.
pub(crate) async fn doctor(config: Doctor) -> anyhow::Result<ExitCode> {
    let broker = config.broker.settings()?;
    let store = config.store.given_store()?;
    if broker.is_none() && store.is_none() {
        bail!("name what to look at: --broker mqtt://…, --store mongodb://… or both");
    }
    let mut checks = Vec::new();
    if let Some(settings) = broker {
        checks.extend(show(broker::checks(&settings).await?));
    }
    if let Some(store) = store {
        checks.extend(show(look_at(&store).await));
    }
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    let (warned, failed) = (count(Outcome::Warn), count(Outcome::Fail));
    println!("{} checks: {warned} to look at, {failed} failed", checks.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(checks: Vec<Check>) -> Vec<Check> {
    for check in &checks {
        println!("{check}");
    }
    checks
}

async fn look_at(store: &Store) -> Vec<Check> {
    match store {
        Store::Redb(directory) if !directory.exists() => {
            vec![Check::pass("redb", format!("{} is made at the first start", directory.display()))]
        }
        Store::Redb(directory) => vec![match RedbStore::open(directory) {
            Ok(_) => Check::pass("redb", format!("{} is readable, and nobody uses it", directory.display())),
            Err(error) => Check::fail("redb", error.to_string(), "see README.md"),
        }],
        #[cfg(feature = "mongodb")]
        Store::Mongo(address) => mongo::checks(address).await,
    }
}
