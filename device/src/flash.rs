//! The outbox in flash: a ring of records over `sequential-storage`, one write a sample.
//!
//! Guarantees, power cut at any write: a sample that [`Store::keep`] returned `Ok` for is found again until
//! it is acknowledged or refused for good, with its boot id and number; no number is given to two samples. A
//! boot id and its numbers go on over resets, and so does time, as far as it can: how long the power was off
//! is not known.
//!
//! Neither costs a write. Each record tells what the outbox held when it was written; what was
//! settled since is sent again after a reset, and the host knows the duplicates. Wear is level, because
//! the ring is written in order. It must not know a flash chip.

mod record;

use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use rollcall_wire::BootId;
use sequential_storage::cache::page_pointers::ArrayPagePointers;
use sequential_storage::cache::page_states::ArrayPageStates;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::queue::{QueueConfig, QueueStorage};

use self::record::{RECORD_MAX, Record};
use crate::config::WINDOW;
use crate::emitter::Emitter;
use crate::outbox::{Contents, Sample};
use crate::sharing::Sharing;
use crate::store::{NotKept, Store};

type PageCache<const PAGES: usize> = Cache<ArrayPageStates<PAGES>, ArrayPagePointers<PAGES>, Uncached>;

/// A record is read in whole words, of 32 bytes at most (sequential-storage 8, MAX_WORD_SIZE).
const BUFFER_SIZE: usize = RECORD_MAX.next_multiple_of(32);

/// A ring of `PAGES` pages of a flash.
///
/// The flash must take a word twice between two erases: where the power went while a page was being marked
/// as full or begun, the mark is written once more. A flash with an error-correcting code over its words,
/// as that of many STM32, does not.
pub struct FlashStore<F: MultiwriteNorFlash, const PAGES: usize> {
    queue: QueueStorage<F, PageCache<PAGES>>,
    boot: BootId,
    last_ms: u64,
    newest: Option<Record>,
    since_renewal: u64,
}

/// Why there is no store. The device runs without one, under a boot id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The pages cannot hold twice the outbox, or do not begin at a page's boundary.
    Layout,
    /// The flash fails.
    Flash,
}

impl<F: MultiwriteNorFlash, const PAGES: usize> FlashStore<F, PAGES> {
    /// Records, the longest, that are safe from being overwritten: two pages are the one being written and
    /// the one that may just be erased for it.
    const CAPACITY: u64 = {
        let word = if F::WRITE_SIZE > F::READ_SIZE { F::WRITE_SIZE } else { F::READ_SIZE };
        let record = QueueStorage::<F, PageCache<PAGES>>::item_overhead_size() as usize
            + RECORD_MAX.next_multiple_of(word);
        ((F::ERASE_SIZE - 2 * word) / record * PAGES.saturating_sub(2)) as u64
    };

    /// How far a sample that is not acknowledged may fall behind before it is written once more.
    const SPAN: u64 = Self::CAPACITY / 4;

    /// Opens the ring that begins at `start` of `flash`. What was kept goes on under its boot id; where
    /// nothing was, or nothing is to be made sense of, the ring is emptied and `fresh` is the boot id.
    ///
    /// # Errors
    /// When the flash fails, or the ring is too small for an outbox of `outbox` samples.
    pub async fn open(flash: F, start: u32, outbox: usize, fresh: BootId) -> Result<Self, OpenError> {
        let fits = (outbox + WINDOW) as u64 <= Self::CAPACITY / 2;
        let length = u32::try_from(PAGES * F::ERASE_SIZE).ok().filter(|_| fits).ok_or(OpenError::Layout)?;
        let end = start.checked_add(length).ok_or(OpenError::Layout)?;
        let config = QueueConfig::try_new(start..end).map_err(|_| OpenError::Layout)?;
        let cache = Cache::new(ArrayPageStates::new(), ArrayPagePointers::new(), Uncached);
        let queue = QueueStorage::new(flash, config, cache);
        // How much was written since the last renewal is not known, so the next is due at once.
        let mut store = Self { queue, boot: fresh, last_ms: 0, newest: None, since_renewal: Self::SPAN };
        match store.survey().await {
            Ok(true) => Ok(store),
            Ok(false) | Err(OpenError::Layout) => {
                store.queue.erase_all().await.map_err(|_| OpenError::Flash)?;
                Ok(store)
            }
            Err(error) => Err(error),
        }
    }

