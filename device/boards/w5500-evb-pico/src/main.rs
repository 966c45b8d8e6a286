//! Rollcall's firmware for the W5500-EVB-Pico. **Not yet run on hardware**: it is known to compile and link.
//!
//! This file wires the chip's peripherals to the node that all boards share. Pins are those of WIZnet's
//! page about the board.

#![no_std]
#![no_main]

mod chip;
#[cfg(feature = "flash-outbox")]
mod outbox;

use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_futures::join::join;
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, InitError, State};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, SPI0};
use embassy_rp::spi::{self, Async, Spi};
use embassy_rp::watchdog::Watchdog;
use embassy_rp::{bind_interrupts, dma};
use embassy_time::{Delay, Duration};
use embedded_hal_bus::spi::ExclusiveDevice;
use panic_probe as _;
use rollcall_board_support::identity::{device_id, mac_address};
use rollcall_board_support::{Hardware, Network, Node, Runner, refuse};
#[cfg(feature = "tls")]
use rollcall_board_support::{NoTls, Trust};
use rollcall_device::store::Volatile;
use rollcall_device::{BootId, DeviceId};
use static_cell::ConstStaticCell;

use crate::chip::Memory;

/// What the device is called when its configuration does not say: this and the flash's number.
const ID_PREFIX: &str = "pico-";

/// Should the flash's number ever not make an id.
const ID_FALLBACK: DeviceId = match DeviceId::new("pico") {
    Ok(id) => id,
    Err(_) => core::panic!("not a device id"),
};

/// The watchdog's time: the longest erase is 0.4 s (W25Q16JV data sheet), its limit is 8.3 s.
const WATCHDOG: Duration = Duration::from_secs(8);

/// The W5500's guaranteed SPI clock is 33.3 MHz (W5500 data sheet, "SPI timing"); the driver takes the
/// nearest below, 31.25 MHz.
const SPI_HZ: u32 = 33_000_000;

/// Frames that wait in each direction: a window of publishes, and one more while one is handled.
const FRAMES: usize = 4;

bind_interrupts!(struct Interrupts {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

static FRAME_QUEUE: ConstStaticCell<State<FRAMES, FRAMES>> = ConstStaticCell::new(State::new());
static NETWORK: ConstStaticCell<Network> = ConstStaticCell::new(Network::new());

/// What moves frames between the chip and the network stack.
type Driver = embassy_net_wiznet::Runner<
    'static,
    W5500,
    ExclusiveDevice<Spi<'static, SPI0, Async>, Output<'static>, Delay>,
    Input<'static>,
    Output<'static>,
>;

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Device<'static>>, driver: Driver) {
    join(runner.run(), driver.run()).await;
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let chip = embassy_rp::init(Default::default());
    let mut watchdog = Watchdog::new(chip.WATCHDOG);
    watchdog.pause_on_debug(true);
    watchdog.start(WATCHDOG);
    // The green LED beside the USB port.
    let mut lamp = Output::new(chip.PIN_25, Level::Low);
    let hardware = Hardware {
        feed: move || watchdog.feed(WATCHDOG),
        light: move |on| lamp.set_level(if on { Level::High } else { Level::Low }),
    };
    let mut memory = Memory::new(chip.FLASH);
    let unique = memory.unique_number();
    let block = memory.configuration();
    let settings = match block.settings() {
        Ok(settings) => settings,
        Err(problem) => match refuse(problem, hardware).await {},
    };
    #[cfg(feature = "tls")]
    let trust = {
        let trust = match memory.boot_number() {
            Ok(number) => Trust::new(&settings, number, &chip::noise()),
            Err(_) => Err(NoTls::Boot),
        };
        match trust {
            Ok(trust) => trust,
            Err(problem) => match refuse(problem, hardware).await {},
        }
    };
    let mut spi_config = spi::Config::default();
    spi_config.frequency = SPI_HZ;
    let bus = Spi::new(
        chip.SPI0,
        chip.PIN_18,
        chip.PIN_19,
        chip.PIN_16,
        chip.DMA_CH0,
        chip.DMA_CH1,
        Interrupts,
        spi_config,
    );
    let select = Output::new(chip.PIN_17, Level::High);
    let Ok(device) = ExclusiveDevice::new(bus, select, Delay);
    let interrupt = Input::new(chip.PIN_21, Pull::Up);
    let reset = Output::new(chip.PIN_20, Level::High);
    let started = embassy_net_wiznet::new::<_, _, W5500, _, _, _>(
        mac_address(&unique),
        FRAME_QUEUE.take(),
        device,
        interrupt,
        reset,
    );
    let (ethernet, driver) = match started.await {
        Ok(started) => started,
        // A panic ends the feeding of the watchdog, so that the board is reset and tries again.
        Err(InitError::InvalidChipVersion { actual, .. }) => {
            defmt::panic!("no W5500 answers over SPI, but a chip of version {}", actual)
        }
        Err(InitError::SpiError(_)) => defmt::panic!("the SPI bus of the W5500 fails"),
    };
    let boot = BootId(chip::random());
    let identity = device_id(ID_PREFIX, &unique).unwrap_or(ID_FALLBACK);
    let (sockets, runner) = NETWORK.take().start(ethernet, chip::random());
    spawner.spawn(defmt::unwrap!(network(runner, driver)));
    let node = Node {
        settings,
        identity,
        boot,
        seed: chip::random(),
        #[cfg(feature = "tls")]
        trust,
    };
    #[cfg(feature = "flash-outbox")]
    if let Some(outbox) = outbox::open(memory, boot).await {
        match node.run(sockets, hardware, outbox).await {}
    }
    match node.run(sockets, hardware, Volatile).await {}
}
