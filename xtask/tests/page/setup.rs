//! A host with recorded devices of which each has something of its own, and a browser before it.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::mqtt::{Client, PUBACK, Version};
use rollcall_harness::{skip, tools, wait, workspace};
use rollcall_wire::{DeviceId, Kind, Topic};
use serde_json::Value;
use tempfile::TempDir;

use crate::browser::Browser;

/// Rows are written within seconds.
const ROWS_LIMIT: Duration = Duration::from_secs(60);

/// From one sample of a recorded device to its next: who was recorded a moment ago is online for as long as a test takes.
const PERIOD_S: u64 = 600;

/// What a recorded device took, by how long ago.
pub(crate) struct Recorded {
    pub(crate) device: &'static str,
    /// How many samples it took.
    pub(crate) samples: u64,
    /// When it took the last of them, in seconds before now.
    pub(crate) last_ago_s: u64,
    /// These of them never came.
    pub(crate) lost: std::ops::Range<u64>,
}

/// One that answers, one that is silent, one of which samples are missing, and one that has left.
pub(crate) const FLEET: [Recorded; 5] = [
    Recorded { device: "porch-17", samples: 60, last_ago_s: 5, lost: 0..0 },
    Recorded { device: "porch-18", samples: 60, last_ago_s: 7, lost: 0..0 },
    Recorded { device: "cellar-2", samples: 60, last_ago_s: 1_500, lost: 0..0 },
    Recorded { device: "attic-9", samples: 60, last_ago_s: 6, lost: 20..32 },
    Recorded { device: "barn-4", samples: 30, last_ago_s: 9, lost: 0..0 },
];

/// So many samples of [`FLEET`] came.
pub(crate) const FLEET_SAMPLES: u64 = 60 + 60 + 60 + 48 + 30;

/// A host and a browser, which end with this value.
pub(crate) struct Page {
    // In this order: the browser goes first.
    pub(crate) browser: Browser,
    pub(crate) host: Option<HostProcess>,
    pub(crate) settings: HostSettings,
    pub(crate) dir: TempDir,
}

impl Page {
    /// `None` where there can be no browser; the test that asks is then reported as skipped.
    pub(crate) fn new() -> Result<Option<Self>> {
        if let Err(reason) = tools::chromium().map(drop).and_then(|()| tools::axe().map(drop)) {
            // The harness names a test's thread after it.
            skip::report(thread::current().name().unwrap_or("page"), &format!("{reason:#}"))?;
            return Ok(None);
        }
        let dir = workspace::temporary_dir()?;
        let binary = cargo::build(Program::LeanHost, Profile::Dev)?;
        let settings = HostSettings::new(&binary, dir.path())?;
        let host = HostProcess::start(&settings)?;
        Ok(Some(Self { browser: Browser::start(dir.path())?, host: Some(host), settings, dir }))
    }

    /// One that has [`FLEET`].
    pub(crate) fn recorded() -> Result<Option<Self>> {
        let page = Self::new()?;
        page.as_ref().map_or(Ok(()), Self::record)?;
        Ok(page)
    }

    /// The host ends, and begins again with these arguments.
    pub(crate) fn restart(&mut self, arguments: &[&str]) -> Result<()> {
        self.host.take().context("no host")?.stop()?;
        self.settings.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.host = Some(HostProcess::start(&self.settings)?);
        Ok(())
    }

    pub(crate) fn host(&self) -> Result<&HostProcess> {
        self.host.as_ref().context("the host was ended")
    }

    /// Shows a view.
    pub(crate) fn open(&self, query: &str) -> Result<()> {
        self.browser.go(&self.host()?.url(&format!("/{query}")))
    }

    /// An answer of the API.
    pub(crate) fn ask(&self, path: &str) -> Result<Value> {
        let url = self.host()?.url(path);
        let body = ureq::get(&url).call()?.body_mut().read_to_string()?;
        serde_json::from_str(&body).with_context(|| format!("{url}: {body}"))
    }

    pub(crate) fn client(&self) -> Result<Client> {
        let address: SocketAddr = self.host()?.broker().parse()?;
        Ok(Client::connect(address, Version::V5))
    }

    /// Records [`FLEET`], and waits until the host tells of it.
    pub(crate) fn record(&self) -> Result<()> {
        let mut client = self.client()?;
        for Recorded { device, samples, last_ago_s, lost } in FLEET {
            for seq in (0..samples).filter(|seq| !lost.contains(seq)) {
                let age_s = last_ago_s + (samples - 1 - seq) * PERIOD_S;
                publish(&mut client, device, seq % 7, Some((seq, age_s)))?;
            }
        }
        let topic = Topic { device: id("barn-4")?, kind: Kind::Presence }.name();
        ensure!(client.publish(&topic, b"offline").is_some_and(|answer| answer.kind() == PUBACK));
        client.leave();
        wait::until("the devices to be known", ROWS_LIMIT, || {
            let devices = self.ask("/v1/devices")?;
            let missing: u64 = devices["devices"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|device| device["expected"].as_u64())
                .sum();
            Ok((missing == FLEET_SAMPLES + 12).then_some(()))
        })
    }
}

/// A sample: of now, or one of a boot that is so old.
pub(crate) fn publish(client: &mut Client, device: &str, status: u64, of: Option<(u64, u64)>) -> Result<()> {
    let topic = Topic { device: id(device)?, kind: Kind::Status }.name();
    let payload = match of {
        None => format!(r#"{{"status":{status}}}"#),
        Some((seq, age_s)) => {
            format!(
                r#"{{"status":{status},"seq":{seq},"boot":"00000000000000b7","age_ms":{}}}"#,
                age_s * 1000
            )
        }
    };
    let answer = client.publish(&topic, payload.as_bytes()).context("the connection has ended")?;
    ensure!(answer.kind() == PUBACK && answer.reason() == 0, "{payload} was refused");
    Ok(())
}

fn id(device: &str) -> Result<DeviceId> {
    DeviceId::new(device).map_err(|error| anyhow::anyhow!("{device}: {error}"))
}

/// Now, in Unix seconds.
pub(crate) fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}
