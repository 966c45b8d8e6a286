//! `cargo xtask ci`: what CI runs, so that a developer can run the same.

use std::process::ExitCode;

use anyhow::Result;
use pico_args::Arguments;
use xtask::cargo::{self, Workspace};

use crate::tally::Tally;
use crate::{help, test};

pub(crate) const HELP: &str = "\
Checks everything that CI checks: formatting, clippy and documentation of both workspaces without a warning,
and then every test (cargo xtask test).

  cargo xtask ci

With CI=true in the environment, a test that had to be skipped counts as a failure.
";

const CHECKS: [&[&str]; 3] = [
    &["fmt", "--all", "--check"],
    &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    &["doc", "--workspace", "--no-deps"],
];

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    help::reject_unknown(arguments, HELP)?;
    let mut tally = Tally::default();
    for check in CHECKS {
        for workspace in Workspace::ALL {
            let mut command = workspace.cargo(check);
            command.env("RUSTDOCFLAGS", "--deny warnings");
            tally.check(&format!("{} of the {}", check[0], workspace.name()), cargo::run(command));
        }
    }
    test::everything(tally)
}
