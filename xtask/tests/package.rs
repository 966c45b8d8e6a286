//! The Debian package, installed in a root of its own: this machine's files below, and what the test writes above them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::process::Process;
use rollcall_harness::{skip, wait, workspace};
use rustix::process::Signal;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A root of its own.
struct Root {
    dir: TempDir,
}

impl Root {
    /// # Errors
    /// Where there can be none, with the reason.
    fn new() -> Result<Self> {
        let root = Self { dir: workspace::temporary_dir()? };
        for name in ["upper", "work", "root"] {
            fs::create_dir(root.path(name))?;
        }
        root.run("command -v dpkg && command -v systemd-sysusers && command -v setpriv")?;
        Ok(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A shell in it, which its end unmounts again.
    fn command(&self, script: &str) -> Command {
        let [upper, work, root] = ["upper", "work", "root"].map(|name| self.path(name).display().to_string());
        let overlay = format!("lowerdir=/,upperdir={upper},workdir={work}");
        let mut command = Command::new("unshare");
        let outer = r#"mount -t overlay overlay -o "$1" "$2" && mount -t proc proc "$2/proc" && exec chroot "$2" sh -ec "$3""#;
        command.args(["--mount", "sh", "-ec", outer, "sh", &overlay, &root, script]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROLLCALL_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// What a script in it prints to a good end.
    fn run(&self, script: &str) -> Result<String> {
        let output = self.command(script).output().context("unshare is needed")?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {said}");
        Ok(said.into_owned())
    }
}

fn package() -> Result<PathBuf> {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["package", "--debug"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8(output.stdout)?;
    Ok(path.lines().last().context("it does not say where the package is")?.into())
}

/// The value of a line `NAME=VALUE` of the unit.
fn unit(installed: &str, name: &str) -> Result<String> {
    let line = installed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Ok(line.with_context(|| format!("the unit has no {name}"))?.to_owned())
}

#[test]
fn the_package_is_installed_its_program_serves_as_its_user_and_its_data_outlive_it() -> Result<()> {
    let root = match Root::new() {
        Ok(root) => root,
        Err(reason) => return skip::report("package", &format!("{reason:#}")),
    };
    let package = package()?;
    fs::create_dir_all(root.path("upper/tmp"))?;
    fs::copy(&package, root.path("upper/tmp/rollcall.deb"))?;
    root.run("dpkg --install /tmp/rollcall.deb")?;
    let said = root
        .run("rollcall --version; getent passwd rollcall; stat -c '%U:%G %a' /etc/rollcall/rollcall.env")?;
    assert!(said.contains("rollcall 0."), "{said}");
    assert!(said.contains("/var/lib/rollcall") && said.contains("root:rollcall 640"), "{said}");
    let pages = root.run("zcat /usr/share/man/man1/rollcall-serve.1.gz")?;
    assert!(pages.contains("mqtt\\-listen"), "{pages}");
    assert!(root.run("cat /usr/share/bash-completion/completions/rollcall")?.contains("--mqtt-listen"));

    let installed = root.run("cat /usr/lib/systemd/system/rollcall.service")?;
    serve(&root, &installed)?;
    root.run(
        "dpkg --remove rollcall && test -s /var/lib/rollcall/rollcall.redb && ! test -e /usr/bin/rollcall",
    )?;
    Ok(())
}

/// What the unit starts is started as its user, with its variables, but at free ports.
fn serve(root: &Root, unit_text: &str) -> Result<()> {
    let (start, user) = (unit(unit_text, "ExecStart")?, unit(unit_text, "User")?);
    let environment = unit(unit_text, "Environment")?;
    let script = format!(
        "install -d -o {user} -g {user} -m 0700 /var/lib/rollcall
        exec setpriv --reuid {user} --regid {user} --clear-groups env {environment} ROLLCALL_LOG_FORMAT=text \
            ROLLCALL_MQTT_LISTEN=127.0.0.1:0 ROLLCALL_HTTP_LISTEN=127.0.0.1:0 {start}"
    );
    let mut host = Process::start("rollcall", root.command(&script), root.dir.path())?;
    let page = wait::until("the page to be there", LIMIT, || {
        host.check_alive()?;
        let said = host.stderr()?;
        Ok(said.lines().find_map(|line| Some(line.split_once("the page is at ")?.1.trim().to_owned())))
    })?;
    wait::until("the host to be ready", LIMIT, || {
        Ok(ureq::get(&format!("{page}readyz")).call().ok().map(drop))
    })?;
    host.signal(Signal::TERM)?;
    let status = host.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {}", host.last_words());
    Ok(())
}

#[test]
fn the_program_alone_runs_where_there_is_nothing_else() -> Result<()> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(["package", "--static", "--debug"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = String::from_utf8(output.stdout)?;
    let dir = workspace::temporary_dir()?;
    fs::copy(made.trim(), dir.path().join("rollcall"))?;
    fs::create_dir(dir.path().join("data"))?;
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--root"]).arg(dir.path()).arg("/rollcall").args([
        "--log-format",
        "text",
        "serve",
    ]);
    command.args(["--store", "redb:/data", "--mqtt-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    let mut host = Process::start("rollcall", command, dir.path())?;
    wait::until("the host to serve", LIMIT, || {
        host.check_alive()?;
        Ok(host.stderr()?.contains("the page is at ").then_some(()))
    })?;
    host.signal(Signal::TERM)?;
    let status = host.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {}", host.last_words());
    Ok(())
}
