//! RabbitMQ 4 out of Debian 13's packages, unpacked into a folder and run in it with `chroot`. Debian 12's own
//! RabbitMQ is 3.10, which has no MQTT 5.
//!
//! The broker runs in a process namespace of its own: when its first process goes, Erlang's helpers (epmd
//! among them, which a plain kill leaves behind) go with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{CERTIFICATES, prepared, wait_until_it_listens};
use crate::process::Process;
use crate::tools::succeed;
use crate::{ports, wait, workspace};

/// The Debian release with RabbitMQ 4.
const RELEASE: &str = "trixie";

/// RabbitMQ, and the essential packages that its scripts take for granted.
const PACKAGES: [&str; 9] =
    ["rabbitmq-server", "base-files", "bash", "coreutils", "dash", "grep", "mawk", "procps", "sed"];

/// What a package's installation would have written, as far as RabbitMQ asks for it.
const ETC: [(&str, &str); 4] = [
    ("hosts", "127.0.0.1 localhost\n"),
    ("passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    ("group", "root:x:0:\n"),
    ("nsswitch.conf", "hosts: files\n"),
];

/// The user that the repository's settings file makes.
pub const USER: &str = "rollcall";
/// Its password.
pub const PASSWORD: &str = "rollcall";

/// The kernel ends a namespace within milliseconds.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A running node.
pub struct Rabbitmq {
    process: Process,
    node: RabbitmqNode,
}

/// What starts a node again on the same data and ports.
#[derive(Clone, Debug)]
pub struct RabbitmqNode {
    dir: PathBuf,
    name: String,
    ports: Ports,
    /// The port for MQTT over TLS, if there is one.
    tls_port: Option<u16>,
    /// Lines that come after those of the repository's settings file.
    settings: String,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    mqtt: u16,
    amqp: u16,
    dist: u16,
    epmd: u16,
}

impl RabbitmqNode {
    /// A node with its data in `dir`, at `mqtt_port` on 127.0.0.1. It runs with the repository's settings
    /// file, and lets anonymous devices in.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(dir: &Path, mqtt_port: u16) -> Result<Self> {
        let ports =
            Ports { mqtt: mqtt_port, amqp: ports::free()?, dist: ports::free()?, epmd: ports::free()? };
        let settings = format!(
            "mqtt.listeners.tcp.default = 127.0.0.1:{mqtt_port}\n\
             mqtt.allow_anonymous = true\n\
             anonymous_login_user = {USER}\n\
             anonymous_login_pass = {PASSWORD}\n"
        );
        Ok(Self { dir: dir.to_owned(), name: "rabbit".to_owned(), ports, tls_port: None, settings })
    }

    /// The same node with further settings, one a line.
    #[must_use]
    pub fn with_settings(mut self, lines: &str) -> Self {
        self.settings += lines;
        self
    }

    /// The same node, at `port` with TLS too, with what [`crate::host::tls_init`] made in `certificates`.
    ///
    /// # Errors
    /// When the files cannot be copied to where the node can read them.
    pub fn with_tls(self, certificates: &Path, port: u16) -> Result<Self> {
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        for name in CERTIFICATES {
            let (from, to) = (certificates.join(name), self.dir.join(name));
            if from != to {
                fs::copy(&from, to).with_context(|| format!("cannot copy {}", from.display()))?;
            }
        }
        // Its folder is /data where it runs.
        let [authority, certificate, key] = CERTIFICATES;
        let mut node = self.with_settings(&format!(
            "mqtt.listeners.ssl.default = 127.0.0.1:{port}\nssl_options.cacertfile = /data/{authority}\n\
             ssl_options.certfile = /data/{certificate}\nssl_options.keyfile = /data/{key}\n"
        ));
        node.tls_port = Some(port);
        Ok(node)
    }

    /// `count` nodes of one cluster, with their data in `dir`; all are to be started at about the same time.
    ///
    /// # Errors
    /// When no port is free.
    pub fn cluster(dir: &Path, count: usize) -> Result<Vec<Self>> {
        let epmd = ports::free()?;
        let mut peers = String::from("cluster_formation.peer_discovery_backend = classic_config\n");
        let mut nodes = Vec::with_capacity(count);
        for number in 1..=count {
            let mut node = Self::new(&dir.join(format!("node-{number}")), ports::free()?)?;
            node.name = format!("rabbit{number}");
            node.ports.epmd = epmd;
            peers += &format!("cluster_formation.classic_config.nodes.{number} = rabbit{number}@localhost\n");
            nodes.push(node);
        }
        Ok(nodes.into_iter().map(|node| node.with_settings(&peers)).collect())
    }

    /// The command that runs the node in the foreground.
    ///
    /// # Errors
    /// When RabbitMQ cannot be fetched, or its data folder not be made.
    pub fn command(&self) -> Result<Command> {
        let root = root()?;
        self.write_settings()?;
        let mut command = Command::new("unshare");
        command.args(namespaces());
        command.args(["sh", "-c", ENTER]).arg("enter").arg(root).arg(&self.dir);
        for (name, value) in self.environment() {
            command.arg(format!("{name}={value}"));
        }
        command.arg("/usr/lib/rabbitmq/bin/rabbitmq-server");
        Ok(command)
    }

    fn write_settings(&self) -> Result<()> {
        for folder in ["mnesia", "log", "home", "conf.d"] {
            let folder = self.dir.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let shared = workspace::root().join("xtask/rabbitmq");
        fs::copy(shared.join("rabbitmq.conf"), self.dir.join("rabbitmq.conf"))?;
        fs::copy(shared.join("enabled_plugins"), self.dir.join("enabled_plugins"))?;
        fs::write(self.dir.join("conf.d/90-own.conf"), &self.settings)?;
        // Nodes of a cluster know each other by a cookie that is theirs alone.
        let cookie = self.dir.join("home/.erlang.cookie");
        if !cookie.exists() {
            fs::write(&cookie, "ROLLCALLTESTCLUSTER")?;
            succeed(Command::new("chmod").arg("400").arg(&cookie))?;
        }
        Ok(())
    }

    fn environment(&self) -> [(&'static str, String); 15] {
        let Ports { amqp, dist, epmd, .. } = self.ports;
        [
            ("PATH", "/usr/bin:/usr/sbin:/bin:/sbin".to_owned()),
            ("HOME", "/data/home".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("RABBITMQ_NODENAME", format!("{}@localhost", self.name)),
            ("RABBITMQ_NODE_PORT", amqp.to_string()),
            ("RABBITMQ_DIST_PORT", dist.to_string()),
            ("ERL_EPMD_PORT", epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_MNESIA_BASE", "/data/mnesia".to_owned()),
            ("RABBITMQ_LOG_BASE", "/data/log".to_owned()),
            ("RABBITMQ_CONFIG_FILE", "/data/rabbitmq.conf".to_owned()),
            ("RABBITMQ_CONFIG_FILES", "/data/conf.d/*.conf".to_owned()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "/data/enabled_plugins".to_owned()),
            ("RABBITMQ_CONF_ENV_FILE", "/data/none".to_owned()),
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                // The second: schedulers that spin while they wait would take the tests' two cores.
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
                    .to_owned(),
            ),
        ]
    }
}

/// Runs in the new namespaces: `$1` the root, `$2` the data folder, then what to run there.
const ENTER: &str = "\
    root=$1 data=$2; shift 2; set -e
    mount -t proc proc \"$root/proc\"
    mount --rbind /dev \"$root/dev\"
    mount --bind \"$data\" \"$root/data\"
    exec chroot \"$root\" /usr/bin/env -i \"$@\"";

impl Rabbitmq {
    /// Starts one node on a free port, with data and log in `dir`, and waits until it takes connections.
    ///
    /// # Errors
    /// When RabbitMQ cannot be fetched or started.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_node(RabbitmqNode::new(dir, ports::free()?)?)
    }

    /// Starts `node` and waits until it takes connections.
    ///
    /// # Errors
    /// When RabbitMQ cannot be fetched or started.
    pub fn start_node(node: RabbitmqNode) -> Result<Self> {
        let mut started = Self::launch(node)?;
        started.wait_until_ready()?;
        Ok(started)
    }

    /// Starts `node` and does not wait: the nodes of a cluster wait for each other.
    ///
    /// # Errors
    /// When RabbitMQ cannot be fetched or started.
    pub fn launch(node: RabbitmqNode) -> Result<Self> {
        let command = node.command()?;
        Ok(Self { process: Process::start("rabbitmq", command, &node.dir)?, node })
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// When it ends or takes too long.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        for port in [self.node.ports.mqtt].into_iter().chain(self.node.tls_port) {
            wait_until_it_listens(&mut self.process, "rabbitmq", port)?;
        }
        Ok(())
    }

    /// `HOST:PORT` for MQTT.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.node.ports.mqtt)
    }

    /// `HOST:PORT` for MQTT over TLS.
    pub fn tls_address(&self) -> Option<String> {
        self.node.tls_port.map(|port| format!("127.0.0.1:{port}"))
    }

    /// Its address with a user and its password.
    pub fn url(&self) -> String {
        format!("mqtt://{USER}:{PASSWORD}@{}", self.address())
    }

    /// The process, for its id and its log. The broker itself is among its descendants.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `kill -9`, and waits until the last process of its namespace has let go of the ports.
    ///
    /// # Errors
    /// When a port stays taken.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill();
        let Ports { mqtt, dist, .. } = self.node.ports;
        wait::until("rabbitmq's ports to be free", KILL_LIMIT, || {
            Ok([mqtt, dist].into_iter().all(ports::is_free).then_some(()))
        })
    }

    /// `kill -9`, if it still runs, and a start on the same data and ports.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.process = Process::start("rabbitmq", self.node.command()?, &self.node.dir)?;
        self.wait_until_ready()
    }
}

