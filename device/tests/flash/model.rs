//! A NOR flash in memory: writing clears bits, erasing sets a page's, and the power can go in any word.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

pub(crate) const PAGES: usize = 16;
pub(crate) const PAGE_SIZE: usize = 256;
const SIZE: usize = PAGES * PAGE_SIZE;

/// Bytes that are written at once.
const WORD: usize = 4;

/// The flash, which outlasts whoever uses it.
#[derive(Clone)]
pub(crate) struct Model(Rc<RefCell<State>>);

struct State {
    bytes: Vec<u8>,
    erases: [u32; PAGES],
    /// Words written or erased so far.
    work: u64,
    /// The power goes when so much work is done.
    cut_at: Option<u64>,
    is_off: bool,
}

/// The power is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoPower;

impl NorFlashError for NoPower {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Model {
    pub(crate) fn new() -> Self {
        let bytes = vec![0xff; SIZE];
        Self(Rc::new(RefCell::new(State { bytes, erases: [0; PAGES], work: 0, cut_at: None, is_off: false })))
    }

    /// The power goes after so many more words, in the middle of the next.
    pub(crate) fn cut_after(&mut self, words: u64) {
        let mut state = self.0.borrow_mut();
        state.cut_at = Some(state.work + words);
    }

    pub(crate) fn restore_power(&mut self) {
        let mut state = self.0.borrow_mut();
        (state.cut_at, state.is_off) = (None, false);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.borrow().is_off
    }

    pub(crate) fn work(&self) -> u64 {
        self.0.borrow().work
    }

    pub(crate) fn worn(&self) -> u32 {
        self.0.borrow().erases.into_iter().max().unwrap()
    }

    pub(crate) fn least_worn(&self) -> u32 {
        self.0.borrow().erases.into_iter().min().unwrap()
    }
}

impl State {
    fn is_cut(&self) -> bool {
        self.cut_at.is_some_and(|at| self.work >= at)
    }

    /// Changes a word to `new`, or, where the power goes, leaves it with some of its bits changed.
    fn change(&mut self, at: usize, new: [u8; WORD]) -> Result<(), NoPower> {
        let is_cut = self.is_cut();
        for (byte, (old, new)) in self.bytes[at..at + WORD].iter_mut().zip(new).enumerate() {
            // Which bits made it is anybody's guess; this guess is a different one at each cut.
            let made_it = if is_cut { (self.work as u8 ^ byte as u8).wrapping_mul(0x9d) } else { 0xff };
            *old = *old & !made_it | new & made_it;
        }
        if is_cut {
            self.is_off = true;
            return Err(NoPower);
        }
        self.work += 1;
        Ok(())
    }
}

impl ErrorType for Model {
    type Error = NoPower;
}

impl ReadNorFlash for Model {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NoPower> {
        let state = self.0.borrow();
        if state.is_off {
            return Err(NoPower);
        }
        bytes.copy_from_slice(&state.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for Model {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), NoPower> {
        let mut state = self.0.borrow_mut();
        // Without power, nothing happens at all.
        if state.is_off {
            return Err(NoPower);
        }
        for page in from as usize / PAGE_SIZE..to as usize / PAGE_SIZE {
            for at in (page * PAGE_SIZE..(page + 1) * PAGE_SIZE).step_by(WORD) {
                state.change(at, [0xff; WORD])?;
            }
            state.erases[page] += 1;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NoPower> {
        let mut state = self.0.borrow_mut();
        if state.is_off {
            return Err(NoPower);
        }
        let (words, []) = bytes.as_chunks::<WORD>() else { panic!("not whole words") };
        assert!((offset as usize).is_multiple_of(WORD), "not on a word");
        for (at, word) in (offset as usize..).step_by(WORD).zip(words) {
            let cleared = std::array::from_fn(|byte| state.bytes[at + byte] & word[byte]);
            state.change(at, cleared)?;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for Model {}
