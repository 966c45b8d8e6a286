//! `--mischief`: a few devices that misbehave, so that the page shows every state. Each does one thing wrong for as long
//! as the demo runs; one has a password and never comes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::mqtt::{ConnectPacket, Connection, PUBACK, Version, Will, publish};
use rollcall_wire::{DeviceId, Kind, Topic};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Those that fall silent or leave do so after so many samples.
const BEFORE: u64 = 10;

/// What [`Mischief::Late`] took in so much time comes at once, in so many samples at most.
const HELD_BACK: Duration = Duration::from_secs(120);
const UNHEARD_MAX: u128 = 1000;

/// What a device does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    /// Three of each ten of its samples never come.
    Gaps,
    /// It begins again every twenty samples.
    Reboots,
    /// It tells at once what it took in the last two minutes, when nobody heard it; then it goes on well.
    Late,
    /// It says nothing but its status.
    Bare,
    /// It stays connected and takes no more samples.
    Silent,
    /// Its connection ends without a word.
    Gone,
}

const DEVICES: [(&str, Mischief); 6] = [
    ("gaps", Mischief::Gaps),
    ("reboots", Mischief::Reboots),
    ("late", Mischief::Late),
    ("bare", Mischief::Bare),
    ("silent", Mischief::Silent),
    ("gone", Mischief::Gone),
];

/// The device that has a password and never comes.
const NEVER_SEEN: &str = "never-came";

/// The devices' passwords: only what has one can be known never to have come.
pub(super) struct Passwords {
    /// What the host reads.
    pub(super) devices_file: PathBuf,
    /// A line `id,password` a device.
    pub(super) file: PathBuf,
    of_mischief: HashMap<String, String>,
}

impl Passwords {
    /// Issues one to each well-behaved device, and to those that are not.
    pub(super) fn issue(host_binary: &Path, dir: &Path, devices: u32) -> Result<Self> {
        let (devices_file, file) = (dir.join("devices"), dir.join("passwords.csv"));
        let issue = |which: &[&str]| {
            let mut command = Command::new(host_binary);
            let output = command
                .args(["devices", "issue", "--devices-file"])
                .arg(&devices_file)
                .args(which)
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "rollcall devices issue: {said}");
            Ok(String::from_utf8(output.stdout)?)
        };
        let good = issue(&["--count", &devices.to_string(), "--prefix", "sim"])?;
        let bad = issue(&DEVICES.map(|(id, _)| id))? + &issue(&[NEVER_SEEN])?;
        fs::write(&file, good + &bad).with_context(|| file.display().to_string())?;
        let pairs = bad.lines().filter_map(|line| line.split_once(','));
        let of_mischief = pairs.map(|(id, password)| (id.to_owned(), password.to_owned())).collect();
        Ok(Self { devices_file, file, of_mischief })
    }

    /// What the well-behaved devices are told.
    pub(super) fn arguments(&self) -> [String; 2] {
        ["--credentials".to_owned(), self.file.display().to_string()]
    }
}

/// The devices that misbehave, until [`Gang::stop`].
pub(super) struct Gang(Vec<(mpsc::Sender<()>, JoinHandle<Result<StatusCounts>>)>);

impl Gang {
    /// They connect to `broker`, and take a sample each `period`.
    pub(super) fn start(broker: &str, period: Duration, passwords: &Passwords) -> Result<Self> {
        let mut gang = Vec::new();
        for (id, mischief) in DEVICES {
            let password = passwords.of_mischief.get(id).context("a password is missing")?.clone();
            let (running, stop) = mpsc::channel();
            let (broker, mut random) = (broker.to_owned(), fastrand::Rng::new());
            let device = thread::spawn(move || {
                let mut device = Device::connect(id, mischief, &broker, &password, random.u64(..))?;
                device.run(period, &mut random, &stop).with_context(|| format!("device {id}"))?;
                Ok(device.acknowledged)
            });
            gang.push((running, device));
        }
        Ok(Self(gang))
    }

    /// They take no more samples; what of them was acknowledged.
    pub(super) fn stop(self) -> Result<StatusCounts> {
        let mut acknowledged = StatusCounts::default();
        for (running, device) in self.0 {
            drop(running);
            acknowledged += device.join().map_err(|_| anyhow!("a device that misbehaves panicked"))??;
        }
        Ok(acknowledged)
    }
}

struct Device {
    id: DeviceId,
    mischief: Mischief,
    boot: u64,
    connection: Option<Connection>,
    acknowledged: StatusCounts,
}

impl Device {
    fn connect(id: &str, mischief: Mischief, broker: &str, password: &str, boot: u64) -> Result<Self> {
        let id = DeviceId::new(id).map_err(|error| anyhow!("{id}: {error}"))?;
        let mut connection = Connection::open(broker, PATIENCE)?;
        let presence = Topic { device: id, kind: Kind::Presence }.name();
        let will = Will { qos: 1, retain: false, properties: &[], topic: &presence, payload: b"offline" };
        // Those that fall silent do not ping either.
        connection.connect(&ConnectPacket {
            keep_alive_s: 0,
            will: Some(will),
            login: Some((id.as_str(), password)),
            ..ConnectPacket::new(Version::V5, id.as_str())
        })?;
        Ok(Self { id, mischief, boot, connection: Some(connection), acknowledged: StatusCounts::default() })
    }

    /// Takes samples until nobody holds the other end of `stop`.
    fn run(&mut self, period: Duration, random: &mut fastrand::Rng, stop: &mpsc::Receiver<()>) -> Result<()> {
        let mut number = 0;
        if self.mischief == Mischief::Late {
            let unheard = HELD_BACK.as_millis().div_ceil(period.as_millis()).min(UNHEARD_MAX);
            for before in (1..=unheard).rev() {
                self.tell(number, random.u8(..7), period.as_millis() * before)?;
                number += 1;
            }
        }
        let start = Instant::now();
        for tick in 0.. {
            let wait = (start + period * tick).saturating_duration_since(Instant::now());
            if stop.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                return Ok(());
            }
            match self.mischief {
                Mischief::Gaps if (3..6).contains(&(number % 10)) => {}
                Mischief::Silent if number >= BEFORE => {}
                Mischief::Gone if number >= BEFORE => drop(self.connection.take()),
                _ => self.tell(number, random.u8(..7), 0)?,
            }
            number += 1;
            if self.mischief == Mischief::Reboots && number == 2 * BEFORE {
                (self.boot, number) = (random.u64(..), 0);
            }
        }
        Ok(())
    }

    /// Publishes a sample that is so old, until it is acknowledged.
    fn tell(&mut self, number: u64, status: u8, age_ms: u128) -> Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let payload = match self.mischief {
            Mischief::Bare => format!(r#"{{"status":{status}}}"#),
            _ => {
                let boot = self.boot;
                format!(r#"{{"status":{status},"seq":{number},"boot":"{boot:016x}","age_ms":{age_ms}}}"#)
            }
        };
        let topic = Topic { device: self.id, kind: Kind::Status }.name();
        connection.send(&publish(Version::V5, 1, &topic, payload.as_bytes(), None))?;
        let answer = connection.receive()?;
        let is_good = answer.as_ref().is_some_and(|answer| answer.kind() == PUBACK && answer.reason() == 0);
        ensure!(is_good, "{payload} was answered with {answer:02x?}");
        self.acknowledged.0[usize::from(status)] += 1;
        Ok(())
    }
}
