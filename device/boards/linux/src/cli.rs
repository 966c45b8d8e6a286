//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use rollcall_device::{Config, DeviceId};
use rollcall_device_tls::Pins;
use rollcall_provision::Pin;

/// Where the password may stand besides a file. An argument would show in the list of processes.
const PASSWORD_VARIABLE: &str = "ROLLCALL_DEVICE_PASSWORD";

/// Runs Rollcall devices as a Linux process: each samples a random status every period and publishes it
/// over MQTT 5 until it is acknowledged.
///
/// SIGINT, SIGTERM or the end of --seconds stops the sampling and drains what is left, for 30 seconds at
/// most. The last line on stdout is then a JSON object with the totals. The exit status is 0 when every
/// sample was acknowledged or is in a drop counter, 3 when some are still unsent.
#[derive(Debug, Parser)]
#[command(name = "rollcall-device-linux", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the broker listens, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT")]
    broker: String,
    /// The network stack: the kernel's, or smoltcp on a TAP interface that this process makes
    #[arg(long, value_enum, default_value_t = Net::Sockets)]
    pub(crate) net: Net,
    /// How many devices to be
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) devices: NonZeroU32,
    /// The devices are called PREFIX-0, PREFIX-1, ...
    #[arg(long, value_name = "PREFIX", default_value = "sim")]
    device_id: String,
    /// From one sample to the next, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = Config::DEFAULT_PERIOD_MS)]
    pub(crate) period_ms: NonZeroU32,
    /// Makes the statuses repeatable; drawn and printed if absent
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Stop after so many seconds
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<NonZeroU64>,
    /// MQTT user; the password comes from --password-file or ROLLCALL_DEVICE_PASSWORD
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The file whose first line is the MQTT password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// What `rollcall devices issue` printed: each device logs in as itself, with its own password
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "password_file"])]
    pub(crate) credentials: Option<PathBuf>,
    /// Speak TLS, to a server with this public key alone, as `rollcall tls init` prints it
    #[arg(long, value_name = "PIN", value_parser = Pin::parse)]
    tls_pin: Option<Pin>,
    /// The key that the server will have next; until then both are good
    #[arg(long, value_name = "PIN", value_parser = Pin::parse, requires = "tls_pin")]
    tls_pin_next: Option<Pin>,
}

const EXAMPLES: &str = "\
Examples:
  One device, one sample a second, until Ctrl-C:
    rollcall-device-linux --broker 127.0.0.1:1883
  A thousand devices for a minute, with repeatable statuses:
    rollcall-device-linux --broker 127.0.0.1:1883 --devices 1000 --seconds 60 --seed 7
  The firmware's own TCP/IP stack, on a TAP interface (needs CAP_NET_ADMIN):
    sudo rollcall-device-linux --broker 127.0.0.1:1883 --net tap
  With a user:
    rollcall-device-linux --broker broker.example:1883 --user fleet --password-file ./password
  A hundred devices, each as itself:
    rollcall devices issue --devices-file ./devices --count 100 --prefix sim > passwords.csv
    rollcall-device-linux --broker broker.example:1883 --devices 100 --credentials passwords.csv
  Over TLS, with what `rollcall tls init` printed after \"pin\":
    rollcall-device-linux --broker broker.example:8883 --tls-pin BJ2P...";

/// A network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Net {
    /// The kernel's.
    Sockets,
    /// smoltcp on a TAP interface.
    Tap,
}

impl Args {
    /// The broker's address. Of several, an IPv4 one: `localhost` is often both, and brokers listen on
    /// 127.0.0.1.
    pub(crate) fn broker(&self) -> Result<SocketAddr> {
        let found = self.broker.to_socket_addrs();
        let context = || format!("--broker {}: want HOST:PORT, as in 127.0.0.1:1883", self.broker);
        let mut addresses: Vec<_> = found.with_context(context)?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.first().copied().with_context(context)
    }

    /// The devices' ids, stable from run to run.
    pub(crate) fn device_ids(&self) -> Result<Vec<DeviceId>> {
        let id = |index| {
            let id = format!("{}-{index}", self.device_id);
            DeviceId::new(&id).with_context(|| format!("--device-id {} makes {id:?}", self.device_id))
        };
        (0..self.devices.get()).map(id).collect()
    }

    /// Whom to believe over TLS; `None` is without TLS.
    pub(crate) fn pins(&self) -> Result<Option<Pins>> {
        let bytes = |pin: &Pin| *pin.as_bytes();
        let pins =
            self.tls_pin.as_ref().map(|pin| Pins::new(bytes(pin), self.tls_pin_next.as_ref().map(bytes)));
        pins.transpose().context("--tls-pin")
    }

    /// The password: empty without a user.
    pub(crate) fn password(&self) -> Result<String> {
        if let Some(path) = &self.password_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("--password-file {}", path.display()))?;
            return Ok(text.lines().next().unwrap_or_default().to_owned());
        }
        let password = std::env::var(PASSWORD_VARIABLE).unwrap_or_default();
        ensure!(
            self.user.is_none() || !password.is_empty(),
            "--user needs --password-file or {PASSWORD_VARIABLE}"
        );
        Ok(password)
    }
}
