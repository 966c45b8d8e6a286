//! Where an entry stands in a store that sorts by one number: slot · 2⁴⁰ + number. Numbers have 40 bits: a
//! thousand flushes a second for 34 years.

use std::ops::Range;

use rollcall_wire::Slot;

const NUMBER_BITS: u32 = 40;

/// How many numbers there are.
pub(super) const NUMBERS: u64 = 1 << NUMBER_BITS;

/// The key of entry `number` of `slot`.
pub(super) fn key(slot: Slot, number: u64) -> u64 {
    ((slot.index() as u64) << NUMBER_BITS) + number
}

/// A slot's last key, which no entry has: the length of its log may be kept there, beside its last entry.
pub(super) fn head(slot: Slot) -> u64 {
    ((slot.index() as u64 + 1) << NUMBER_BITS) - 1
}

/// The keys of a slot's entries from `number` on.
pub(super) fn keys(slot: Slot, number: u64) -> Range<u64> {
    key(slot, number)..head(slot)
}

/// The slot and the number that a key stands for; `None` when it is none.
pub(super) fn place(key: u64) -> Option<(Slot, u64)> {
    let slot = u8::try_from(key >> NUMBER_BITS).ok().and_then(Slot::new)?;
    Some((slot, key & ((1 << NUMBER_BITS) - 1)))
}
