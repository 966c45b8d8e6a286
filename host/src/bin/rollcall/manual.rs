//! `rollcall completions` and `rollcall man`: the description of the command line, for shells and for man.

use std::fs;
use std::io::{Write as _, stdout};

use anyhow::Context;
use clap::CommandFactory;

use crate::config::{Cli, CompletionsArgs, ManArgs};

/// Prints what a shell needs.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rollcall", &mut script);
    stdout().write_all(&script).context("cannot write to standard output")
}

/// Writes the pages.
///
/// # Errors
/// When the folder cannot be made or written.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let context = || args.dir.display().to_string();
    fs::create_dir_all(&args.dir).with_context(context)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).with_context(context)
}
