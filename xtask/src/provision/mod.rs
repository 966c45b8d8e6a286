//! `cargo xtask provision`: writes a board's configuration into the flash sector that is kept for it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::{NonZeroU16, NonZeroU32};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use pico_args::Arguments;
use rollcall_harness::hardware_board::{self, HardwareBoard};
use rollcall_harness::workspace;
use rollcall_provision::{
    BLOCK_SIZE, Block, Broker, Host, Login, PASSWORD_MAX, Pin, SEED_SIZE, Settings, Tls,
};
use rollcall_wire::DeviceId;

use crate::help;
use crate::probe::DebugProbe;

mod intel_hex;

pub(crate) const HELP: &str = "\
Writes a board's configuration through a debug probe. It lies in a flash sector of its own, so that no secret is
in a firmware image; flashing new firmware leaves it alone.

  cargo xtask provision BOARD --broker HOST[:PORT] [options]

  BOARD                 nucleo-h563zi or w5500-evb-pico
  --broker HOST[:PORT]  IPv4 address or DNS name of the broker (port 1883 unless given, with TLS 8883)
  --device ID           1 to 32 of a-z 0-9 - _ (default: made of the chip's unique number)
  --user U --password-file F
                        the MQTT user, and the file whose first line is the password
  --credentials FILE    what `rollcall devices issue` printed: the board is the device there (--device ID says which,
                        when there are several), and logs in as it
  --tls-pin PIN         speak TLS, to a server with this public key alone, as `rollcall tls init` prints it; for
                        firmware with TLS: others refuse such a block
  --tls-pin-next PIN    the key that the server will have next; until then both are good
  --period-ms N         from one sample to the next (default 1000)
  --out FILE            write the block as Intel HEX to FILE instead of to a board, for another programmer;
                        it holds the password, and what the board makes keys of

Examples:
  cargo xtask provision nucleo-h563zi --broker broker.example
  cargo xtask provision w5500-evb-pico --broker 192.0.2.7:1883 --device porch --user fleet --password-file ./password
  cargo xtask provision w5500-evb-pico --broker 192.0.2.7:1883 --credentials ./passwords.csv --device porch
";

/// MQTT's registered port.
const DEFAULT_PORT: NonZeroU16 = NonZeroU16::new(1883).expect("1883 is not zero");

/// The registered port of MQTT over TLS.
const DEFAULT_TLS_PORT: NonZeroU16 = NonZeroU16::new(8883).expect("8883 is not zero");

const DEFAULT_PERIOD_MS: NonZeroU32 = NonZeroU32::new(1000).expect("1000 is not zero");

/// The file holds a password: for its owner only.
const OWNER_ONLY: u32 = 0o600;

/// What the command line says.
struct Options {
    board: String,
    broker: String,
    device: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    credentials: Option<PathBuf>,
    tls_pin: Option<Pin>,
    tls_pin_next: Option<Pin>,
    period_ms: NonZeroU32,
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let options = Options::read(arguments)?;
    let board = hardware_board::find(&options.board)?;
    let hex = intel_hex::encode(address(&board)?, options.block()?.as_bytes());
    match &options.out {
        Some(path) => {
            write_for_owner(path, &hex)?;
            println!("wrote {}", path.display());
        }
        None => write_to_board(&board, &hex)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn read(mut arguments: Arguments) -> Result<Self> {
        let options = Self {
            broker: arguments.value_from_str("--broker")?,
            device: arguments.opt_value_from_str("--device")?,
            user: arguments.opt_value_from_str("--user")?,
            password_file: arguments.opt_value_from_str("--password-file")?,
            credentials: arguments.opt_value_from_str("--credentials")?,
            tls_pin: arguments.opt_value_from_fn("--tls-pin", Pin::parse).context("--tls-pin")?,
            tls_pin_next: arguments
                .opt_value_from_fn("--tls-pin-next", Pin::parse)
                .context("--tls-pin-next")?,
            period_ms: arguments
                .opt_value_from_str("--period-ms")
                .context("--period-ms")?
                .unwrap_or(DEFAULT_PERIOD_MS),
            out: arguments.opt_value_from_str("--out")?,
            board: arguments.free_from_str().context("which board? cargo xtask provision BOARD")?,
        };
        help::reject_unknown(arguments, HELP)?;
        ensure!(
            options.user.is_some() == options.password_file.is_some(),
            "--user and --password-file belong together"
        );
        ensure!(
            options.user.is_none() || options.credentials.is_none(),
            "--credentials takes the place of --user and --password-file"
        );
        ensure!(
            options.tls_pin.is_some() || options.tls_pin_next.is_none(),
            "--tls-pin-next needs --tls-pin"
        );
        Ok(options)
    }

    fn block(&self) -> Result<Block> {
        let device = self.device.as_deref().map(DeviceId::new).transpose();
        let device =
            device.with_context(|| format!("--device {:?}", self.device.as_deref().unwrap_or("")))?;
        if let Some(path) = &self.credentials {
            let context = || format!("--credentials {}", path.display());
            let text = fs::read_to_string(path).with_context(context)?;
            let (device, login) = own(&text, device).with_context(context)?;
            return self.block_of(Some(device), Some(login));
        }
        let password = self.password_file.as_deref().map(first_line).transpose()?.unwrap_or_default();
        let login = self.user.as_deref().map(|user| Login::new(user, password.as_bytes())).transpose();
        self.block_of(device, login.context("--user and --password-file")?)
    }

    fn block_of(&self, device: Option<DeviceId>, login: Option<Login<'_>>) -> Result<Block> {
        let port = if self.tls_pin.is_some() { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        let broker = broker(&self.broker, port)?;
        let tls = match self.tls_pin {
            Some(pin) => Some(Tls { pin, next: self.tls_pin_next, seed: random_bytes()? }),
            None => None,
        };
        Ok(Block::encode(&Settings { broker, device, login, period_ms: self.period_ms, tls }))
    }
}

/// What the operating system makes keys of.
fn random_bytes() -> Result<[u8; SEED_SIZE]> {
    let (path, mut bytes) = ("/dev/urandom", [0; SEED_SIZE]);
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.with_context(|| format!("{path} gives no random bytes")).map(|()| bytes)
}

fn broker(text: &str, default_port: NonZeroU16) -> Result<Broker<'_>> {
    let context = || format!("--broker {text:?}: want HOST or HOST:PORT");
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().with_context(context)?),
        None => (text, default_port),
    };
    Ok(Broker { host: Host::parse(host).with_context(context)?, port })
}

