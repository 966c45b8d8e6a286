//! The two tasks of a board: the network stack's, and that of emitter, watchdog and lamp.

use core::convert::Infallible;
use core::future::pending;
use core::net::{Ipv4Addr, SocketAddr};
#[cfg(feature = "tls")]
use core::pin::pin;

use defmt::{error, info};
#[cfg(feature = "tls")]
use embassy_futures::join::join;
use embassy_futures::join::join3;
use embassy_net::driver::Driver;
use embassy_net::tcp::client::{TcpClient, TcpClientState};
use embassy_net::{Runner, Stack, StackResources};
use embassy_time::Timer;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use rollcall_device::clock::Continued;
use rollcall_device::config::OUTBOX_CAPACITY;
use rollcall_device::{
    BootId, Clock, Config, Credentials, DeviceId, Emitter, RandomSensor, RunId, Sampler, Stats,
};
#[cfg(feature = "tls")]
use rollcall_device_tls::{TlsConnect, Tunnel, engine};
use rollcall_provision::{Login, PASSWORD_MAX, Settings, USER_MAX};

use crate::broker::{Dialer, RX_SIZE, TX_SIZE};
use crate::clock::EmbassyClock;
#[cfg(feature = "tls")]
use crate::interrupt;
use crate::lamp::{STEP_MS, Signal};
use crate::memory::Memory;
use crate::progress::Progress;
#[cfg(feature = "tls")]
use crate::tls::Trust;

/// Sockets of a stack: the emitter's connection, DHCP and DNS.
const SOCKETS: usize = 3;

/// Connections at once: the emitter drops one before it makes the next.
const CONNECTIONS: usize = 1;

const _: () = assert!(
    USER_MAX <= rollcall_device::config::USER_MAX && PASSWORD_MAX <= rollcall_device::config::PASSWORD_MAX,
    "the emitter must take every login that a block can hold"
);

/// Sampler and session are one task.
#[cfg(not(feature = "tls"))]
type Sharing = rollcall_device::OneTask;

/// The sampler interrupts the session, which calculates for a long time at a handshake.
#[cfg(feature = "tls")]
type Sharing = rollcall_device::TwoTasks;

/// A board's emitter.
pub type NodeEmitter<'a> = Emitter<'a, OUTBOX_CAPACITY, Sharing>;

/// The half of it that samples.
pub type NodeSampler<'a> = Sampler<'a, OUTBOX_CAPACITY, Sharing>;

/// Its clock, which may go on from that of an earlier boot.
pub type NodeClock = Continued<EmbassyClock>;

/// Its sensor.
pub type NodeSensor = RandomSensor<SmallRng>;

/// From one line of counters to the next, in milliseconds.
const REPORT_PERIOD_MS: u64 = 60_000;

/// From one complaint about missing settings to the next, in milliseconds.
const COMPLAINT_PERIOD_MS: u64 = 5_000;

/// What a board does for the task.
pub struct Hardware<F, L> {
    /// Feeds the watchdog.
    pub feed: F,
    /// Turns the status lamp on or off.
    pub light: L,
}

/// The memory of a network stack.
pub struct Network {
    resources: StackResources<SOCKETS>,
    connections: TcpClientState<CONNECTIONS, TX_SIZE, RX_SIZE>,
}

/// A network stack as the emitter uses it.
pub struct Sockets<'a> {
    stack: Stack<'a>,
    connections: &'a TcpClientState<CONNECTIONS, TX_SIZE, RX_SIZE>,
}

impl Network {
    /// Unused memory.
    pub const fn new() -> Self {
        Self { resources: StackResources::new(), connections: TcpClientState::new() }
    }

