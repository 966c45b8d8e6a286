//! Copies and fills memory at every alignment, so that the system test can see that nothing else changes.
#![no_std]
#![no_main]

use core::hint::black_box;

use rollcall_qemu_support::{console, exit};

#[path = "support/board.rs"]
mod board;

/// Longer than several words at any alignment.
const LENGTH_MAX: usize = 21;

/// Two words: every alignment of both ends, and overlaps in both directions.
const OFFSETS: usize = 8;

/// Filled with the index of each byte.
type Bytes = [u8; LENGTH_MAX + OFFSETS];

#[rollcall_qemu_support::entry]
fn main() -> ! {
    console::init(board::put);
    for length in 0..=LENGTH_MAX {
        for to in 0..OFFSETS {
            fill(to, length);
            for from in 0..OFFSETS {
                copy(from, to, length);
                copy_within(from, to, length);
            }
        }
    }
    exit(0)
}

fn fill(to: usize, length: usize) {
    let mut bytes = indices();
    black_box(&mut bytes)[to..to + length].fill(black_box(0xa5));
    check(&bytes, |index| if (to..to + length).contains(&index) { 0xa5 } else { index });
}

fn copy(from: usize, to: usize, length: usize) {
    let (mut bytes, source) = (indices(), black_box(indices()));
    black_box(&mut bytes)[to..to + length].copy_from_slice(&source[from..from + length]);
    check(&bytes, |index| if (to..to + length).contains(&index) { index - to + from } else { index });
}

fn copy_within(from: usize, to: usize, length: usize) {
    let mut bytes = indices();
    black_box(&mut bytes).copy_within(from..from + length, to);
    check(&bytes, |index| if (to..to + length).contains(&index) { index - to + from } else { index });
}

fn indices() -> Bytes {
    core::array::from_fn(|index| index as u8)
}

fn check(bytes: &Bytes, expected: impl Fn(usize) -> usize) {
    for (index, byte) in bytes.iter().enumerate() {
        assert_eq!(usize::from(*byte), expected(index));
    }
}
