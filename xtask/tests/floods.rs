//! What a device meets while others take what they can of a host: it is let in and all that it says is stored; whoever
//! takes too much is refused or cut off by name, with a line and a number; and afterwards the host holds what it held.
//!
//! How quickly it is served depends on the machine: `cargo xtask bench --floods` says it.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::floods::{Became, Flood, Target, meet, percentile_ms};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::mqtt::{self, ConnectPacket, Connection, Version};
use rollcall_harness::process::memory;
use rollcall_harness::{pace, wait, workspace};
use rollcall_wire::{DeviceId, Kind, Topic};
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

const WAITING: (Flood, usize) = (Flood::WaitingOverHttp, 4_000);
const QUERIES: (Flood, usize) = (Flood::Queries, 1_000);
const PINGS: (Flood, usize) = (Flood::Pings, 200);
const SILENT: (Flood, usize) = (Flood::Silent, 2_500);
const GUESSES: (Flood, usize) = (Flood::Guesses, 1_000);

/// The usual limit of open files.
const FEW_FILES: u32 = 1_024;

/// With so many, HTTP has all places that it ever has, 1,024, and one address seven eighths of them.
const MANY_FILES: u32 = 8_192;

/// What is stored for queries, and how many of it are sent before their answers are read.
const MINUTES: u64 = 5_000;
const AT_A_TIME: u64 = 20;

/// What HTTP has of few files in all.
const FEW_HTTP_PLACES: usize = 240;

/// How long a flood lasts that the host lets go on.
const LASTS: Duration = Duration::from_secs(5);

/// Much longer than the host lets a connection wait, which is 10 s.
const UNTIL_CUT: Duration = Duration::from_secs(60);

/// How long the host may take to give back what it held.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(30);

/// Beside a tenth of it: what the allocator keeps of pages in which something small is still in use, and the store's cache of
/// what was read meanwhile. Some MB, and no more with each flood.
const SLACK: u64 = 8_000_000;

const TURNED_AWAY: [&str; 3] = ["no_place", "no_place_for_address", "for_another"];

/// One at a time: each has thousands of connections, and the machine two cores.
static TURN: Mutex<()> = Mutex::new(());

/// A host with a password for all.
struct Host {
    process: HostProcess,
    target: Target,
    /// Samples of the device, which were acknowledged.
    acknowledged: u64,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// What it holds.
struct Held {
    descriptors: usize,
    memory: u64,
}

impl Host {
    fn start(open_files: u32) -> Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        allow_open_files()?;
        let dir = workspace::temporary_dir()?;
        let mut settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
        settings.open_files = Some(open_files);
        let login = ("fleet", "long enough for all");
        let password = dir.path().join("password");
        fs::write(&password, login.1)?;
        let password = password.display().to_string();
        settings.arguments =
            ["--mqtt-user", login.0, "--mqtt-password-file", &password].map(str::to_owned).into();
        let process = HostProcess::start(&settings)?;
        let target = Target {
            mqtt: process.broker().parse()?,
            http: ([127, 0, 0, 1], settings.http_port).into(),
            login: (login.0.to_owned(), login.1.to_owned()),
            topic: Topic { device: DeviceId::new("standing")?, kind: Kind::Status }.to_string(),
            query: "/status_count?start=1790000000&end=1792000000".to_owned(),
        };
        Ok(Self { process, target, acknowledged: 0, dir, _turn: turn })
    }

