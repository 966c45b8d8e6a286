//! `rollcall tls`: makes certificates for this host.

use rollcall_host::tls::{Issued, issue};

use crate::config::{TlsArgs, TlsCommand};
use crate::output::Output;

/// Does it.
///
/// # Errors
/// What kept it from being made; what was there is as it was.
pub(crate) fn tls(args: TlsArgs) -> anyhow::Result<()> {
    let TlsCommand::Init(args) = args.command;
    let Issued { server: [certificate, key], authority, authority_kept, key_kept, pin, expires } =
        issue(&args.dir, &args.names)?;
    let kept = |kept| if kept { " (kept)" } else { "" };
    let mut output = Output::default();
    output.line(format_args!("--tls-cert {}", certificate.display()));
    output.line(format_args!("--tls-key {}{}", key.display(), kept(key_kept)));
    output.line(format_args!("authority {}{}", authority.display(), kept(authority_kept)));
    output.line(format_args!("valid to {}", expires.date()));
    output.line(format_args!("pin {pin}"));
    Ok(output.end()?)
}
