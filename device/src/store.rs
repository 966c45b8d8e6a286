//! Where samples are kept besides memory, so that they outlast a reset; by default nowhere.

use core::fmt;

use crate::outbox::{Contents, Sample};

/// Something that keeps samples, for good.
pub trait Store {
    /// Keeps `sample`, which has not been sent yet, for good when it returns `Ok`.
    ///
    /// `others` tells what is in the outbox besides it: nothing else need be kept any longer. May wait for
    /// a flash, never for the network; while it waits, no sample is taken.
    fn keep(
        &mut self,
        sample: Sample,
        others: impl FnOnce() -> Contents,
    ) -> impl Future<Output = Result<(), NotKept>>;
}

impl<S: Store> Store for &mut S {
    fn keep(
        &mut self,
        sample: Sample,
        others: impl FnOnce() -> Contents,
    ) -> impl Future<Output = Result<(), NotKept>> {
        S::keep(self, sample, others)
    }
}

/// The sample is not kept. It is dropped and counted: were it sent, its number could be given to another
/// sample after a reset, which the host would take for a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKept;

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sample could not be stored")
    }
}

impl core::error::Error for NotKept {}

/// Keeps nothing: a reset loses what memory held, and begins a boot of its own.
#[derive(Clone, Copy, Debug)]
pub struct Volatile;

impl Store for Volatile {
    async fn keep(&mut self, _sample: Sample, _others: impl FnOnce() -> Contents) -> Result<(), NotKept> {
        Ok(())
    }
}
