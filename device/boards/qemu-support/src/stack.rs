//! The stack: how much of it was ever used, and which functions are on it.

use core::arch::asm;
use core::iter;

use cortex_m_rt::STACK_PAINT_VALUE;

/// A word's size, in bytes.
const WORD: usize = size_of::<usize>();

/// What cortex-m-rt put into each word of the stack before `main`.
const UNTOUCHED: usize = STACK_PAINT_VALUE as usize;

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
    let untouched = range.clone().step_by(WORD).take_while(|address| word(*address) == Some(UNTOUCHED));
    range.len() - untouched.count() * WORD
}

/// The caller's frame pointer. Rust's code for this processor always keeps one in r7.
#[inline(always)]
pub(crate) fn frame_pointer() -> usize {
    let value;
    #[expect(unsafe_code, reason = "a register")]
    // SAFETY: it reads a register, and nothing else.
    unsafe {
        asm!("mov {}, r7", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// The addresses to which the functions on the stack would return, the innermost first. Where the frame pointer
/// points, each function has put its caller's frame pointer and, behind it, that address.
pub(crate) fn callers(frame_pointer: usize) -> impl Iterator<Item = usize> {
    let mut frame = frame_pointer;
    iter::from_fn(move || {
        let (outer, address) = (word(frame)?, word(frame + WORD)?);
        // A stack grows downwards: what does not lead up is no chain, or its end.
        frame = if outer > frame { outer } else { 0 };
        Some(address)
    })
}

/// The word of the stack at `address`; `None` where there is none.
#[expect(unsafe_code, reason = "most of the stack belongs to somebody else, or to nobody")]
fn word(address: usize) -> Option<usize> {
    let stack = range();
    if !address.is_multiple_of(WORD) || !stack.contains(&address) {
        return None;
    }
    // SAFETY: an aligned word of the stack's memory, which all exists; a volatile read of one that is in use
    // yields whatever it holds.
    Some(unsafe { core::ptr::with_exposed_provenance::<usize>(address).read_volatile() })
}
