//! MongoDB's store alone: what it appends when nothing else is asked of it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::services::Mongod;
use rollcall_harness::workspace;

use super::table::{self, Target};
use super::{MONGODB, usage};

const MESSAGES: u64 = 4_000_000;

/// Builds `host/benches/append.rs`, runs it and looks at what the messages take on disk.
pub(super) fn measure() -> Result<()> {
    let program = cargo::build(Program::AppendBench, Profile::Release)?;
    let dir = workspace::temporary_dir()?;
    let mongod = Mongod::start_with_large_cache(dir.path())?;
    table::heading("MongoDB's store alone, full flushes, every one durable");
    let output = Command::new(program).arg(mongod.url("rollcall")).arg(MESSAGES.to_string()).output()?;
    ensure!(output.status.success(), "append: {}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout);
    let rate: f64 = printed.trim().parse().with_context(|| format!("append printed {printed}"))?;
    table::print("appended messages a second", rate, "", Target::AtLeast(150_000.0));
    // Ending, it writes everything to where it stays.
    mongod.stop()?;
    let disk = usage::disk(&dir.path().join("db"))?;
    let each = disk.allocated as f64 / MESSAGES as f64;
    table::print("on disk a message, allocated", each, "bytes", MONGODB.bytes_a_message);
    Ok(())
}
