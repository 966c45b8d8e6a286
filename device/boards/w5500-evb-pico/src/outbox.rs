//! The outbox in flash: 64 sectors before the configuration's.
//!
//! While a sector is erased, for 45 ms as a rule and 400 ms at most (W25Q16JV data sheet), the processor
//! runs nothing else: its code is in the same flash.

use defmt::{error, info};
use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_rp::flash::ERASE_SIZE;
use rollcall_device::BootId;
use rollcall_device::config::OUTBOX_CAPACITY;
use rollcall_device::flash::FlashStore;

use crate::chip::{self, FlashChip, Memory};

const SECTORS: usize = 64;

/// What is kept there; `None`, and the log says so, when it cannot be used: samples are then in RAM only.
pub(crate) async fn open(
    memory: Memory,
    fresh: BootId,
) -> Option<FlashStore<BlockingAsync<FlashChip>, SECTORS>> {
    let region = chip::outbox();
    defmt::assert_eq!(region.len(), SECTORS * ERASE_SIZE, "memory.x and SECTORS disagree");
    let flash = BlockingAsync::new(memory.into_chip());
    match FlashStore::open(flash, region.start, OUTBOX_CAPACITY, fresh).await {
        Ok(store) => {
            info!("the outbox in flash is open");
            Some(store)
        }
        Err(_) => {
            error!("the outbox in flash cannot be used; samples are kept in RAM only");
            None
        }
    }
}
