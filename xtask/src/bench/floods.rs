//! How a device is served while others take what they can of the host: `xtask/tests/floods.rs` says what becomes of them.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use rollcall_harness::floods::{Flood, Target as Host, meet, percentile_ms};
use rollcall_harness::host::HostProcess;
use rollcall_harness::pace;
use rollcall_wire::{DeviceId, Kind, Topic};

use super::fleet::{MIB, allow_open_files};
use super::load::{FLEET, Load, Pace};
use super::table::{self, Target};
use super::{Fresh, usage};

/// So long each lasts, if the host does not end it earlier.
const LASTS: Duration = Duration::from_secs(20);

/// What is stored before, of this many minutes.
const STORED: u64 = 880_000;
const MINUTES: u64 = 30 * 24 * 60;

const FLOODS: [(&str, &[(Flood, usize)]); 7] = [
    ("a device alone", &[]),
    ("4,000 idle or slow connections over HTTP", &[(Flood::WaitingOverHttp, 4_000)]),
    ("1,000 queries at a time", &[(Flood::Queries, 1_000)]),
    ("200 clients that ping without end", &[(Flood::Pings, 200)]),
    ("2,500 silent connections over MQTT", &[(Flood::Silent, 2_500)]),
    ("2,500 wrong passwords", &[(Flood::Guesses, 2_500)]),
    (
        "all of them at once",
        &[
            (Flood::WaitingOverHttp, 4_000),
            (Flood::Queries, 1_000),
            (Flood::Pings, 200),
            (Flood::Silent, 2_500),
            (Flood::Guesses, 2_500),
        ],
    ),
];

pub(super) fn measure(mut fresh: Fresh) -> Result<()> {
    allow_open_files()?;
    let host = HostProcess::start(&fresh.settings)?;
    let age_ms = |nth: u64| u32::try_from(nth % MINUTES * 60_000).unwrap_or(u32::MAX);
    let mut acknowledged = Load::connect(&host.broker(), FLEET, 6)?.run(Pace::Count(STORED), age_ms)?;
    host.stop()?;

    let (user, password) = ("fleet", "long enough for all");
    let file = fresh.dir.path().join("password");
    fs::write(&file, password)?;
    let file = file.display().to_string();
    fresh.settings.arguments = ["--mqtt-user", user, "--mqtt-password-file", &file].map(str::to_owned).into();
    let host = HostProcess::start(&fresh.settings)?;
    let end = pace::now_s()? / 600 * 600;
    let target = Host {
        mqtt: host.broker().parse()?,
        http: ([127, 0, 0, 1], fresh.settings.http_port).into(),
        login: (user.to_owned(), password.to_owned()),
        topic: Topic { device: DeviceId::new("standing")?, kind: Kind::Status }.to_string(),
        query: format!("/v1/series?start={}&end={end}&step=600", end - MINUTES * 60),
    };
    let resident = || Ok::<_, anyhow::Error>(usage::memory(host.process().pid())?.now as f64 / MIB);
    for (name, floods) in FLOODS {
        table::heading(name);
        let before = resident()?;
        let (became, served) = meet(&target, floods, LASTS)?;
        acknowledged += served.publishes.len() as u64;
        for (what, times, most) in
            [("connects", &served.connects, 1_000.0), ("publishes", &served.publishes, 100.0)]
        {
            let at = |part| percentile_ms(times, part);
            table::print(&format!("a device {what}, p50"), at(0.5), "ms", Target::None);
            table::print(&format!("a device {what}, p99"), at(0.99), "ms", Target::AtMost(most));
        }
        let sum =
            |of: fn(&rollcall_harness::floods::Became) -> usize| became.iter().map(of).sum::<usize>() as f64;
        table::print("connections that the host ended", sum(|of| of.cut), "", Target::None);
        table::print("queries answered", sum(|of| of.answered), "", Target::None);
        table::print("queries put off", sum(|of| of.put_off), "", Target::None);
        table::print("memory of the host before", before, "MiB", Target::None);
        table::print("memory of the host after", resident()?, "MiB", Target::None);
    }
    ensure!(host.all_counts()?.total() == acknowledged, "counted and acknowledged differ");
    host.stop()
}
