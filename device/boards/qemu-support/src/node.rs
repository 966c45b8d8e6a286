//! A whole device: network stack, emitter, log, and the end with an exit code.

use core::cell::Cell;
use core::convert::Infallible;
use core::fmt::{self, Write};
use core::future::{pending, poll_fn};
use core::pin::pin;
use core::task::Poll;

use cortex_m::Peripherals;
use embassy_futures::join::join;
use embassy_futures::select::{Either, select};
use embassy_net::tcp::client::{TcpClient, TcpClientState};
use embassy_net::{DhcpConfig, Stack, StackResources, StaticConfigV4};
use embassy_net_driver::Driver;
use embassy_time::{Duration, Timer};
use log::{error, info, warn};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
#[cfg(feature = "tls")]
use rollcall_board_support::interrupt;
use rollcall_device::config::OUTBOX_CAPACITY;
#[cfg(feature = "tls")]
use rollcall_device::store::Volatile;
use rollcall_device::{BootId, Clock, Config, RandomSensor, Stats};
use static_cell::{ConstStaticCell, StaticCell};

use crate::console::{self, Console, Put};
use crate::net::Net;
use crate::options::Options;
use crate::parse::Dotted;
use crate::report::Report;
use crate::time::BoardClock;
#[cfg(feature = "tls")]
use crate::tls;
use crate::{executor, semihosting, time};

/// The exit code when every sample was acknowledged or is in a drop counter.
const EXIT_SUCCESS: u8 = 0;

/// The exit code for a command line that makes no sense, or a host without random bytes.
const EXIT_USAGE: u8 = 1;

/// The exit code when samples were left in the outbox, as the Linux board's.
const EXIT_UNSENT: u8 = 3;

/// How long the outbox may take to drain once sampling has stopped, in milliseconds.
const DRAIN_MS: u64 = 20_000;

/// From one line of progress to the next.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);

/// A command line: nine words, and with TLS two of some 100 bytes more.
const COMMAND_LINE_MAX: usize = if cfg!(feature = "tls") { 520 } else { 320 };

/// DHCP's socket, and TCP's for the emitter's one connection.
const SOCKETS: usize = 2;

/// From one search for a DHCP server to the next. smoltcp's 10 s would be most of the time from a link's
/// return to the first sample over it.
const DISCOVER_PERIOD: core::time::Duration = core::time::Duration::from_secs(1);

/// A socket's buffers, in bytes: a full window of publishes, and its acknowledgements.
const TX_SIZE: usize = 1536;
const RX_SIZE: usize = 512;

/// Sampler and session are one task.
#[cfg(not(feature = "tls"))]
type Sharing = rollcall_device::OneTask;

/// The sampler interrupts the session, which calculates for seconds at a handshake.
#[cfg(feature = "tls")]
type Sharing = rollcall_device::TwoTasks;

type Emitter = rollcall_device::Emitter<'static, OUTBOX_CAPACITY, Sharing>;

/// Large values are statics: on the stack they would be there twice, once where they are made.
static STATS: ConstStaticCell<Stats<Sharing>> = ConstStaticCell::new(Stats::zero());
static EMITTER: StaticCell<Emitter> = StaticCell::new();
static RESOURCES: ConstStaticCell<StackResources<SOCKETS>> = ConstStaticCell::new(StackResources::new());
static TCP: ConstStaticCell<TcpClientState<1, TX_SIZE, RX_SIZE>> =
    ConstStaticCell::new(TcpClientState::new());

#[cfg(feature = "tls")]
static TUNNEL: ConstStaticCell<rollcall_device_tls::Tunnel> =
    ConstStaticCell::new(rollcall_device_tls::Tunnel::new());

/// A machine.
pub struct Machine<D> {
    /// The device id when the command line gives none.
    pub name: &'static str,
    /// The frequency of the processor, in hertz.
    pub core_hz: u32,
    /// Sends a byte over the serial line.
    pub put: Put,
    /// The Ethernet driver, ready to be polled; its interrupts may be on.
    pub ethernet: D,
}

/// Runs the emitter until it is asked to stop, and ends the emulator.
pub fn run<D: Driver>(machine: Machine<D>) -> ! {
    let Machine { name, core_hz, put, ethernet } = machine;
    console::init(put);
    let options = read_options(name);
    let Some(random) = semihosting::entropy() else {
        refuse(format_args!("the emulator's host gave no random bytes"))
    };
    let Some(core) = Peripherals::take() else { refuse(format_args!("the machine runs already")) };
    time::start(core.SYST, core_hz, options.start_ms);
    let (mut rng, stats) = (SmallRng::seed_from_u64(random), STATS.take());
    let emitter = make_emitter(&options, BootId(rng.next_u64()), stats);
    let report = live(&options, rng, ethernet, stats, emitter);
    let _ = writeln!(Console, "{report}");
    semihosting::exit(if report.is_drained() { EXIT_SUCCESS } else { EXIT_UNSENT })
}

/// Not inlined: the line is on the stack, which is to be free again when the work begins.
#[inline(never)]
fn read_options(name: &str) -> Options {
    let mut line = [0; COMMAND_LINE_MAX];
    let Some(line) = semihosting::command_line(&mut line) else {
        refuse(format_args!("no command line, or a too long one"))
    };
    Options::parse(line, name).unwrap_or_else(|unknown| refuse(format_args!("{unknown}")))
}

