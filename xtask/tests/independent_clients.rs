//! MQTT clients that Rollcall's authors did not write: what they publish is counted.

use std::hint;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::tools::{self, Tool};
use rollcall_harness::{ports, skip, wait, workspace};
use rollcall_wire::{DeviceId, Kind, Topic};

/// QoS 0 has no acknowledgement to wait for.
const COUNT_LIMIT: Duration = Duration::from_secs(10);

fn start_host(dir: &Path) -> Result<(HostProcess, u16)> {
    let settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir)?;
    Ok((HostProcess::start(&settings)?, settings.mqtt_port))
}

fn topic(device: &str) -> Result<String> {
    let device = DeviceId::new(device).context("not a device id")?;
    Ok(Topic { device, kind: Kind::Status }.to_string())
}

/// Waits for the total and then looks at every status; more than expected fails as well as less.
fn expect_counts(host: &HostProcess, expected: StatusCounts, after: &str) -> Result<()> {
    wait::until(&format!("{expected} after {after}"), COUNT_LIMIT, || {
        Ok((host.all_counts()?.total() >= expected.total()).then_some(()))
    })?;
    assert_eq!(host.all_counts()?, expected, "after {after}");
    Ok(())
}

fn mosquitto(tool: &Tool, port: u16, version: &str, qos: &str, payload: &str) -> Result<()> {
    let mut command = tool.command();
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", version, "-q", qos]);
    let output = command.args(["-t", &topic("mosquitto")?, "-m", payload]).output()?;
    ensure!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn mosquitto_pub_is_counted_with_each_version_qos_and_payload() -> Result<()> {
    let tool = match tools::mosquitto_pub() {
        Ok(tool) => tool,
        Err(reason) => return skip::report("independent_clients, mosquitto_pub", &format!("{reason:#}")),
    };
    let dir = workspace::temporary_dir()?;
    let (host, port) = start_host(dir.path())?;
    let mut expected = StatusCounts::default();
    let mut seq = 0;
    for version in ["5", "mqttv311"] {
        for qos in ["0", "1"] {
            let what = |payload: &str| format!("mosquitto_pub -V {version} -q {qos} -m '{payload}'");
            let bare = r#"{"status":3}"#;
            mosquitto(&tool, port, version, qos, bare)?;
            expected.0[3] += 1;
            expect_counts(&host, expected, &what(bare))?;

            let full = format!(r#"{{"status":5,"seq":{seq},"boot":"0123456789abcdef","age_ms":1500}}"#);
            seq += 1;
            mosquitto(&tool, port, version, qos, &full)?;
            expected.0[5] += 1;
            expect_counts(&host, expected, &what(&full))?;
        }
    }
    // Once more what was counted already, acknowledged, so that the host has surely seen it.
    mosquitto(&tool, port, "5", "1", r#"{"status":5,"seq":0,"boot":"0123456789abcdef","age_ms":9000}"#)?;
    expect_counts(&host, expected, "a reading with the same boot and seq")?;
    host.stop()
}

#[test]
fn paho_is_counted_with_each_version_qos_and_payload() -> Result<()> {
    check_script("paho-mqtt", tools::python_with_paho, "paho_publish.py")
}

#[test]
fn bursts_of_paho_with_qos_0_are_counted_whole_on_a_busy_machine() -> Result<()> {
    let _busy = Busy::new();
    check_script("bursts of paho-mqtt", tools::python_with_paho, "paho_bursts.py")
}

#[test]
fn bursts_of_mqttjs_are_counted_whole_with_each_version_and_qos() -> Result<()> {
    let _busy = Busy::new();
    check_script("bursts of mqtt.js", tools::node_with_mqttjs, "mqttjs_bursts.js")
}

/// What a script says that it published, and nothing else, is counted.
fn check_script(client: &str, tool: impl FnOnce() -> Result<Tool>, script: &str) -> Result<()> {
    let tool = match tool() {
        Ok(tool) => tool,
        Err(reason) => {
            return skip::report(&format!("independent_clients, {client}"), &format!("{reason:#}"));
        }
    };
    let dir = workspace::temporary_dir()?;
    let (host, port) = start_host(dir.path())?;
    let path = workspace::root().join("xtask/tests").join(script);
    let output = tool.command().arg(path).args([port.to_string(), topic("script")?]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    let published = serde_json::from_slice(&output.stdout).context("the script printed no JSON")?;
    let published = StatusCounts::from_array(&published)?;
    ensure!(published.total() > 0, "{script} published nothing");
    println!("{script}: {published}");
    expect_counts(&host, published, script)?;
    host.stop()
}

/// Certificates of a host, made by its own command.
fn certificates(binary: &Path, dir: PathBuf) -> Result<PathBuf> {
    let mut init = Command::new(binary);
    init.args(["tls", "init", "--name", "localhost", "--dir"]).arg(&dir).stdout(Stdio::null());
    ensure!(init.status()?.success(), "rollcall tls init failed");
    Ok(dir)
}

#[test]
fn mosquitto_pub_is_counted_over_tls_and_trusts_this_host_only() -> Result<()> {
    let tool = match tools::mosquitto_pub() {
        Ok(tool) => tool,
        Err(reason) => return skip::report("independent_clients, mosquitto_pub", &format!("{reason:#}")),
    };
    let dir = workspace::temporary_dir()?;
    let binary = cargo::build(Program::LeanHost, Profile::Dev)?;
    let own = certificates(&binary, dir.path().join("tls"))?;
    let other = certificates(&binary, dir.path().join("other"))?;
    let port = ports::free()?;
    let mut settings = HostSettings::new(&binary, dir.path())?;
    let file = |name: &str| own.join(name).display().to_string();
    settings.arguments = [
        ["--mqtt-tls-listen".to_owned(), format!("127.0.0.1:{port}")],
        ["--tls-cert".to_owned(), file("server.pem")],
        ["--tls-key".to_owned(), file("server.key")],
    ]
    .concat();
    let host = HostProcess::start(&settings)?;
    let publish = |authority: &Path, version: &str| -> Result<bool> {
        let mut command = tool.command();
        command.args(["-h", "localhost", "-p", &port.to_string(), "-V", version, "-q", "1"]);
        command.args(["-t", &topic("mosquitto")?, "-m", r#"{"status":3}"#, "--cafile"]);
        Ok(command.arg(authority.join("ca.pem")).stderr(Stdio::null()).status()?.success())
    };
    for version in ["5", "mqttv311"] {
        ensure!(publish(&own, version)?, "mosquitto_pub -V {version} was not served over TLS");
        ensure!(!publish(&other, version)?, "mosquitto_pub -V {version} took another host for this one");
    }
    let mut expected = StatusCounts::default();
    expected.0[3] = 2;
    expect_counts(&host, expected, "two messages over TLS")?;
    host.stop()
}

/// Threads that keep every core of the machine busy twice over.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, Into::into);
        let spin = |stop: Arc<AtomicBool>| {
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            })
        };
        Self { threads: (0..2 * cores).map(|_| spin(stop.clone())).collect(), stop }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
