//! Where messages come from: the built-in gateway, or a broker.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use rollcall_host::credentials::{Credentials, Devices, Live, Rereader};
use rollcall_host::ops::Ops;
use rollcall_host::source::broker::{
    Broker, BrokerAddress, BrokerAddressError, BrokerSettings, PlainTopic, RECEIVE_MAX, Slots, Transport,
};
use rollcall_host::source::gateway::{Gateway, Listeners};
use rollcall_host::source::{Admission, Inbox, Source};
use rollcall_host::tls::Certificates;
use rustls::ServerConfig;
use socket2::SockRef;

use super::ListenAddress;
use super::password::{password, warn_of_readers};
use super::store::Secret;

const MQTT_LISTEN: &str = "--mqtt-listen";
const MQTT_TLS_LISTEN: &str = "--mqtt-tls-listen";

/// How many connections may wait to be taken; Linux takes no more than net.core.somaxconn, by default as many.
const BACKLOG: i32 = 4_096;

/// A password for all that is shorter is not for a network: characters.
const PASSWORD_MIN: usize = 12;

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
    /// Where it listens with TLS (MQTT's port is 8883); needs --tls-cert and --tls-key.
    #[arg(
        long,
        env = "ROLLCALL_MQTT_TLS_LISTEN",
        value_name = "IP:PORT",
        conflicts_with = "broker",
        requires = "tls_cert"
    )]
    mqtt_tls_listen: Option<SocketAddr>,
    /// The user name that MQTT clients must show; who does may publish for every device.
    #[arg(long, env = "ROLLCALL_MQTT_USER", value_name = "NAME", conflicts_with = "broker")]
    mqtt_user: Option<String>,
    /// A file whose first line is the password that MQTT clients must show. It can also be given in the
    /// environment, as ROLLCALL_MQTT_PASSWORD.
    #[arg(long, env = "ROLLCALL_MQTT_PASSWORD_FILE", value_name = "FILE", conflicts_with = "broker")]
    mqtt_password_file: Option<PathBuf>,
    /// A file of devices and the hashes of their passwords, as rollcall devices issue writes it: each device logs in
    /// with its id as user name, and may publish for itself only. It is read again when it changes.
    #[arg(long, env = "ROLLCALL_DEVICES_FILE", value_name = "FILE", conflicts_with = "broker")]
    devices_file: Option<PathBuf>,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Flags of a source that is a broker.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Take messages from an MQTT 5 broker instead: mqtt://[USER:PASSWORD@]HOST[:PORT], or mqtts:// for TLS. Given
    /// several times, for the nodes of a cluster, they are tried in turn until one takes us; in the environment, spaces
    /// part them.
    #[arg(long, env = "ROLLCALL_BROKER", value_name = "URL", hide_env_values = true)]
    broker: Vec<Secret>,
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
        /// Where it listens without TLS.
        listen: SocketAddr,
        /// Where with TLS, and how it answers there.
        tls: Option<(SocketAddr, Arc<ServerConfig>)>,
        /// Whom it lets in.
        admission: Admission,
        /// What reads the devices file again, until it is started.
        devices: Option<Rereader<Devices>>,
    },
    /// A broker.
    Broker(BrokerSettings),
}

impl SourceSettings {
    /// What it listens on.
    pub(crate) fn listens_on(&self) -> Vec<ListenAddress> {
        let Self::Gateway { listen, tls, admission, .. } = self else { return Vec::new() };
        let locked = !admission.is_open();
        let plain = ListenAddress { flag: MQTT_LISTEN, address: *listen, tls: false, locked };
        let tls = tls.as_ref().map(|(address, _)| ListenAddress {
            flag: MQTT_TLS_LISTEN,
            address: *address,
            tls: true,
            locked,
        });
        [plain].into_iter().chain(tls).collect()
    }

    /// The devices that may come, if each has a credential of its own.
    pub(crate) fn issued(&self) -> Option<Live<Devices>> {
        let Self::Gateway { admission, .. } = self else { return None };
        admission.devices.clone()
    }

