//! The stack: how much of it was ever used.

use cortex_m_rt::STACK_PAINT_VALUE;

#[expect(unsafe_code, reason = "the linker script's symbols are foreign")]
mod symbols {
    unsafe extern "C" {
        /// The lowest address of the stack.
        pub(super) static _stack_end: u32;
        /// The first address above the stack.
        pub(super) static _stack_start: u32;
    }
}

/// The addresses of the stack.
pub(crate) fn range() -> core::ops::Range<usize> {
    (&raw const symbols::_stack_end).addr()..(&raw const symbols::_stack_start).addr()
}

/// The most that was used so far, in bytes.
pub(crate) fn peak() -> usize {
    let range = range();
    let untouched = range.clone().step_by(size_of::<u32>()).take_while(|address| is_painted(*address));
    range.len() - untouched.count() * size_of::<u32>()
}

/// Whether a word of the stack still has the value that cortex-m-rt gave it before `main`.
#[expect(unsafe_code, reason = "the words below the stack pointer belong to nobody")]
fn is_painted(address: usize) -> bool {
    let word = core::ptr::with_exposed_provenance::<u32>(address);
    // SAFETY: an aligned word of the stack's memory, which all exists; a volatile read of one that is in use
    // yields whatever it holds.
    unsafe { word.read_volatile() == STACK_PAINT_VALUE }
}
