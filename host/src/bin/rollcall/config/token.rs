//! Flags of `rollcall token`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rollcall_host::credentials::{Role, TokenName};

pub(super) const EXAMPLES: &str = "\
Example:
  rollcall token create page --role read --tokens-file ./tokens > page.token
  rollcall serve --http-listen 0.0.0.0:5000 --http-name rollcall.example --tokens-file ./tokens
  curl --header \"Authorization: Bearer $(cat page.token)\" 'http://rollcall.example:5000/status_count?start=…&end=…'

The token is shown this once: the file holds its hash only. It is 0600 when it is made, # begins a comment, and rollcall
reads it again when it changes.";

/// Makes and ends tokens for HTTP.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it once.
    Create(CreateArgs),
    /// End tokens.
    Revoke(RevokeArgs),
    /// Print a line name,role for each token.
    List(TokensFile),
}

/// Where they stand.
#[derive(Debug, Args)]
pub(crate) struct TokensFile {
    /// The tokens file.
    #[arg(long = "tokens-file", env = "ROLLCALL_TOKENS_FILE", value_name = "FILE")]
    pub(crate) path: PathBuf,
}

/// Flags of `rollcall token create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) file: TokensFile,
    /// Whose it is: 1 to 32 of a-z 0-9 - _.
    #[arg(value_name = "NAME")]
    pub(crate) name: TokenName,
    /// What it is good for: read, for all that is asked; admin, for what changes something too (nothing does yet).
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Role,
}

/// Flags of `rollcall token revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) file: TokensFile,
    /// Whose they are.
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<TokenName>,
}
