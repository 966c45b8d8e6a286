//! A device opens its ring in flash and goes on, whatever lies there; in one that is not damaged it finds again what it kept
//! last. The input: how many samples are kept first; then what is damaged, each with an offset and the byte that lies there.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use embassy_futures::block_on;
use embedded_storage_async::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use libfuzzer_sys::fuzz_target;
use rollcall_device::flash::FlashStore;
use rollcall_device::outbox::{Outbox, Sample};
use rollcall_device::store::Store;
use rollcall_device::{BootId, Status};
use rollcall_wire::Sequence;

const PAGES: usize = 16;
const PAGE_SIZE: usize = 256;
const SIZE: usize = PAGES * PAGE_SIZE;
const OUTBOX: usize = 12;

#[derive(Clone)]
struct Flash(Rc<RefCell<[u8; SIZE]>>);

fuzz_target!(|input: &[u8]| {
    let Some((samples, damages)) = input.split_first() else { return };
    let flash = Flash(Rc::new(RefCell::new([0xff; SIZE])));
    keep(&flash, *samples);
    for damage in damages.as_chunks::<3>().0 {
        let offset = usize::from(u16::from_le_bytes([damage[0], damage[1]]));
        flash.0.borrow_mut()[offset % SIZE] = damage[2];
    }
    let kept = keep(&flash, 3);
    let (again, found) = open(&flash);
    // A damaged mark may hide pages, and with them what is newest.
    if damages.len() < 3 {
        let (boot, sample) = kept.expect("there is room for three");
        assert!(again.boot() == boot && found.contains(&sample), "{sample:?} of {boot:?} is lost");
    }
});

/// Keeps so many, of which none is acknowledged; the last that the flash promised to keep.
fn keep(flash: &Flash, samples: u8) -> Option<(BootId, Sample)> {
    let (mut store, found) = open(flash);
    let mut outbox = Outbox::<OUTBOX>::new();
    for sample in &found {
        outbox.restore(*sample);
    }
    let mut next = found.iter().map(|sample| sample.seq.get() + 1).max().unwrap_or(0);
    let mut last = None;
    for _ in 0..samples {
        let sample =
            Sample { seq: Sequence::new(next)?, status: Status::new(3).unwrap(), taken_at_ms: 1000 * next };
        let others = outbox.contents();
        if block_on(store.keep(sample, || others)).is_ok() {
            last = Some((store.boot(), sample));
        }
        outbox.push(sample);
        next += 1;
    }
    last
}

/// The ring, and what was not acknowledged.
fn open(flash: &Flash) -> (FlashStore<Flash, PAGES>, Vec<Sample>) {
    let mut store = block_on(FlashStore::open(flash.clone(), 0, OUTBOX, BootId(7))).expect("the flash works");
    let mut found = Vec::new();
    block_on(store.replay(|sample| found.push(sample))).expect("it was read before");
    (store, found)
}

impl ErrorType for Flash {
    type Error = Infallible;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0.borrow()[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        self.0.borrow_mut()[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        let mut flash = self.0.borrow_mut();
        flash[offset as usize..][..bytes.len()].iter_mut().zip(bytes).for_each(|(old, new)| *old &= new);
        Ok(())
    }
}

impl MultiwriteNorFlash for Flash {}
