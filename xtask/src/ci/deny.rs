//! What Rollcall is made of: licences, banned and doubled crates, and where they come from, for all three workspaces.

use anyhow::Result;
use rollcall_harness::{cargo, tools, workspace};

use crate::tally::TestTally;

/// Each has a lock file of its own.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "device/boards/Cargo.toml", "host/fuzz/Cargo.toml"];

/// The rules are for all of them, and no workspace has everything that they name.
const NOT_HERE: [&str; 6] = [
    "--allow",
    "unmatched-skip",
    "--allow",
    "unnecessary-skip",
    "--allow",
    "license-exception-not-encountered",
];

/// Asks cargo-deny by `.cargo/deny.toml`, if it can be had.
pub(super) fn check(tally: &mut TestTally) {
    for manifest in MANIFESTS {
        let name = format!("licences, bans and sources of {manifest}");
        match tools::cargo_deny() {
            Ok(deny) => tally.check(&name, check_one(&deny, manifest)),
            Err(error) => tally
                .skipped
                .push(format!("{name}: no cargo-deny (cargo install cargo-deny --locked has it): {error:#}")),
        }
    }
}

fn check_one(deny: &tools::Tool, manifest: &str) -> Result<()> {
    let root = workspace::root();
    let mut command = deny.command();
    command.arg("--locked").arg("--manifest-path").arg(root.join(manifest));
    command.arg("--config").arg(root.join(".cargo/deny.toml"));
    command.args(["check", "--hide-inclusion-graph"]).args(NOT_HERE).args(["licenses", "bans", "sources"]);
    cargo::run(command)
}
