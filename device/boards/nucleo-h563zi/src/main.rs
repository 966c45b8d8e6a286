//! Rollcall's firmware for the NUCLEO-H563ZI. **Not yet run on hardware**: it is known to compile and link.
//!
//! This file wires the chip's peripherals to the node that all boards share. Pins and clocks are those of
//! ST's user manual of the board, UM3115.

#![no_std]
#![no_main]

mod chip;

use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_stm32::bind_interrupts;
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{ETH, ETH_SMA, RNG};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::wdg::IndependentWatchdog;
use panic_probe as _;
#[cfg(feature = "tls")]
use rollcall_board_support::Trust;
use rollcall_board_support::identity::{device_id, mac_address};
use rollcall_board_support::{Hardware, Network, Node, Runner, refuse};
use rollcall_device::store::Volatile;
use rollcall_device::{BootId, DeviceId};
use static_cell::{ConstStaticCell, StaticCell};

/// What the device is called when its configuration does not say: this and the chip's number.
const ID_PREFIX: &str = "h563-";

/// Should the chip's number ever not make an id.
const ID_FALLBACK: DeviceId = match DeviceId::new("h563") {
    Ok(id) => id,
    Err(_) => core::panic!("not a device id"),
};

/// The watchdog's time, in microseconds: the longest erase or packet is far below, its limit is 32 s.
const WATCHDOG_US: u32 = 10_000_000;

/// Frames that wait in each direction: a window of publishes, and one more while one is handled.
const FRAMES: usize = 4;

/// What the random number generator is asked for at each boot, in bytes: twice what a key is worth.
#[cfg(feature = "tls")]
const NOISE_SIZE: usize = 64;

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

static FRAME_QUEUE: StaticCell<PacketQueue<FRAMES, FRAMES>> = StaticCell::new();
static NETWORK: ConstStaticCell<Network> = ConstStaticCell::new(Network::new());

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>>) {
    runner.run().await;
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let chip = embassy_stm32::init(chip::clocks());
    let mut watchdog = IndependentWatchdog::new(chip.IWDG, WATCHDOG_US);
    watchdog.unleash();
    // LD1, green.
    let mut lamp = Output::new(chip.PB0, Level::Low, Speed::Low);
    let hardware = Hardware {
        feed: move || watchdog.pet(),
        light: move |on| lamp.set_level(if on { Level::High } else { Level::Low }),
    };
    let block = chip::configuration(chip.FLASH);
    let settings = match block.settings() {
        Ok(settings) => settings,
        Err(problem) => match refuse(problem, hardware).await {},
    };
    let mut random = Rng::new(chip.RNG, Interrupts);
    #[cfg(feature = "tls")]
    let trust = {
        // The chip's generator alone is good enough for keys. What the configuration holds is mixed in.
        let mut noise = [0; NOISE_SIZE];
        random.fill_bytes(&mut noise);
        match Trust::new(&settings, random.next_u64(), &noise) {
            Ok(trust) => trust,
            Err(problem) => match refuse(problem, hardware).await {},
        }
    };
    let unique = chip::unique_number();
    let ethernet = Ethernet::new(
        FRAME_QUEUE.init(PacketQueue::new()),
        chip.ETH,
        Interrupts,
        chip.PA1,
        chip.PA7,
        chip.PC4,
        chip.PC5,
        chip.PG13,
        chip.PB15,
        chip.PG11,
        mac_address(&unique),
        chip.ETH_SMA,
        chip.PA2,
        chip.PC1,
    );
    let (sockets, runner) = NETWORK.take().start(ethernet, random.next_u64());
    spawner.spawn(defmt::unwrap!(network(runner)));
    let node = Node {
        settings,
        identity: device_id(ID_PREFIX, &unique).unwrap_or(ID_FALLBACK),
        boot: BootId(random.next_u64()),
        seed: random.next_u64(),
        #[cfg(feature = "tls")]
        trust,
    };
    match node.run(sockets, hardware, Volatile).await {}
}