    /// Stores a sample of each of the last five thousand minutes, and has queries ask for all of them: then a thousand take
    /// much longer than each may wait.
    fn fill(&mut self) -> Result<()> {
        let mut filling = Connection::open(self.target.mqtt, UNTIL_CUT)?;
        let login = Some((self.target.login.0.as_str(), self.target.login.1.as_str()));
        filling.connect(&ConnectPacket { login, ..ConnectPacket::new(Version::V5, "filling") })?;
        for sequence in 0..MINUTES {
            let age_ms = sequence * 60_000;
            let payload =
                format!(r#"{{"status":3,"seq":{sequence},"boot":"9f3c5a0be1d24c77","age_ms":{age_ms}}}"#);
            filling.send(&mqtt::publish(
                Version::V5,
                1 + sequence as u16,
                &self.target.topic,
                payload.as_bytes(),
                None,
            ))?;
            if (sequence + 1).is_multiple_of(AT_A_TIME) {
                for _ in 0..AT_A_TIME {
                    let stored = filling.receive()?.is_some_and(|answer| answer.reason() == 0);
                    ensure!(stored, "a sample is not stored");
                }
            }
        }
        self.acknowledged += MINUTES;
        let end = pace::now_s()? / 60 * 60 + 60;
        self.target.query = format!("/v1/series?start={}&end={end}&step=60", end - MINUTES * 60);
        Ok(())
    }

    /// Lets the floods come and leave: what is used for the first time stays. What it holds then.
    fn warm_up(&mut self, floods: &[(Flood, usize)], lasts: Duration) -> Result<Held> {
        let at_first = self.held()?;
        self.meet(floods, lasts)?;
        self.give_back(&Held { memory: u64::MAX, ..at_first })?;
        self.held()
    }

    /// Lets the floods come, after which it holds what it held `before`.
    fn withstand(
        &mut self,
        floods: &[(Flood, usize)],
        lasts: Duration,
        before: &Held,
    ) -> Result<Vec<Became>> {
        let became = self.meet(floods, lasts)?;
        let memory = before.memory / 10 * 11 + SLACK;
        self.give_back(&Held { memory, descriptors: before.descriptors })?;
        println!("{} B resident before, {} after", before.memory, self.held()?.memory);
        let counted = self.process.all_counts()?.total();
        ensure!(counted == self.acknowledged, "{} are acknowledged, {counted} counted", self.acknowledged);
        Ok(became)
    }

    fn meet(&mut self, floods: &[(Flood, usize)], lasts: Duration) -> Result<Vec<Became>> {
        let (became, served) = meet(&self.target, floods, lasts)?;
        self.process.check_alive()?;
        self.acknowledged += served.publishes.len() as u64;
        let ms = [&served.connects, &served.publishes].map(|times| percentile_ms(times, 0.99).round());
        println!("{floods:?}: {became:?}; p99 of connects and publishes: {ms:?} ms");
        Ok(became)
    }

    fn held(&self) -> Result<Held> {
        let pid = self.process.process().pid();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).context("cannot see what it has open")?;
        Ok(Held { descriptors: descriptors.count(), memory: memory(pid)?.now })
    }

    fn give_back(&self, at_most: &Held) -> Result<()> {
        let mut held = self.held()?;
        let given_back = wait::until("the host to give back what it held", GIVE_BACK_LIMIT, || {
            held = self.held()?;
            let is_back = held.descriptors <= at_most.descriptors && held.memory <= at_most.memory;
            Ok(is_back.then_some(()))
        });
        given_back.with_context(|| {
            let Held { descriptors, memory } = at_most;
            format!("{} descriptors of {descriptors}, {} B of {memory}", held.descriptors, held.memory)
        })
    }

    fn metric(&self, name: &str) -> Result<usize> {
        Ok(self.process.metric(name)? as usize)
    }

    fn refused(&self, reason: &str) -> Result<usize> {
        self.metric(&format!("rollcall_gateway_refusals_total{{reason=\"{reason}\"}}"))
    }

    fn turned_away(&self, door: &str, reason: &str) -> Result<usize> {
        let labels = format!("door=\"{door}\",reason=\"{reason}\"");
        self.metric(&format!("rollcall_connections_turned_away_total{{{labels}}}"))
    }

    /// How many were turned away at this door, for whatever reason.
    fn all_turned_away(&self, door: &str) -> Result<usize> {
        TURNED_AWAY.iter().map(|reason| self.turned_away(door, reason)).sum()
    }

    /// Is there one line with all of this, the number and the peer? The second is due after a minute.
    fn said(&self, parts: &[&str]) -> Result<()> {
        let log = self.process.process().stderr()?;
        let parts = [parts, &["total=1 ", "client=127.0.0.1"]].concat();
        let lines = log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        ensure!(lines == 1, "{lines} lines with {parts:?} in the log:\n{log}");
        Ok(())
    }

    fn stop(self) -> Result<()> {
        self.process.stop()?;
        self.dir.close().context("cannot remove the store")
    }
}

