//! `rollcall doctor`: looks at a live broker and at a store, and says what to do.

use std::process::ExitCode;

use anyhow::bail;
use rollcall_host::intake::{rebuild, recount};
use rollcall_host::ops::check::{Check, Outcome, Report};
use rollcall_host::source::broker;
use rollcall_host::tls;
use tokio::sync::mpsc;

use crate::config::DoctorArgs;
use crate::output::Output;

/// How many findings may wait to be printed.
const REPORTS_WAITING: usize = 16;

/// Repairs the store if that is asked for, and prints one line a check; fails when one of them does. It goes on to the
/// end when nobody reads the lines any more: what it made at a broker is removed.
///
/// # Errors
/// When the command line makes no sense, or the store cannot be repaired; what is wrong with the services is in the
/// lines.
pub(crate) async fn doctor(config: DoctorArgs) -> anyhow::Result<ExitCode> {
    let broker = config.broker.settings()?;
    let store = config.store.given_store()?;
    let certificate = config.certificate.files();
    if broker.is_none() && store.is_none() && certificate.is_none() {
        bail!(
            "name what to look at: --broker mqtt://…, --store redb:DIRECTORY or mongodb://…, --tls-cert FILE, or several"
        );
    }
    let (mut output, mut outcomes) = (Output::default(), Vec::new());
    if config.repair
        && let Some(store) = &store
    {
        rebuild(store.open_to_repair().await?).await?;
        output.line("windows and rows were made anew from the log");
    }
    let mut report = |check: Check| {
        output.line(&check);
        outcomes.push(check.outcome);
    };
    if let Some((certificate, key)) = certificate {
        report(tls::check(certificate, key));
    }
    if let Some(settings) = broker {
        broker::checks(&settings, &mut report).await?;
    }
    if let Some(store) = store {
        let (sender, mut reports) = mpsc::channel(REPORTS_WAITING);
        let told = async {
            while let Some(said) = reports.recv().await {
                match said {
                    Report::Progress(text) => tracing::info!("{text}"),
                    Report::Check(check) => report(check),
                }
            }
        };
        tokio::join!(store.checks(recount, sender), told);
    }
    let count = |outcome| outcomes.iter().filter(|of| **of == outcome).count();
    let (warned, failed) = (count(Outcome::Warn), count(Outcome::Fail));
    output.line(format_args!("{} checks: {warned} to look at, {failed} failed", outcomes.len()));
    output.end()?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