    /// Finds the newest record; whether there is one.
    async fn survey(&mut self) -> Result<bool, OpenError> {
        let (mut newest, mut last_ms) = (None::<Record>, 0);
        self.for_each(|record| {
            // Renewed samples are written late, and tell nothing of the outbox.
            if newest.as_ref().is_none_or(|newest| newest.sample.seq < record.sample.seq) {
                last_ms = last_ms.max(record.sample.taken_at_ms);
                newest = Some(record);
            }
        })
        .await?;
        let Some(found) = newest else { return Ok(false) };
        (self.boot, self.last_ms, self.newest) = (found.boot, last_ms, Some(found));
        Ok(true)
    }

    /// Every record that can be read, in the order of writing.
    async fn for_each(&mut self, mut visit: impl FnMut(Record)) -> Result<(), OpenError> {
        let mut entries = self.queue.iter().await.map_err(open_error)?;
        let mut buffer = [0; BUFFER_SIZE];
        while let Some(entry) = entries.next(&mut buffer).await.map_err(open_error)? {
            if let Some(record) = Record::decode(&entry) {
                visit(record);
            }
        }
        Ok(())
    }

    /// Under which boot id samples are to be taken.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// The time of the last sample that was kept, in milliseconds: the device's clock is to go on from it,
    /// as [`Continued`](crate::clock::Continued) does.
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// Hands `emitter`, before it runs, what was not acknowledged, and with it the next number.
    ///
    /// # Errors
    /// When the flash fails; the emitter must then not run under this boot id.
    pub async fn restore<const N: usize, S: Sharing>(
        &mut self,
        emitter: &mut Emitter<'_, N, S>,
    ) -> Result<(), OpenError> {
        self.replay(|sample| emitter.restore(sample)).await
    }

    /// Visits what was not acknowledged, in the order of writing; a sample may come twice.
    ///
    /// # Errors
    /// When the flash fails.
    pub async fn replay(&mut self, mut visit: impl FnMut(Sample)) -> Result<(), OpenError> {
        let Some(newest) = self.newest.take() else { return Ok(()) };
        self.for_each(|record| {
            if record.boot == newest.boot && newest.holds(record.sample.seq) {
                visit(record.sample);
            }
        })
        .await
    }

    async fn write(&mut self, sample: Sample, others: &Contents) -> Result<(), NotKept> {
        let record = Record::new(self.boot, sample, others).ok_or(NotKept)?;
        self.queue.push(&record.encode(), true).await.map_err(|_| NotKept)
    }

    /// What was in flight for long, while the ring went on, is written again before it is overwritten.
    async fn renew(&mut self, sample: Sample, others: &Contents) -> Result<(), NotKept> {
        let alone = Contents { first: Default::default(), rest_from: None };
        for late in others.first.iter().filter(|late| late.seq.get() + Self::SPAN <= sample.seq.get()) {
            self.write(*late, &alone).await?;
        }
        Ok(())
    }
}

impl<F: MultiwriteNorFlash, const PAGES: usize> Store for FlashStore<F, PAGES> {
    async fn keep(&mut self, sample: Sample, others: impl FnOnce() -> Contents) -> Result<(), NotKept> {
        let others = others();
        self.since_renewal += 1;
        if self.since_renewal > Self::SPAN {
            self.renew(sample, &others).await?;
            self.since_renewal = 0;
        }
        self.write(sample, &others).await
    }
}

/// A flash that fails is left alone; what cannot be made sense of is emptied.
fn open_error<E>(error: sequential_storage::Error<E>) -> OpenError {
    match error {
        sequential_storage::Error::Storage { .. } => OpenError::Flash,
        _ => OpenError::Layout,
    }
}

/// Is what `bytes` are read as written as the same bytes? True when they are no record.
#[cfg(feature = "fuzz")]
pub fn record_comes_back(bytes: &[u8]) -> bool {
    Record::decode(bytes).is_none_or(|record| record.encode() == bytes && record.holds(record.sample.seq))
}
