//! Where things are: the repository, and the folders under `target/` that may be filled.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The repository's root.
pub fn root() -> &'static Path {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.ancestors().nth(2).expect("the harness is two folders below the root")
}

/// The boards' own workspace.
pub fn boards() -> PathBuf {
    root().join("device/boards")
}

/// A folder under `target/xtask/` that stays, made when it is not there.
///
/// # Errors
/// When it cannot be made.
pub fn kept_dir(name: &str) -> Result<PathBuf> {
    let dir = root().join("target/xtask").join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// An empty folder that is removed when the value is dropped.
///
/// It is under `target/` and not in the system's temporary folder, which may be in memory: an fsync must
/// cost what it costs.
///
/// # Errors
/// When it cannot be made.
pub fn temporary_dir() -> Result<TempDir> {
    TempDir::new_in(kept_dir("tmp")?).context("cannot make a temporary folder under target/xtask/tmp")
}