fn refuse(why: fmt::Arguments<'_>) -> ! {
    error!("{why}");
    semihosting::exit(EXIT_USAGE)
}

/// Each future is pinned where it is made: handed on by value, the large ones would be on the stack twice.
fn live(
    options: &Options,
    mut rng: SmallRng,
    ethernet: impl Driver,
    stats: &'static Stats<Sharing>,
    emitter: &'static mut Emitter,
) -> Report {
    let (stack, mut network) =
        embassy_net::new(ethernet, network_config(options), RESOURCES.take(), rng.next_u64());
    let net = Net { stack, tcp: TcpClient::new(stack, TCP.take()) };
    // Statuses of their own seed, so that they are repeatable; the boot id never is, for the host would take
    // a second run for redeliveries of the first.
    let mut sensor = RandomSensor(SmallRng::seed_from_u64(options.seed.unwrap_or_else(|| rng.next_u64())));
    let first_acknowledged_ms = Cell::new(None);
    #[cfg(feature = "tls")]
    let Some(pins) = tls::pins(options) else {
        refuse(format_args!("pin=PIN is not there, or no key of P-256 as `rollcall tls init` prints it"))
    };
    #[cfg(feature = "tls")]
    let tunnel = TUNNEL.take();
    #[cfg(feature = "tls")]
    let engine = pin!(rollcall_device_tls::engine(tunnel, pins, tls::HostRng));
    #[cfg(feature = "tls")]
    let net = rollcall_device_tls::TlsConnect::new(&net, tunnel, engine);
    // The counters that it returns would be in the frames of all that polls it.
    #[cfg(not(feature = "tls"))]
    let emit = pin!(async {
        let (net, clock, rng, sensor) = (&net, &BoardClock, &mut rng, &mut sensor);
        emitter.run(rollcall_device::Board { net, clock, rng, sensor }, stop(options)).await;
    });
    #[cfg(feature = "tls")]
    let emit = pin!(async {
        let (sampler, sender) = emitter.split();
        let sample = sampler.run(&BoardClock, &mut sensor, Volatile, stop(options));
        join(interrupt::run(sample), sender.run(&net, &BoardClock, &mut rng)).await;
    });
    let tell_progress = tell_progress(stats, &first_acknowledged_ms);
    // Progress is looked at after the emitter was polled, in the same round.
    let foreground = select(emit, tell_progress);
    let background = pin!(join(network.run(), tell_address(stack)));
    match executor::run(foreground, background) {
        Either::First(()) => Report::new(stats.snapshot(), first_acknowledged_ms.get()),
        Either::Second(never) => match never {},
    }
}

/// Not inlined: it is made on the stack first, which is to be free again when the work begins.
#[inline(never)]
fn make_emitter(options: &Options, boot: BootId, stats: &'static Stats<Sharing>) -> &'static mut Emitter {
    let mut config = Config::new(options.device, boot, options.broker.into());
    config.period_ms = options.period_ms;
    let (device, broker) = (config.device, Dotted(*options.broker.ip()));
    info!("{device}, boot {boot}, to {broker}:{}", u64::from(options.broker.port()));
    EMITTER.uninit().write(Emitter::new(config, stats))
}

fn network_config(options: &Options) -> embassy_net::Config {
    if let Some(address) = options.address {
        let (gateway, dns_servers) = (options.gateway, Default::default());
        return embassy_net::Config::ipv4_static(StaticConfigV4 { address, gateway, dns_servers });
    }
    let mut dhcp = DhcpConfig::default();
    dhcp.retry_config.discover_timeout = DISCOVER_PERIOD.into();
    dhcp.max_lease_duration = options.lease_s.map(|lease| Duration::from_secs(lease.get().into()));
    embassy_net::Config::dhcpv4(dhcp)
}

/// Completes at Ctrl-C, or when the command line's time is over, with the end of the draining.
async fn stop(options: &Options) -> u64 {
    let time_is_over = async {
        match options.seconds {
            Some(seconds) => Timer::after_secs(seconds.get().into()).await,
            None => pending().await,
        }
    };
    select(console::stop_asked(), time_is_over).await;
    info!("draining, for {} s at most", DRAIN_MS / 1000);
    BoardClock.now_ms() + DRAIN_MS
}

/// Logs the address that the machine has, whenever it changes.
async fn tell_address(stack: Stack<'_>) {
    loop {
        stack.wait_config_up().await;
        if let Some(config) = stack.config_v4() {
            let (address, length) = (Dotted(config.address.address()), config.address.prefix_len());
            info!("address {address}/{} at {} ms", u64::from(length), time::uptime_ms());
        }
        stack.wait_config_down().await;
        warn!("the address is gone");
    }
}

async fn tell_progress(stats: &Stats<Sharing>, first_acknowledged_ms: &Cell<Option<u64>>) -> Infallible {
    // It needs no waker: the counters change while the emitter is polled.
    poll_fn(|_| if stats.snapshot().acknowledged > 0 { Poll::Ready(()) } else { Poll::Pending }).await;
    first_acknowledged_ms.set(Some(time::uptime_ms()));
    info!("first PUBACK at {} ms", time::uptime_ms());
    loop {
        Timer::after(PROGRESS_PERIOD).await;
        let now = stats.snapshot();
        info!(
            "{} acknowledged, outbox {}, dropped {}, refused {}",
            now.acknowledged,
            now.outbox,
            now.dropped(),
            now.refused
        );
    }
}
