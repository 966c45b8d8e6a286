//! Passwords that stand in no command line, where every user of the machine can read them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};

/// The password of `what`, out of the first line of a file or of an environment variable.
///
/// # Errors
/// Both are given, the file cannot be read, or there is nothing in it.
pub(super) fn password(what: &str, file: Option<&Path>, variable: &str) -> anyhow::Result<Option<String>> {
    let password = match (file, std::env::var(variable).ok()) {
        (Some(_), Some(_)) => bail!("give --{what}-password-file or {variable}, not both"),
        (Some(file), None) => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read the {what} password from {}", file.display()))?;
            warn_of_readers(&format!("file of the {what} password"), file);
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        (None, password) => password,
    };
    if password.as_deref() == Some("") {
        bail!("the {what} password is empty");
    }
    Ok(password)
}

/// Says so when others than its owner may read or write the file.
pub(super) fn warn_of_readers(what: &str, file: &Path) {
    // A file that was read a moment ago; without its mode there is nothing to say.
    let Ok(about) = fs::metadata(file) else { return };
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let file = file.display();
        tracing::warn!("the {what} is open to others than its owner (mode {mode:03o}): chmod go= {file}");
    }
}