/// The device that was asked for, or the only one, and what it logs in with. Of several lines the last counts: it is
/// the newest.
fn own(text: &str, device: Option<DeviceId>) -> Result<(DeviceId, Login<'_>)> {
    let mut found: Option<(DeviceId, Login<'_>)> = None;
    for issued in rollcall_provision::issued(text) {
        let (id, login) = issued?;
        if device.is_some_and(|device| device != id) {
            continue;
        }
        let is_another = found.is_some_and(|(other, _)| other != id);
        ensure!(!is_another, "there are several devices: say which with --device ID");
        found = Some((id, login));
    }
    found.with_context(|| match device {
        Some(device) => format!("there is no line for {device}"),
        None => "there is no device".to_owned(),
    })
}

fn first_line(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("--password-file {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    ensure!(
        (1..=PASSWORD_MAX).contains(&line.len()),
        "--password-file {}: the first line has to have 1 to {PASSWORD_MAX} bytes",
        path.display()
    );
    Ok(line)
}

/// Where the board looks for its block.
fn address(board: &HardwareBoard) -> Result<u32> {
    let region = board.configuration()?;
    ensure!(region.len() >= BLOCK_SIZE, "{}: the configuration's region is too small", board.name);
    Ok(region.start)
}

fn write_to_board(board: &HardwareBoard, hex: &str) -> Result<()> {
    let probe = DebugProbe::find(board)?;
    let dir = workspace::temporary_dir()?;
    let path = dir.path().join("configuration.hex");
    write_for_owner(&path, hex)?;
    // Only the sectors that the file touches are erased.
    let path = path.to_str().ok_or_else(|| anyhow!("{} is not UTF-8", path.display()))?;
    probe.run("download", &["--binary-format", "hex", path])?;
    probe.run::<&str>("reset", &[])?;
    println!("{} is provisioned and was reset", board.name);
    Ok(())
}

fn write_for_owner(path: &Path, text: &str) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(OWNER_ONLY)
        .open(path)
        .with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)
}
