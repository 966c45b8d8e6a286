//! probe-rs, which speaks to a board's debug port: whether it and a probe are there, and what to do if not.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rollcall_harness::cargo;
use rollcall_harness::hardware_board::HardwareBoard;

const TOOL: &str = "probe-rs";

/// What `probe-rs list` says without a probe (probe-rs-tools 0.32, cmd/list.rs).
const NO_PROBE: &str = "No debug probes were found";

/// A board at a probe that is there.
pub(crate) struct DebugProbe<'a> {
    board: &'a HardwareBoard,
}

impl<'a> DebugProbe<'a> {
    /// Finds tool and probe.
    ///
    /// # Errors
    /// When either is missing: with what to install or connect.
    pub(crate) fn find(board: &'a HardwareBoard) -> Result<Self> {
        let listed = match Command::new(TOOL).arg("list").output() {
            Ok(listed) => listed,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{TOOL} is not on this machine. Install it with\n    \
                 cargo install probe-rs-tools --locked\n\
                 On Debian and Ubuntu this needs: sudo apt install build-essential cmake pkg-config libudev-dev\n\
                 Then connect {}.",
                board.connect
            ),
            Err(error) => return Err(error).context(format!("cannot start {TOOL}")),
        };
        let said = String::from_utf8_lossy(&[listed.stdout, listed.stderr].concat()).into_owned();
        ensure!(listed.status.success(), "{TOOL} list failed: {}", said.trim());
        ensure!(
            !said.contains(NO_PROBE),
            "{TOOL} finds no debug probe. Connect {}.\n\
             Where it is connected and still not found, Linux may not let you use it: see probe-rs's page on \
             udev rules.",
            board.connect
        );
        Ok(Self { board })
    }

    /// Runs `probe-rs COMMAND --chip CHIP ARGUMENTS…`.
    ///
    /// # Errors
    /// When it fails; it has said why.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, command: &str, arguments: &[A]) -> Result<()> {
        let mut tool = Command::new(TOOL);
        tool.args([command, "--chip", &self.board.chip]).args(arguments);
        cargo::run(tool)
    }
}
