//! Where messages come from: the built-in gateway, or a broker.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use rollcall_host::ops::Ops;
use rollcall_host::source::broker::{
    Broker, BrokerAddress, BrokerSettings, PlainTopic, RECEIVE_MAX, Slots, Transport,
};
use rollcall_host::source::gateway::Gateway;
use rollcall_host::source::{Credentials, Inbox, Source};

use super::password::password;
use super::store::Secret;

/// Flags of the source.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Where the MQTT gateway listens (5 and 3.1.1). Port 0 takes a free one.
    #[arg(
        long,
        env = "ROLLCALL_MQTT_LISTEN",
        default_value = "127.0.0.1:1883",
        value_name = "IP:PORT",
        conflicts_with = "broker"
    )]
    mqtt_listen: SocketAddr,
    /// The user name that MQTT clients must show.
    #[arg(long, env = "ROLLCALL_MQTT_USER", value_name = "NAME", conflicts_with = "broker")]
    mqtt_user: Option<String>,
    /// A file whose first line is the password that MQTT clients must show. It can also be given in the
    /// environment, as ROLLCALL_MQTT_PASSWORD.
    #[arg(long, env = "ROLLCALL_MQTT_PASSWORD_FILE", value_name = "FILE", conflicts_with = "broker")]
    mqtt_password_file: Option<PathBuf>,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Flags of a source that is a broker.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Take messages from an MQTT 5 broker instead: mqtt://[USER:PASSWORD@]HOST[:PORT], or mqtts:// for TLS.
    #[arg(long, env = "ROLLCALL_BROKER", value_name = "URL", hide_env_values = true)]
    broker: Option<Secret>,
    /// Our user name at the broker, if its URL has none.
    #[arg(long, env = "ROLLCALL_BROKER_USER", value_name = "NAME", requires = "broker")]
    broker_user: Option<String>,
    /// A file whose first line is our password at the broker. It can also be given in the environment, as
    /// ROLLCALL_BROKER_PASSWORD.
    #[arg(long, env = "ROLLCALL_BROKER_PASSWORD_FILE", value_name = "FILE", requires = "broker")]
    broker_password_file: Option<PathBuf>,
    /// A PEM file with the certificates to check the broker's with; the system's when it is not given.
    #[arg(long, env = "ROLLCALL_BROKER_CA_FILE", value_name = "FILE", requires = "broker")]
    broker_ca_file: Option<PathBuf>,
    /// Which devices to take, by their slot: 0-7, or 0-3,a,f. Workers share a fleet by disjoint slots.
    #[arg(long, env = "ROLLCALL_SLOTS", value_name = "SLOTS", requires = "broker")]
    slots: Option<Slots>,
    /// The name of our session at the broker: the same at every start, and no other worker's
    /// [default: rollcall-ingest- and the slots].
    #[arg(long, env = "ROLLCALL_CLIENT_ID", value_name = "ID", requires = "broker")]
    client_id: Option<String>,
    /// A further topic, whose messages ({"status":3}) are counted as they arrive: that of publishers which
    /// are not replaced yet.
    #[arg(long, env = "ROLLCALL_PLAIN_TOPIC", value_name = "TOPIC", requires = "broker")]
    plain_topic: Option<PlainTopic>,
    /// How many messages the broker may have delivered and not seen acknowledged. RabbitMQ's mqtt.prefetch
    /// caps it.
    #[arg(long, env = "ROLLCALL_RECEIVE_MAX", value_name = "N", requires = "broker",
          default_value_t = RECEIVE_MAX, value_parser = clap::value_parser!(u16).range(1..))]
    receive_max: u16,
}

/// What was said of a source, checked.
#[derive(Debug)]
pub(crate) enum SourceSettings {
    /// The built-in endpoint.
    Gateway {
        /// Where it listens.
        listen: SocketAddr,
        /// What clients must show, if anything.
        credentials: Option<Credentials>,
    },
    /// A broker.
    Broker(BrokerSettings),
}

