//! Flags of `rollcall completions` and `rollcall man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  rollcall completions bash > ~/.local/share/bash-completion/completions/rollcall
  rollcall completions zsh > ~/.zfunc/_rollcall
  rollcall completions fish > ~/.config/fish/completions/rollcall.fish";

pub(super) const MAN_EXAMPLE: &str = "\
Example:
  rollcall man --dir ~/.local/share/man/man1 && man rollcall-serve";

/// Flags of `rollcall completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell's.
    pub(crate) shell: Shell,
}

/// Flags of `rollcall man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write them: a page for the program and one for each of its commands.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}
