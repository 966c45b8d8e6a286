//! `rollcall token`: makes and ends tokens for HTTP.

use anyhow::Context;
use rollcall_host::credentials::{Edit, Entry, List, Token};

use crate::config::{TokenArgs, TokenCommand};
use crate::output::Output;

/// Does it.
///
/// # Errors
/// What is wrong with the file or the name; then nothing in the file has changed.
pub(crate) fn token(args: TokenArgs) -> anyhow::Result<()> {
    let mut output = Output::default();
    match args.command {
        TokenCommand::Create(args) => {
            let mut edit = Edit::open(&args.file.path)?;
            let (token, shown) = Token::new(args.name, args.role)?;
            let added = edit.list.add(token);
            added.with_context(|| format!("{}: revoke it first", edit.path().display()))?;
            // It is let in once it is printed, so that none is lost.
            let written = edit.write()?;
            output.line(shown);
            output.end()?;
            written.put_in_place().context("the token that was printed is not valid")
        }
        TokenCommand::Revoke(args) => {
            let mut edit = Edit::<Token>::open(&args.file.path)?;
            for name in &args.names {
                let removed = edit.list.remove(&name.to_string()).then_some(());
                removed.with_context(|| format!("{name} is not in {}", edit.path().display()))?;
            }
            Ok(edit.write()?.put_in_place()?)
        }
        TokenCommand::List(file) => {
            for token in List::<Token>::open(&file.path)?.entries() {
                output.line(format_args!("{},{}", token.name(), token.role()));
            }
            Ok(output.end()?)
        }
    }
}
