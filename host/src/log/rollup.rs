//! The windows (minute, hour, day) that counts by second add up to, and the chunks by which they grow.
//!
//! Pure arithmetic. Windows lie on multiples of their length since 1970, in UTC.

use std::collections::BTreeMap;
use std::ops::Range;

use rollcall_wire::Slot;

use crate::model::{BySecond, Counts};

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// 60 s; a minute's window also keeps the counts of each of its seconds.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
}

impl Resolution {
    /// The length in seconds.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => 24 * 60 * 60,
        }
    }

    /// The start of the window that holds `second`.
    pub const fn window_start(self, second: u64) -> u64 {
        second - second % self.seconds()
    }
}

/// How many entries of a partition's log one chunk holds. Boundaries are fixed: chunk k is the entries
/// from 64·k to 64·k + 63, whoever rolls it up.
pub const CHUNK_ENTRIES: u64 = 64;

/// What a store needs to move a partition's checkpoint over one chunk of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The partition.
    pub slot: Slot,
    /// The chunk's entry numbers.
    pub entries: Range<u64>,
    /// The chunk's samples by second.
    pub counts: BySecond,
}

/// Adds up seconds into windows of `resolution`, by their start.
pub fn windows(counts: &BySecond, resolution: Resolution) -> BTreeMap<u64, Counts> {
    let mut windows = BTreeMap::<u64, Counts>::new();
    for (second, counts) in counts {
        *windows.entry(resolution.window_start(*second)).or_default() += *counts;
    }
    windows
}
