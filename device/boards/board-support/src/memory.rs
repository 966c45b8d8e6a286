//! What a board's samples outlast a reset in, if in anything.

use rollcall_device::store::{Store, Volatile};
use rollcall_device::{BootId, Emitter};

/// A store, and what it knows of earlier boots.
pub trait Memory: Store {
    /// The boot id to go on under; `None` is a fresh one.
    fn boot(&self) -> Option<BootId>;

    /// The time to go on from, in milliseconds.
    fn last_ms(&self) -> u64;

    /// Hands over what was not acknowledged.
    ///
    /// # Errors
    /// When it cannot: the emitter must not run then, since it would give numbers twice.
    fn restore(&mut self, emitter: &mut Emitter<'_>) -> impl Future<Output = Result<(), Unreadable>>;
}

/// What was kept cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable;

impl Memory for Volatile {
    fn boot(&self) -> Option<BootId> {
        None
    }

    fn last_ms(&self) -> u64 {
        0
    }

    async fn restore(&mut self, _emitter: &mut Emitter<'_>) -> Result<(), Unreadable> {
        Ok(())
    }
}

#[cfg(feature = "flash-outbox")]
mod flash {
    use embedded_storage_async::nor_flash::MultiwriteNorFlash;
    use rollcall_device::flash::FlashStore;

    use super::*;

    impl<F: MultiwriteNorFlash, const PAGES: usize> Memory for FlashStore<F, PAGES> {
        fn boot(&self) -> Option<BootId> {
            Some(FlashStore::boot(self))
        }

        fn last_ms(&self) -> u64 {
            FlashStore::last_ms(self)
        }

        async fn restore(&mut self, emitter: &mut Emitter<'_>) -> Result<(), Unreadable> {
            FlashStore::restore(self, emitter).await.map_err(|_| Unreadable)
        }
    }
}
