//! The outbox in flash: 64 sectors before the configuration's.
//!
//! While a sector is erased, for 45 ms as a rule and 400 ms at most (W25Q16JV data sheet), the processor
//! runs nothing else: its code is in the same flash.

use defmt::{error, info};
use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_rp::flash::ERASE_SIZE;
#[cfg(feature = "tls")]
use rollcall_board_support::{NodeClock, NodeSampler, NodeSensor};
use rollcall_board_support::{NodeEmitter, Unreadable};
use rollcall_device::BootId;
use rollcall_device::config::OUTBOX_CAPACITY;
use rollcall_device::flash::FlashStore;
use rollcall_device::outbox::{Contents, Sample};
use rollcall_device::store::{NotKept, Store};

use crate::chip::{self, FlashChip, Memory};

const SECTORS: usize = 64;

/// Samples that outlast a reset.
pub(crate) struct Outbox(FlashStore<BlockingAsync<FlashChip>, SECTORS>);

impl Store for Outbox {
    fn keep(
        &mut self,
        sample: Sample,
        others: impl FnOnce() -> Contents,
    ) -> impl Future<Output = Result<(), NotKept>> {
        self.0.keep(sample, others)
    }
}

impl rollcall_board_support::Memory for Outbox {
    fn boot(&self) -> Option<BootId> {
        Some(self.0.boot())
    }

    fn last_ms(&self) -> u64 {
        self.0.last_ms()
    }

    async fn restore(&mut self, emitter: &mut NodeEmitter<'_>) -> Result<(), Unreadable> {
        self.0.restore(emitter).await.map_err(|_| Unreadable)
    }

    #[cfg(feature = "tls")]
    fn sample(
        &mut self,
        sampler: NodeSampler<'_>,
        clock: &NodeClock,
        sensor: &mut NodeSensor,
    ) -> impl Future<Output = ()> + Send {
        sampler.run(clock, sensor, self, core::future::pending())
    }
}

/// What is kept there; `None`, and the log says so, when it cannot be used: samples are then in RAM only.
pub(crate) async fn open(memory: Memory, fresh: BootId) -> Option<Outbox> {
    let region = chip::outbox();
    defmt::assert_eq!(region.len(), SECTORS * ERASE_SIZE, "memory.x and SECTORS disagree");
    let flash = BlockingAsync::new(memory.into_chip());
    match FlashStore::open(flash, region.start, OUTBOX_CAPACITY, fresh).await {
        Ok(store) => {
            info!("the outbox in flash is open");
            Some(Outbox(store))
        }
        Err(_) => {
            error!("the outbox in flash cannot be used; samples are kept in RAM only");
            None
        }
    }
}