    /// Sets the source up. Another one in its place listens on the same port, also where port 0 was asked for.
    ///
    /// # Errors
    /// What cannot be listened on, or read.
    pub(crate) fn set_up(&mut self, inbox: Inbox, ops: Arc<Ops>) -> anyhow::Result<Box<dyn Source>> {
        Ok(match self {
            Self::Gateway { listen, tls, admission, devices } => {
                if let Some(devices) = devices.take() {
                    devices.start(ops.clone()).context("cannot watch the devices file")?;
                }
                let plain = bind(*listen, MQTT_LISTEN)?;
                *listen = plain.local_addr()?;
                let mut listeners = Listeners::from(plain);
                if let Some((listen, config)) = tls {
                    let listener = bind(*listen, MQTT_TLS_LISTEN)?;
                    *listen = listener.local_addr()?;
                    listeners.tls = Some((listener, config.clone()));
                }
                let gateway = Gateway::bind(listeners, admission.clone(), inbox, ops);
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
    // The standard library's 128 are full at once when a fleet comes back: who finds no room tries again after 1 s, then 2.
    SockRef::from(&listener).listen(BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl SourceArgs {
    /// The source that was asked for.
    ///
    /// # Errors
    /// Half of a credential, an unreadable file, or an address that is none.
    pub(crate) fn source(&self, certificates: Option<&Arc<Certificates>>) -> anyhow::Result<SourceSettings> {
        match self.broker.settings()? {
            Some(broker) => Ok(SourceSettings::Broker(broker)),
            None => self.gateway(certificates),
        }
    }

    fn gateway(&self, certificates: Option<&Arc<Certificates>>) -> anyhow::Result<SourceSettings> {
        let (listen, fleet) = (self.mqtt_listen, self.fleet_credentials()?);
        let short = fleet.as_ref().is_some_and(|fleet| fleet.password.chars().count() < PASSWORD_MIN);
        let beyond = [Some(listen), self.mqtt_tls_listen];
        let beyond = beyond.into_iter().flatten().find(|address| !address.ip().is_loopback());
        if let Some(address) = beyond.filter(|_| short) {
            bail!(
                "the MQTT password has fewer than {PASSWORD_MIN} characters, and everyone who can reach {address} could \
                 try: give a longer one, or each device its own with --devices-file"
            );
        }
        let (devices, rereader) = match &self.devices_file {
            Some(file) => {
                let (devices, rereader) = Live::open(file).context("--devices-file")?;
                warn_of_readers("devices file", file);
                (Some(devices), Some(rereader))
            }
            None => (None, None),
        };
        let tls = self.mqtt_tls_listen.zip(certificates.map(|certificates| certificates.for_mqtt()));
        Ok(SourceSettings::Gateway {
            listen,
            tls,
            admission: Admission { fleet, devices },
            devices: rereader,
        })
    }

    fn fleet_credentials(&self) -> anyhow::Result<Option<Credentials>> {
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
        if self.broker.is_empty() {
            return Ok(None);
        }
        let texts = self.broker.iter().flat_map(|broker| broker.text().split_whitespace());
        let brokers = texts.map(BrokerAddress::parse).collect::<Result<Vec<_>, _>>()?;
        if brokers.is_empty() {
            return Err(BrokerAddressError::Scheme.into());
        }
        let credentials = self.credentials()?;
        if credentials.is_some() && brokers.iter().any(BrokerAddress::has_credentials) {
            bail!("give the broker's user and password in its URL or with --broker-user, not both");
        }
        let slots = self.slots.clone().unwrap_or_else(Slots::all);
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("rollcall-ingest-{slots}"));
        if client_id.is_empty() {
            bail!("--client-id is empty, and a session needs a name");
        }
        let with_tls = brokers.iter().any(|broker| broker.transport() == Transport::Tls);
        if self.broker_ca_file.is_some() && !with_tls {
            bail!("--broker-ca-file is for brokers with TLS: write mqtts://");
        }
        Ok(Some(BrokerSettings {
            brokers: brokers.into_iter().map(|broker| broker.or_credentials(credentials.clone())).collect(),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpStream;
    use std::time::Duration;

    use clap::Parser;
    use rollcall_host::credentials::{Device, Secret};

    use super::super::CertificateArgs;
    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        source: SourceArgs,
        #[command(flatten)]
        _certificate: CertificateArgs,
    }

    /// A gateway on the network with these flags.
    fn beyond_loopback(flags: &[&str]) -> anyhow::Result<SourceSettings> {
        let all = ["serve", "--mqtt-listen", "0.0.0.0:1883"].iter().chain(flags);
        Flags::try_parse_from(all).unwrap().source.source(None)
    }

    #[test]
    fn three_hundred_connections_may_wait_to_be_taken() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), MQTT_LISTEN).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap();
        let _waiting: Vec<_> = (0..300).map(connect).collect();
    }

    #[test]
    fn a_password_for_all_that_is_short_is_not_for_a_network() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let flags = ["--mqtt-user", "fleet", "--mqtt-password-file", file.to_str().unwrap()];
        fs::write(&file, "elevenchars\n").unwrap();
        let error = beyond_loopback(&flags).unwrap_err().to_string();
        assert!(error.contains("fewer than 12") && error.contains("--devices-file"), "{error}");
        assert!(!error.contains("elevenchars"), "{error}");
        let on_this_machine = [&flags[..], &["--mqtt-listen", "[::1]:1883"]].concat();
        let on_this_machine = ["serve"].iter().chain(&on_this_machine);
        assert!(Flags::try_parse_from(on_this_machine).unwrap().source.source(None).is_ok());
        fs::write(&file, "twelve chars\n").unwrap();
        assert!(beyond_loopback(&flags).is_ok());
    }

    #[test]
    fn devices_with_passwords_close_the_door_and_a_file_that_makes_no_sense_opens_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("devices");
        let flags = ["--devices-file", file.to_str().unwrap()];
        assert!(format!("{:#}", beyond_loopback(&flags).unwrap_err()).contains(file.to_str().unwrap()));
        let device = Device::new("porch".parse().unwrap(), &Secret::random().unwrap()).unwrap();
        fs::write(&file, format!("{device}\n")).unwrap();
        let locked = |flags| beyond_loopback(flags).unwrap().listens_on()[0].locked;
        assert!(locked(&flags) && !locked(&[]));
        fs::write(&file, "porch\n").unwrap();
        assert!(format!("{:#}", beyond_loopback(&flags).unwrap_err()).contains("line 1"));
    }

    #[test]
    fn several_brokers_are_named_by_flags_or_by_spaces_and_share_user_and_password() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "secret\n").unwrap();
        let login = ["--broker-user", "ingest", "--broker-password-file", file.to_str().unwrap()];
        let settings = |brokers: &[&str]| {
            let flags = brokers.iter().flat_map(|broker| ["--broker", broker]).chain(login);
            Flags::try_parse_from(["serve"].into_iter().chain(flags)).unwrap().source.source(None)
        };
        for brokers in [&["mqtt://a", "mqtts://[::1]"][..], &["mqtt://a  mqtts://[::1]"]] {
            let SourceSettings::Broker(settings) = settings(brokers).unwrap() else { panic!("a gateway") };
            assert_eq!(format!("{:?}", settings.brokers), "[mqtt://a:1883, mqtts://[::1]:8883]");
            assert!(settings.brokers.iter().all(BrokerAddress::has_credentials));
        }
        for brokers in [&["mqtt://a", "mqtt://me:too@b"][..], &[""], &["mqtt://a", "b"]] {
            let error = settings(brokers).unwrap_err().to_string();
            assert!(!error.contains("too@"), "{error}");
        }
    }
}
