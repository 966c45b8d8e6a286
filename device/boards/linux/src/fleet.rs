//! The devices of this process: how each is set up, how they are started and what they say.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_executor::{LocalExecutor, Task};
use async_io::Timer;
use embedded_nal_async::TcpConnect;
use rand::rngs::{OsRng, SmallRng};
use rand::{RngCore, SeedableRng, TryRngCore};
use rollcall_device::{
    Board, BootId, Clock, Config, Credentials, DeviceId, Emitter, RandomSensor, Snapshot, Stats,
};
use rollcall_device_tls::{Pins, TlsConnect, Tunnel, engine};
use std_embedded_nal_async::Stack;

use crate::cli::{Args, Net};
use crate::clock::ProcessClock;
use crate::limits;
use crate::report::Totals;
use crate::stop::Stop;
use crate::tap::Tap;

/// From one line of progress to the next.
const PROGRESS_PERIOD: Duration = Duration::from_secs(5);

/// What all devices of the process have in common.
pub(crate) struct Fleet {
    /// The devices, and what each logs in with.
    devices: Vec<(DeviceId, Option<Rc<Login>>)>,
    net: Net,
    broker: SocketAddr,
    pins: Option<Pins>,
    period_ms: NonZeroU32,
    seed: u64,
    seconds: Option<u64>,
}

struct Login {
    user: String,
    password: String,
}

impl Fleet {
    /// Checks what the command line says.
    pub(crate) fn new(args: Args) -> Result<Self> {
        let (ids, broker, pins) = (args.device_ids()?, args.broker()?, args.pins()?);
        limits::allow_sockets(args.devices.get())?;
        let devices = match &args.credentials {
            Some(path) => {
                own_logins(ids, path).with_context(|| format!("--credentials {}", path.display()))?
            }
            None => {
                let password = args.password()?;
                let login = args.user.clone().map(|user| Rc::new(Login { user, password }));
                ids.into_iter().map(|id| (id, login.clone())).collect()
            }
        };
        for login in devices.iter().filter_map(|(_, login)| login.as_deref()) {
            Credentials::new(&login.user, login.password.as_bytes())?;
        }
        let seed = match args.seed {
            Some(seed) => seed,
            None => entropy()?,
        };
        eprintln!("{} devices to {broker}, seed {seed}", args.devices);
        Ok(Self {
            devices,
            net: args.net,
            broker,
            pins,
            period_ms: args.period_ms,
            seed,
            seconds: args.seconds.map(Into::into),
        })
    }

    /// How long to sample; `None` is until a signal.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs)
    }

    /// Starts every device, their first samples spread evenly over a period.
    pub(crate) fn start(
        &self,
        executor: &LocalExecutor<'_>,
        clock: ProcessClock,
        stop: &Rc<Stop>,
    ) -> Result<Running> {
        match self.net {
            Net::Sockets => {
                let net = Box::leak(Box::new(Stack::default()));
                self.start_over(net, self.broker, executor, clock, stop)
            }
            Net::Tap => {
                let Tap { net, broker } = Tap::start(executor, self.devices.len(), self.broker)?;
                self.start_over(net, broker, executor, clock, stop)
            }
        }
    }

    fn start_over(
        &self,
        net: &'static impl TcpConnect,
        broker: SocketAddr,
        executor: &LocalExecutor<'_>,
        clock: ProcessClock,
        stop: &Rc<Stop>,
    ) -> Result<Running> {
        let (mut tasks, mut stats) = (Vec::new(), Vec::new());
        let count = self.devices.len() as u64;
        for (index, (id, login)) in (0u64..).zip(&self.devices) {
            let device = Device {
                id: *id,
                // Never from the seed: the host would take a second run for redeliveries of the first.
                boot: BootId(entropy()?),
                rng: SmallRng::seed_from_u64(self.seed.wrapping_add(index)),
                start_at_ms: clock.now_ms() + index * u64::from(self.period_ms.get()) / count,
                broker,
                pins: self.pins,
                period_ms: self.period_ms,
                login: login.clone(),
                stats: Rc::default(),
            };
            stats.push(Rc::clone(&device.stats));
            tasks.push(executor.spawn(device.run(net, clock, Rc::clone(stop))));
        }
        Ok(Running { tasks, stats: stats.into() })
    }
}