    /// A network stack over `driver` that asks for an address by DHCP. Its ports and sequence numbers come from
    /// `seed`, which is to be from hardware.
    ///
    /// The runner must run in a task of its own: the emitter's sockets wake it whenever they are looked at, so that
    /// in one task with it the emitter would wake itself for ever.
    pub fn start<D: Driver>(&mut self, driver: D, seed: u64) -> (Sockets<'_>, Runner<'_, D>) {
        let Self { resources, connections } = self;
        let dhcp = embassy_net::Config::dhcpv4(Default::default());
        let (stack, runner) = embassy_net::new(driver, dhcp, resources, seed);
        (Sockets { stack, connections }, runner)
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

/// Who publishes what to whom.
pub struct Node<'a> {
    /// What the board was told.
    pub settings: Settings<'a>,
    /// Who it is when it was not told.
    pub identity: DeviceId,
    /// 64 bits that no other boot has drawn, from hardware; a memory may know an earlier one to go on under.
    pub boot: BootId,
    /// Seeds waits and the demonstration's sensor; from hardware.
    pub seed: u64,
    /// Whom to believe, and what to make keys of.
    #[cfg(feature = "tls")]
    pub trust: Trust,
}

impl<'a> Node<'a> {
    /// Runs for ever, with samples that outlast a reset in `memory`.
    pub async fn run(
        self,
        sockets: Sockets<'_>,
        hardware: Hardware<impl FnMut(), impl FnMut(bool)>,
        mut memory: impl Memory,
    ) -> Infallible {
        let clock = Continued::new(EmbassyClock, memory.last_ms());
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let Sockets { stack, connections } = sockets;
        let stats = Stats::zero();
        let client = TcpClient::new(stack, connections);
        let dialer = Dialer { client, stack, host: self.settings.broker.host };
        let mut sensor = RandomSensor(SmallRng::seed_from_u64(rng.next_u64()));
        let config = self.config(memory.boot());
        info!("{} publishes every {} ms", config.device.as_str(), config.period_ms.get());
        let mut emitter: NodeEmitter<'_> = Emitter::new(config, &stats);
        if memory.restore(&mut emitter).await.is_err() {
            // The watchdog is not fed from here on, so that the board is reset and tries again.
            defmt::panic!("the outbox in flash cannot be read");
        }
        let restored = stats.snapshot().outbox;
        if restored > 0 {
            info!("{} samples of before the reset are still to be sent", restored);
        }
        #[cfg(not(feature = "tls"))]
        let emit = {
            let (net, clock, rng, sensor) = (&dialer, &clock, &mut rng, &mut sensor);
            emitter.run_with(rollcall_device::Board { net, clock, rng, sensor }, &mut memory, pending())
        };
        #[cfg(feature = "tls")]
        let tunnel: Tunnel = Tunnel::new();
        #[cfg(feature = "tls")]
        let engine = pin!(engine(&tunnel, self.trust.pins, self.trust.generator));
        #[cfg(feature = "tls")]
        let emit = async {
            let net = TlsConnect::new(&dialer, &tunnel, engine);
            let (sampler, sender) = emitter.split();
            let sample = memory.sample(sampler, &clock, &mut sensor);
            join(interrupt::run(sample), sender.run(&net, &clock, &mut rng)).await;
        };
        join3(emit, look_after(hardware, &stats, stack, self.settings), report(&stats, stack)).await;
        // None of the three ends.
        pending().await
    }

    /// Where an earlier boot goes on, what was drawn at this reset names the run.
    fn config(&self, earlier: Option<BootId>) -> Config<'a> {
        let Settings { broker, device, login, period_ms, .. } = &self.settings;
        // The dialer knows the host; the emitter needs a port only.
        let broker = SocketAddr::from((Ipv4Addr::UNSPECIFIED, broker.port.get()));
        let mut config = Config::new(device.unwrap_or(self.identity), earlier.unwrap_or(self.boot), broker);
        config.run = earlier.map(|_| RunId(self.boot.0));
        config.period_ms = *period_ms;
        config.credentials = login.as_ref().and_then(credentials);
        config
    }
}

/// Never `None`: the lengths are compared above.
fn credentials<'a>(login: &Login<'a>) -> Option<Credentials<'a>> {
    Credentials::new(login.user(), login.password()).ok()
}

/// Feeds the watchdog while the emitter gets on, and shows how it goes.
async fn look_after(
    mut hardware: Hardware<impl FnMut(), impl FnMut(bool)>,
    stats: &Stats<Sharing>,
    stack: Stack<'_>,
    settings: Settings<'_>,
) {
    let mut progress = Progress::new(settings.period_ms, EmbassyClock.now_ms());
    let mut was_alive = true;
    loop {
        let (now_ms, snapshot) = (EmbassyClock.now_ms(), stats.snapshot());
        let is_alive = progress.is_alive(&snapshot, now_ms);
        if is_alive {
            (hardware.feed)();
        } else if was_alive {
            error!("the emitter does nothing any more; the watchdog will reset the board");
        }
        was_alive = is_alive;
        (hardware.light)(Signal::of(snapshot.state, stack.is_config_up()).is_lit(now_ms));
        Timer::after_millis(STEP_MS).await;
    }
}

/// Logs the address when there is one, and the counters every now and then.
async fn report(stats: &Stats<Sharing>, stack: Stack<'_>) {
    info!("waiting for a link and an address by DHCP");
    stack.wait_config_up().await;
    if let Some(config) = stack.config_v4() {
        info!("address {}, DNS {}", config.address, config.dns_servers.as_slice());
    }
    loop {
        Timer::after_millis(REPORT_PERIOD_MS).await;
        let now = stats.snapshot();
        info!(
            "sampled {} acknowledged {} rejected {} dropped {} in the outbox {} reconnects {} refused {}",
            now.sampled,
            now.acknowledged,
            now.rejected,
            now.dropped(),
            now.outbox,
            now.reconnects(),
            now.refused
        );
    }
}

/// Says what is wrong, and that a configuration may help, every few seconds for ever: a board without
/// one has nobody to publish to. It is written with the processor halted, and a reset follows.
pub async fn refuse(
    problem: impl core::fmt::Display,
    mut hardware: Hardware<impl FnMut(), impl FnMut(bool)>,
) -> Infallible {
    let mut complain_at_ms = 0;
    loop {
        let now_ms = EmbassyClock.now_ms();
        if now_ms >= complain_at_ms {
            error!("{}", defmt::Display2Format(&problem));
            error!("write one with `cargo xtask provision`, see the board's README");
            complain_at_ms = now_ms + COMPLAINT_PERIOD_MS;
        }
        (hardware.feed)();
        (hardware.light)(Signal::Unconfigured.is_lit(now_ms));
        Timer::after_millis(STEP_MS).await;
    }
}
