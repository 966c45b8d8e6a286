//! Tests that this machine cannot run: they say so by name, and `cargo xtask test` reports it.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result, bail};

/// The environment variable with the file that collects the skips.
pub const FILE: &str = "ROLLCALL_SKIPPED_FILE";

/// Whether a skip is a failure: where CI runs, everything must be there.
pub fn is_failure() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Reports that `test` cannot run and why; the test then returns.
///
/// # Errors
/// With CI=true, and when the report cannot be written.
pub fn report(test: &str, reason: &str) -> Result<()> {
    if is_failure() {
        bail!("{test} cannot run, and with CI=true that is a failure: {reason}");
    }
    println!("skipped: {test}: {reason}");
    if let Some(path) = std::env::var_os(FILE) {
        let mut file = File::options().append(true).open(path).context("cannot open the list of skips")?;
        writeln!(file, "{test}: {}", reason.replace('\n', " "))?;
    }
    Ok(())
}