/// Each device with the login that it was issued; of several lines the last counts.
fn own_logins(ids: Vec<DeviceId>, path: &Path) -> Result<Vec<(DeviceId, Option<Rc<Login>>)>> {
    let text = fs::read_to_string(path)?;
    let issued = rollcall_provision::issued(&text).collect::<Result<HashMap<_, _>, _>>()?;
    let own = |id: DeviceId| {
        let login = issued.get(&id).with_context(|| format!("there is no line for {id}"))?;
        let password = str::from_utf8(login.password())?.to_owned();
        Ok((id, Some(Rc::new(Login { user: login.user().to_owned(), password }))))
    };
    ids.into_iter().map(own).collect()
}

/// 64 bits from the operating system.
fn entropy() -> Result<u64> {
    OsRng.try_next_u64().context("the operating system gave no random number")
}

struct Device {
    id: DeviceId,
    boot: BootId,
    rng: SmallRng,
    start_at_ms: u64,
    broker: SocketAddr,
    pins: Option<Pins>,
    period_ms: NonZeroU32,
    login: Option<Rc<Login>>,
    stats: Rc<Stats>,
}

impl Device {
    async fn run(self, net: &impl TcpConnect, clock: ProcessClock, stop: Rc<Stop>) -> Snapshot {
        let Some(pins) = self.pins else { return self.run_over(net, clock, stop).await };
        let tunnel: Tunnel = Tunnel::new();
        // What the system gave at the start it will give again.
        let engine = pin!(engine(&tunnel, pins, OsRng.unwrap_err()));
        self.run_over(&TlsConnect::new(net, &tunnel, engine), clock, stop).await
    }

    async fn run_over(mut self, net: &impl TcpConnect, clock: ProcessClock, stop: Rc<Stop>) -> Snapshot {
        let mut config = Config::new(self.id, self.boot, self.broker);
        config.period_ms = self.period_ms;
        // The lengths were checked when the fleet was set up.
        config.credentials = self
            .login
            .as_deref()
            .and_then(|login| Credentials::new(&login.user, login.password.as_bytes()).ok());
        let mut sensor = RandomSensor(SmallRng::seed_from_u64(self.rng.next_u64()));
        let board = Board { net, clock: &clock, rng: &mut self.rng, sensor: &mut sensor };
        let mut emitter: Emitter<'_> = Emitter::new(config, &self.stats);
        clock.sleep_until(self.start_at_ms).await;
        emitter.run(board, stop.requested()).await
    }
}

/// The started devices.
pub(crate) struct Running {
    tasks: Vec<Task<Snapshot>>,
    stats: Rc<[Rc<Stats>]>,
}

impl Running {
    /// Says every few seconds how it goes, until it is dropped.
    pub(crate) fn progress(&self) -> impl Future<Output = ()> + 'static {
        let stats = Rc::clone(&self.stats);
        async move {
            let mut before = 0;
            loop {
                Timer::after(PROGRESS_PERIOD).await;
                let totals = stats.iter().fold(Totals::default(), |sum, device| sum.add(&device.snapshot()));
                let rate = (totals.acknowledged - before) / PROGRESS_PERIOD.as_secs();
                before = totals.acknowledged;
                eprintln!(
                    "connected {}/{}, {rate} acknowledged/s, outbox {}, dropped {}, refused {}",
                    totals.connected, totals.devices, totals.outbox, totals.dropped, totals.refused
                );
            }
        }
    }

    /// Waits until every device has stopped.
    pub(crate) async fn finish(self) -> Totals {
        let mut totals = Totals::default();
        for task in self.tasks {
            totals = totals.add(&task.await);
        }
        totals
    }
}
