//! Calling cargo: which program is in which workspace, and where cargo put what it built.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{tools, workspace};

/// The two workspaces: firmware's targets and features must not mix with the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workspace {
    /// Wire, provision, device, host, harness and xtask.
    Root,
    /// One board a member.
    Boards,
}

impl Workspace {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Root, Self::Boards];

    /// How messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root workspace",
            Self::Boards => "boards' workspace",
        }
    }

    fn dir(self) -> PathBuf {
        match self {
            Self::Root => workspace::root().to_owned(),
            Self::Boards => workspace::boards(),
        }
    }

    /// Cargo's arguments for every package that runs on this machine. A firmware crate builds for its own
    /// target only.
    pub fn hosted_packages(self) -> &'static [&'static str] {
        match self {
            Self::Root => &["--workspace"],
            // Its default members.
            Self::Boards => &[],
        }
    }

    /// A cargo command that runs in this workspace.
    pub fn cargo(self, arguments: &[&str]) -> Command {
        cargo_in(&self.dir(), arguments)
    }
}

fn cargo_in(dir: &Path, arguments: &[&str]) -> Command {
    // Set by cargo for what it runs: the very cargo that built xtask.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(dir).args(arguments);
    // What cargo said of the package whose test this is. Some build scripts look at their own, and would run again, and
    // all that depends on them be built again, here and after the tests.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    command
}

/// A cargo command about firmware, in the boards' workspace. The folders of this machine have no place in an image:
/// they are nobody's business there, and its size would depend on their names. So a file's name begins at the
/// repository, or at cargo's registry, as if that were the root.
pub fn firmware(arguments: &[&str]) -> Command {
    let mut command = Workspace::Boards.cargo(arguments);
    let folders = [Some(workspace::root().to_owned()), registry()];
    let flags = folders.iter().flatten().map(|folder| format!("--remap-path-prefix={}=/", folder.display()));
    let flags = Value::from_iter(flags);
    // Beside those in the boards' own .cargo/config.toml. JSON's arrays of strings are TOML's too.
    command.args(["--config", &format!("target.'cfg(target_os = \"none\")'.rustflags = {flags}")]);
    command
}

/// Where cargo unpacks what it fetches.
fn registry() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("registry/src"))
}

/// What Rollcall is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `rollcall` with every store.
    Host,
    /// `rollcall` without MongoDB's client, which is most of the compile time: for all that needs redb only.
    LeanHost,
    /// `rollcall` with every store and the C library in it: one file that runs on any Linux.
    StaticHost,
    /// `rollcall-device-linux`.
    LinuxBoard,
    /// `xtask` itself, for when it has to be quick, and to speak TLS.
    Xtask,
    /// The benchmark of MongoDB's part of the host alone.
    AppendBench,
}

impl Program {
    fn workspace(self) -> Workspace {
        match self {
            Self::Host | Self::LeanHost | Self::StaticHost | Self::Xtask | Self::AppendBench => {
                Workspace::Root
            }
            Self::LinuxBoard => Workspace::Boards,
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Host | Self::LeanHost | Self::StaticHost | Self::AppendBench => "rollcall-host",
            Self::Xtask => "xtask",
            Self::LinuxBoard => "rollcall-device-linux",
        }
    }

    /// Cargo's flag for the kind of target that it is.
    fn kind(self) -> &'static str {
        if self == Self::AppendBench { "--bench" } else { "--bin" }
    }

    fn binary(self) -> &'static str {
        match self {
            Self::Host | Self::LeanHost | Self::StaticHost => "rollcall",
            Self::Xtask => "xtask",
            Self::AppendBench => "append",
            Self::LinuxBoard => "rollcall-device-linux",
        }
    }
}

/// Quick to build, or quick to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For the demo and the tests.
    Dev,
    /// For measuring.
    Release,
}

/// Builds a program, with cargo's progress on stderr, and says where it is.
///
/// # Errors
/// When it does not build.
pub fn build(program: Program, profile: Profile) -> Result<PathBuf> {
    build_by(program.workspace().cargo(&["build"]), program, profile)
}

/// As [`build`], of another state of the repository, in `dir`.
///
/// # Errors
/// As [`build`].
pub fn build_at(dir: &Path, program: Program, profile: Profile) -> Result<PathBuf> {
    let mut command = cargo_in(dir, &["build"]);
    // Not into a folder that all share, where one program would take the other's place.
    command.env("CARGO_TARGET_DIR", dir.join("target"));
    build_by(command, program, profile)
}

fn build_by(mut command: Command, program: Program, profile: Profile) -> Result<PathBuf> {
    let (package, binary) = (program.package(), program.binary());
    command.args(["--package", package, program.kind(), binary]);
    command.arg("--message-format=json-render-diagnostics");
    if program == Program::LeanHost {
        command.arg("--no-default-features");
    }
    if program == Program::StaticHost {
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        add_target(&target)?;
        // The little C that is in it needs nothing of a C library, so that the machine's own compiler does.
        let compiler = format!("CC_{}", target.replace('-', "_"));
        command.env(compiler, "cc").args(["--target", &target]);
    }
    if program == Program::Xtask {
        command.args(["--features", "tls"]);
    }
    if profile == Profile::Release {
        command.arg("--release");
    }
    executable(command, binary)
}

/// Runs a `cargo build … --message-format=json-render-diagnostics` and says where it put `binary`.
pub(crate) fn executable(mut command: Command, binary: &str) -> Result<PathBuf> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let mut executable = None;
    for line in BufReader::new(stdout).lines() {
        let message: Value =
            serde_json::from_str(&line?).context("cargo wrote something that is not JSON")?;
        if message["target"]["name"] == binary {
            executable = message["executable"].as_str().map(PathBuf::from).or(executable);
        }
    }
    ensure!(child.wait()?.success(), "{binary} does not build");
    executable.with_context(|| format!("cargo did not say where it put {binary}"))
}

/// Runs a command with its output shown; its failure is an error.
///
/// # Errors
/// When it cannot be started or does not end with 0.
pub fn run(mut command: Command) -> Result<()> {
    let shown = show(&command);
    eprintln!("\n$ {shown}");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Sees to it that cargo can build for `target`.
///
/// # Errors
/// When rustup is not there, or cannot fetch the target.
pub fn add_target(target: &str) -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.args(["--quiet", "target", "add", target]).current_dir(workspace::root());
    tools::succeed(&mut rustup)
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy();
    command.get_args().fold(program.into_owned(), |line, argument| line + " " + &argument.to_string_lossy())
}