impl Drop for Rabbitmq {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.kill();
    }
}

/// Makes sure that RabbitMQ is there and that this machine lets us run it.
pub(super) fn fetch_all() -> Result<()> {
    succeed(Command::new("unshare").args(namespaces()).arg("true"))
        .context("RabbitMQ runs in namespaces of its own, which needs root or user namespaces")?;
    root().map(drop)
}

fn namespaces() -> Vec<&'static str> {
    let user = ["--user", "--map-root-user"];
    let user = if rustix::process::geteuid().is_root() { &[][..] } else { &user[..] };
    [user, &["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]].concat()
}

/// The folder with RabbitMQ and all that it needs.
fn root() -> Result<PathBuf> {
    prepared("rabbitmq", |root| {
        let download = tempfile::tempdir_in(root)?;
        fetch(download.path())?;
        unpack(download.path(), root)
    })
}

fn fetch(download: &Path) -> Result<()> {
    let mirror = mirror()?;
    let dir = download.display();
    for folder in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(download.join(folder))?;
    }
    // Nothing counts as installed, so apt gets every dependency.
    fs::write(download.join("status"), "")?;
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(download.join("sources"), format!("deb [signed-by={keys}] {mirror} {RELEASE} main\n"))?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("-q");
        for option in [
            format!("Dir::Etc::SourceList={dir}/sources"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("Dir::State={dir}/state"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}/cache"),
            "APT::Install-Recommends=false".to_owned(),
            // A machine may be set up to throw away what it downloaded.
            "Binary::apt-get::APT::Keep-Downloaded-Packages=true".to_owned(),
            "Debug::NoLocking=1".to_owned(),
            // For root, apt would switch to a user who may not write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        succeed(command.args(arguments))
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--download-only"], PACKAGES.as_slice()].concat())
}

/// Unpacks without running any package's scripts: RabbitMQ needs none of what they set up, save [`ETC`].
fn unpack(download: &Path, root: &Path) -> Result<()> {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        std::os::unix::fs::symlink(format!("usr/{folder}"), root.join(folder))?;
    }
    let mut unpacked = 0;
    for file in fs::read_dir(download.join("cache/archives"))? {
        let file = file?.path();
        if file.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let script = "set -e; dpkg-deb --fsys-tarfile \"$1\" | \
            tar --extract --directory \"$2\" --keep-directory-symlink --no-same-owner";
        succeed(Command::new("sh").args(["-c", script, "unpack"]).arg(&file).arg(root))?;
        unpacked += 1;
    }
    ensure!(unpacked > 0, "apt downloaded nothing");
    for folder in ["data", "dev", "etc", "proc", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for (name, text) in ETC {
        fs::write(root.join("etc").join(name), text)?;
    }
    // What update-alternatives does.
    std::os::unix::fs::symlink("mawk", root.join("usr/bin/awk"))?;
    Ok(())
}

/// The Debian mirror that this machine's own apt sources name.
fn mirror() -> Result<String> {
    let needs = "RabbitMQ is fetched from Debian's mirror, so it needs a Debian with apt; elsewhere use \
                 docker compose up (compose.yaml)";
    let release = fs::read_to_string("/etc/os-release").context(needs)?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).context(needs)?;
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(RELEASE) $(COMPONENT) $(SITE)"])
        .output()
        .context(needs)?;
    let targets = String::from_utf8_lossy(&targets.stdout);
    let wanted = format!("{codename} main ");
    match targets.lines().find_map(|line| line.strip_prefix(&wanted)) {
        Some(site) if release.contains("ID=debian") => Ok(site.to_owned()),
        _ => bail!(needs),
    }
}
