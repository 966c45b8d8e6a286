//! `cargo xtask package`: the host as a Debian package, or as one file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::workspace;

use crate::help;

pub(crate) const HELP: &str = "\
Makes a Debian package of the host under target/package/ and says where it is: the program with every store, a unit for
systemd, the pages for man, what bash, zsh and fish complete, a dashboard for Grafana and alert rules for Prometheus.

  cargo xtask package [--static] [--debug]

  --static  no package but the program alone, target/package/rollcall, with the C library in it: it runs on any Linux, and
            is all that host/packaging/Dockerfile needs
  --debug   with a build that is quick to make, and slow: to try the package

It is built for this machine: another one needs a C library that is as new. Needs dpkg-deb. After
`apt install ./rollcall_….deb` the service runs, listens on this machine alone and stores in /var/lib/rollcall;
/etc/rollcall/rollcall.env has what can be changed.
";

/// A file of the repository, where it goes, and who may read, write and run it.
const FILES: [(&str, &str, u32); 7] = [
    ("host/packaging/rollcall.service", "usr/lib/systemd/system/rollcall.service", 0o644),
    ("host/packaging/rollcall.sysusers", "usr/lib/sysusers.d/rollcall.conf", 0o644),
    ("host/packaging/rollcall.env", "etc/rollcall/rollcall.env", 0o640),
    ("host/packaging/alerts.yml", "usr/share/rollcall/alerts.yml", 0o644),
    ("host/packaging/dashboard.json", "usr/share/rollcall/dashboard.json", 0o644),
    ("docs/operations.md", "usr/share/doc/rollcall/operations.md", 0o644),
    ("LICENSE", "usr/share/doc/rollcall/copyright", 0o644),
];

/// What runs when it is installed and removed.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let profile = if arguments.contains("--debug") { Profile::Dev } else { Profile::Release };
    let is_static = arguments.contains("--static");
    help::reject_unknown(arguments, HELP)?;
    let folder = workspace::root().join("target/package");
    fs::create_dir_all(&folder)?;
    let made = if is_static { program_alone(profile, &folder)? } else { debian_package(profile, &folder)? };
    println!("{}", made.display());
    Ok(ExitCode::SUCCESS)
}

fn program_alone(profile: Profile, folder: &Path) -> Result<PathBuf> {
    let made = folder.join("rollcall");
    fs::copy(cargo::build(Program::StaticHost, profile)?, &made)?;
    // What an image has as its volume.
    fs::create_dir_all(folder.join("data"))?;
    Ok(made)
}

fn debian_package(profile: Profile, folder: &Path) -> Result<PathBuf> {
    let program = cargo::build(Program::Host, profile)?;
    let root = workspace::temporary_dir()?;
    fill(root.path(), &program)?;
    let version = version(&program)?;
    let (architecture, libc) =
        (said("dpkg", &["--print-architecture"])?, said("getconf", &["GNU_LIBC_VERSION"])?);
    let libc = libc.split_whitespace().last().context("getconf says nothing of the C library")?.to_owned();
    control(root.path(), &version, &architecture, &libc)?;
    let package = folder.join(format!("rollcall_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build.args(["--build", "--root-owner-group"]).arg(root.path()).arg(&package);
    ensure!(build.status().context("dpkg-deb is needed")?.success(), "dpkg-deb failed");
    Ok(package)
}

/// Everything that is installed.
fn fill(root: &Path, program: &Path) -> Result<()> {
    // A temporary folder is its owner's alone, and this one becomes the other machine's root.
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    put(root, "usr/bin/rollcall", 0o755, &fs::read(program)?)?;
    for (from, to, mode) in FILES {
        put(root, to, mode, &fs::read(workspace::root().join(from)).context(from)?)?;
    }
    let completions = [
        ("bash", "usr/share/bash-completion/completions/rollcall"),
        ("zsh", "usr/share/zsh/vendor-completions/_rollcall"),
        ("fish", "usr/share/fish/vendor_completions.d/rollcall.fish"),
    ];
    for (shell, to) in completions {
        let output = Command::new(program).args(["completions", shell]).output()?;
        ensure!(output.status.success(), "rollcall completions {shell} failed");
        put(root, to, 0o644, &output.stdout)?;
    }
    let pages = root.join("usr/share/man/man1");
    ensure!(
        Command::new(program).args(["man", "--dir"]).arg(&pages).status()?.success(),
        "rollcall man failed"
    );
    let mut compress = Command::new("gzip");
    for page in fs::read_dir(&pages)? {
        compress.arg(page?.path());
    }
    ensure!(compress.args(["--best", "--no-name"]).status()?.success(), "gzip failed");
    Ok(())
}

fn put(root: &Path, to: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let path = root.join(to);
    fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    fs::write(&path, bytes).context(to.to_owned())?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

fn control(root: &Path, version: &str, architecture: &str, libc: &str) -> Result<()> {
    let text = format!(
        "Package: rollcall\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Rollcall\n\
         Depends: libc6 (>= {libc}), libgcc-s1, systemd | systemd-standalone-sysusers\nSection: net\nPriority: optional\n\
         Description: counts the statuses of a fleet of devices, each answer exactly once\n \
         Devices publish a status once a second over MQTT; the host stores every message and tells over HTTP how\n \
         many of each status were sampled in any range of time, and how each device is.\n"
    );
    put(root, "DEBIAN/control", 0o644, text.as_bytes())?;
    put(root, "DEBIAN/conffiles", 0o644, b"/etc/rollcall/rollcall.env\n")?;
    for script in SCRIPTS {
        let bytes = fs::read(workspace::root().join("host/packaging/debian").join(script)).context(script)?;
        put(root, &format!("DEBIAN/{script}"), 0o755, &bytes)?;
    }
    Ok(())
}

/// As `0.1.0+abc123456789`, so that a later build of the same version is another one.
fn version(program: &Path) -> Result<String> {
    let said = said(&program.display().to_string(), &["--version"])?;
    let mut words = said.split_whitespace().skip(1);
    let (version, commit) = (words.next().context("rollcall has no version")?, words.next());
    let commit = commit.map(|commit| commit.trim_matches(['(', ')']).replace('-', "."));
    Ok(commit.map_or_else(|| version.to_owned(), |commit| format!("{version}+{commit}")))
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("{program} is needed"))?;
    ensure!(output.status.success(), "{program} failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