#[test]
fn connections_that_only_wait_are_cut_off_by_name_while_a_device_is_served() -> Result<()> {
    let mut host = Host::start(FEW_FILES)?;
    let before = host.warm_up(&[WAITING, SILENT], Duration::ZERO)?;
    let silent = |host: &Host| -> Result<usize> {
        Ok(host.turned_away("source", "for_another")? + host.refused("connect_timeout")?)
    };
    let waiting = |host: &Host| host.turned_away("http", "for_another");
    let (silent_before, waiting_before) = (silent(&host)?, waiting(&host)?);
    let became = host.withstand(&[WAITING, SILENT], UNTIL_CUT, &before)?;
    assert_eq!(became.iter().map(|became| became.cut).collect::<Vec<_>>(), [WAITING.1, SILENT.1]);
    assert_eq!(silent(&host)? - silent_before, SILENT.1);
    // The others are closed once they have waited for 10 s.
    let waiting = waiting(&host)? - waiting_before;
    assert!((WAITING.1 - FEW_HTTP_PLACES..=WAITING.1).contains(&waiting), "{waiting}");
    host.said(&["too many connections", "door=HTTP API", "reason=\"for_another\""])?;
    host.said(&["too many connections", "door=source of messages", "reason=\"for_another\""])?;
    host.said(&["reason=\"connect_timeout\""])?;
    host.stop()
}

#[test]
fn queries_beyond_those_that_have_their_turn_are_put_off_while_a_device_is_served() -> Result<()> {
    let mut host = Host::start(MANY_FILES)?;
    host.fill()?;
    let before = host.warm_up(&[QUERIES], LASTS)?;
    let became = host.withstand(&[QUERIES], LASTS, &before)?;
    let put_off = host.metric("rollcall_queries_refused_total")?;
    // What was put off at first is among them.
    assert!(became[0].answered > 0 && (1..=put_off).contains(&became[0].put_off), "{put_off}, {became:?}");
    host.said(&["too many queries"])?;
    host.stop()
}

#[test]
fn pings_without_end_and_wrong_passwords_are_refused_by_name_while_a_device_is_served() -> Result<()> {
    let mut host = Host::start(FEW_FILES)?;
    let before = host.warm_up(&[PINGS, GUESSES], Duration::ZERO)?;
    let guesses = |host: &Host| -> Result<usize> {
        Ok(host.refused("bad_user_name_or_password")? + host.refused("too_many_failed_logins")?)
    };
    let (guesses_before, rate_before) = (guesses(&host)?, host.refused("packet_rate")?);
    let became = host.withstand(&[PINGS, GUESSES], LASTS, &before)?;
    assert_eq!(became.iter().map(|became| became.cut).collect::<Vec<_>>(), [0, GUESSES.1]);
    assert_eq!(guesses(&host)? - guesses_before, GUESSES.1);
    assert!(host.refused("packet_rate")? > rate_before);
    for reason in ["packet_rate", "bad_user_name_or_password", "too_many_failed_logins"] {
        host.said(&["mqtt client refused", &format!("reason=\"{reason}\"")])?;
    }
    host.stop()
}

#[test]
fn all_of_them_at_once_leave_a_device_its_place() -> Result<()> {
    const ALL: [(Flood, usize); 5] = [WAITING, QUERIES, PINGS, SILENT, GUESSES];
    let mut host = Host::start(FEW_FILES)?;
    let before = host.warm_up(&ALL, Duration::ZERO)?;
    host.withstand(&ALL, LASTS, &before)?;
    for (door, name) in [("http", "HTTP API"), ("source", "source of messages")] {
        assert!(host.all_turned_away(door)? > 0, "{door}");
        host.said(&["too many connections", &format!("door={name}")])?;
    }
    for reason in ["packet_rate", "too_many_failed_logins"] {
        assert!(host.refused(reason)? > 0, "{reason}");
        host.said(&["mqtt client refused", &format!("reason=\"{reason}\"")])?;
    }
    host.stop()
}

/// A connection is an open file, and 1,024 is the usual limit.
fn allow_open_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let enough = limit.maximum.is_none_or(|maximum| maximum >= 10_000);
    ensure!(enough, "these connections need more open files than this machine allows: ulimit -n 10000");
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