impl SourceSettings {
    /// The address that it listens on, if everyone on the network can reach it and needs no password.
    pub(crate) fn door(&self) -> Option<String> {
        match self {
            Self::Gateway { listen, credentials: None } if !listen.ip().is_loopback() => {
                Some(format!("--mqtt-listen {listen}"))
            }
            _ => None,
        }
    }

    /// Sets the source up. Another one in its place listens on the same port, also where port 0 was asked for.
    ///
    /// # Errors
    /// What cannot be listened on, or read.
    pub(crate) fn set_up(&mut self, inbox: Inbox, ops: Arc<Ops>) -> anyhow::Result<Box<dyn Source>> {
        Ok(match self {
            Self::Gateway { listen, credentials } => {
                let listener = bind(*listen, "--mqtt-listen")?;
                *listen = listener.local_addr()?;
                let gateway = Gateway::bind(listener, credentials.clone(), inbox, ops);
                Box::new(gateway.context("cannot start the MQTT gateway")?)
            }
            Self::Broker(settings) => Box::new(Broker::new(settings.clone(), inbox, ops)?),
        })
    }
}

/// Listens on the address of a flag.
///
/// # Errors
/// When it is taken, or not ours; says what to do.
pub(crate) fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; name another address with {flag}, or port 0 for a free one")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl SourceArgs {
    /// The source that was asked for.
    ///
    /// # Errors
    /// Half of a credential, an unreadable file, or an address that is none.
    pub(crate) fn source(&self) -> anyhow::Result<SourceSettings> {
        match self.broker.settings()? {
            Some(broker) => Ok(SourceSettings::Broker(broker)),
            None => Ok(SourceSettings::Gateway {
                listen: self.mqtt_listen,
                credentials: self.gateway_credentials()?,
            }),
        }
    }

    fn gateway_credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let password = password("mqtt", self.mqtt_password_file.as_deref(), "ROLLCALL_MQTT_PASSWORD")?;
        match (self.mqtt_user.clone(), password) {
            (Some(user), Some(password)) => Ok(Some(Credentials { user, password })),
            (None, None) => Ok(None),
            (Some(_), None) => bail!("--mqtt-user needs --mqtt-password-file or ROLLCALL_MQTT_PASSWORD"),
            (None, Some(_)) => bail!("an MQTT password needs --mqtt-user"),
        }
    }
}

impl BrokerArgs {
    /// The broker that was asked for, if one was.
    ///
    /// # Errors
    /// Half of a credential, an unreadable file, or an address that is none.
    pub(crate) fn settings(&self) -> anyhow::Result<Option<BrokerSettings>> {
        let Some(broker) = &self.broker else { return Ok(None) };
        let address = BrokerAddress::parse(broker.text())?;
        let credentials = self.credentials()?;
        if credentials.is_some() && address.has_credentials() {
            bail!("give the broker's user and password in its URL or with --broker-user, not both");
        }
        let slots = self.slots.clone().unwrap_or_else(Slots::all);
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("rollcall-ingest-{slots}"));
        if client_id.is_empty() {
            bail!("--client-id is empty, and a session needs a name");
        }
        if self.broker_ca_file.is_some() && address.transport() == Transport::Tcp {
            bail!("--broker-ca-file is for brokers with TLS: write mqtts://");
        }
        Ok(Some(BrokerSettings {
            address: address.or_credentials(credentials),
            ca_file: self.broker_ca_file.clone(),
            slots,
            client_id,
            plain_topic: self.plain_topic.clone(),
            receive_max: self.receive_max,
        }))
    }

    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let password = password("broker", self.broker_password_file.as_deref(), "ROLLCALL_BROKER_PASSWORD")?;
        match (self.broker_user.clone(), password) {
            (Some(user), Some(password)) => Ok(Some(Credentials { user, password })),
            (None, None) => Ok(None),
            (Some(_), None) => {
                bail!("--broker-user needs --broker-password-file or ROLLCALL_BROKER_PASSWORD")
            }
            (None, Some(_)) => bail!("a broker password needs --broker-user"),
        }
    }
}
