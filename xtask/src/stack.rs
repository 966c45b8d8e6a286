//! What the demo runs beside the devices: one host with everything built in, or a broker, an ingest, a database
//! and an API, each a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::host::{HostProcess, HostSettings, Role};
use rollcall_harness::services::{Mongod, Rabbitmq, RabbitmqNode};
use rollcall_harness::{ports, wait};

const MQTT_PORT: u16 = 1883;
const HTTP_PORT: u16 = 5000;

/// What a broker acknowledged is stored within moments, unless the machine is very busy.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// Where devices publish to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BrokerChoice {
    /// The host's own endpoint.
    #[default]
    Gateway,
    /// A RabbitMQ 4.
    Rabbitmq,
}

impl FromStr for BrokerChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "gateway" => Ok(Self::Gateway),
            "rabbitmq" => Ok(Self::Rabbitmq),
            _ => Err("--broker is gateway or rabbitmq"),
        }
    }
}

/// Where messages are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StoreChoice {
    /// The embedded store.
    #[default]
    Redb,
    /// A mongod.
    Mongodb,
}

impl FromStr for StoreChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "redb" => Ok(Self::Redb),
            "mongodb" => Ok(Self::Mongodb),
            _ => Err("--store is redb or mongodb"),
        }
    }
}

/// Everything but the devices.
pub(crate) struct Stack {
    /// What answers questions.
    host: HostProcess,
    /// What stores messages, where that is a process of its own.
    ingest: Option<HostProcess>,
    mongod: Option<Mongod>,
    rabbitmq: Option<Rabbitmq>,
}

impl Stack {
    /// Builds the host; a broker and a database are fetched when they are started first.
    pub(crate) fn build(store: StoreChoice) -> Result<PathBuf> {
        // Without MongoDB's client the build takes half the time.
        let program = if store == StoreChoice::Mongodb { Program::Host } else { Program::LeanHost };
        cargo::build(program, Profile::Dev)
    }

    pub(crate) fn start(
        binary: &Path,
        dir: &Path,
        broker: BrokerChoice,
        store: StoreChoice,
        devices_file: Option<&Path>,
    ) -> Result<Self> {
        let mqtt_port = usual_or_free(MQTT_PORT, "MQTT")?;
        let rabbitmq = match broker {
            BrokerChoice::Gateway => None,
            BrokerChoice::Rabbitmq => {
                Some(Rabbitmq::start_node(RabbitmqNode::new(&folder(dir, "rabbitmq")?, mqtt_port)?)?)
            }
        };
        let mongod = match store {
            StoreChoice::Redb => None,
            StoreChoice::Mongodb => Some(Mongod::start(&folder(dir, "mongod")?)?),
        };
        let mut settings = HostSettings::new(binary, dir)?;
        settings.mqtt_port = mqtt_port;
        settings.http_port = usual_or_free(HTTP_PORT, "HTTP")?;
        settings.broker = rabbitmq.as_ref().map(Rabbitmq::url);
        settings.mongodb = mongod.as_ref().map(|mongod| mongod.url("rollcall"));
        if let Some(file) = devices_file {
            settings.arguments = vec!["--devices-file".to_owned(), file.display().to_string()];
        }
        let mut ingest = None;
        if rabbitmq.is_some() && mongod.is_some() {
            settings.role = Role::Ingest;
            ingest = Some(HostProcess::start(&settings)?);
            settings.role = Role::Api;
        }
        Ok(Self { host: HostProcess::start(&settings)?, ingest, mongod, rabbitmq })
    }

    /// What answers questions.
    pub(crate) fn host(&self) -> &HostProcess {
        &self.host
    }

    /// What runs, each with how to look into it.
    pub(crate) fn parts(&self) -> Vec<String> {
        let rabbitmq = self.rabbitmq.as_ref().map(|rabbitmq| format!("RabbitMQ at {}", rabbitmq.url()));
        let mongod = self.mongod.as_ref().map(|mongod| {
            format!("MongoDB at {} (collections entries, minutes, …; view messages)", mongod.url("rollcall"))
        });
        rabbitmq.into_iter().chain(mongod).collect()
    }

    /// Fails when a part of it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(ingest) = &mut self.ingest {
            ingest.check_alive()?;
        }
        self.host.check_alive()
    }

    /// What was counted, as soon as it is `expected`, or else what it comes to.
    pub(crate) fn counts_when(&self, expected: &StatusCounts) -> Result<StatusCounts> {
        if self.rabbitmq.is_some() {
            // A broker acknowledges what the ingest has still to fetch.
            let what = "the ingest to catch up";
            let caught_up = || Ok((self.host.all_counts()? == *expected).then_some(()));
            if let Err(late) = wait::until(what, CATCH_UP_LIMIT, caught_up) {
                eprintln!("{late:#}");
            }
        }
        self.host.all_counts()
    }

    pub(crate) fn stop(self) -> Result<()> {
        if let Some(ingest) = self.ingest {
            ingest.stop()?;
        }
        self.host.stop()?;
        match self.mongod {
            Some(mongod) => mongod.stop(),
            None => Ok(()),
        }
    }
}

fn folder(dir: &Path, name: &str) -> Result<PathBuf> {
    let folder = dir.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn usual_or_free(usual: u16, what: &str) -> Result<u16> {
    let port = ports::free_or(usual)?;
    if port != usual {
        println!("port {usual} is taken: {what} is at {port}");
    }
    Ok(port)
}

/// The two flags, as `--broker rabbitmq --store mongodb`.
pub(crate) fn flags(arguments: &mut pico_args::Arguments) -> Result<(BrokerChoice, StoreChoice)> {
    let read = |arguments: &mut pico_args::Arguments, flag: &'static str| -> Result<Option<String>> {
        Ok(arguments.opt_value_from_str(flag)?)
    };
    let broker = read(arguments, "--broker")?.map_or(Ok(BrokerChoice::default()), |text| text.parse());
    let store = read(arguments, "--store")?.map_or(Ok(StoreChoice::default()), |text| text.parse());
    match (broker, store) {
        (Ok(broker), Ok(store)) => Ok((broker, store)),
        (Err(error), _) | (_, Err(error)) => bail!(error),
    }
}
