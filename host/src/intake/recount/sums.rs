//! Sums of windows, those that a store holds against those of the log: of all windows as one number a day, or of a
//! few days window by window.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash};

use rollcall_wire::Slot;

use super::coverage::Coverage;
use crate::log::rollup::{self, Resolution};
use crate::log::{StoreError, WindowRow};
use crate::model::{BySecond, Counts};

/// How many seconds of the log are put together.
const HELD_SECONDS: usize = 4096;

/// The most days that have samples: of three thousand years.
pub(super) const DAYS_MAX: usize = 1 << 20;

/// A sum that a window holds: that of all of it, or of a part, which is one of a minute's seconds or of an hour's minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cell {
    /// Its first second.
    pub(super) start: u64,
    /// Its length in seconds.
    pub(super) seconds: u64,
    /// That of the window.
    pub(super) of: u64,
}

impl Cell {
    pub(super) fn whole(resolution: Resolution, start: u64) -> Self {
        Self { start, seconds: resolution.seconds(), of: resolution.seconds() }
    }

    /// The part of a window of this resolution that begins with this second; days have none.
    pub(super) fn part(of: Resolution, start: u64) -> Self {
        let seconds = if of == Resolution::Minute { 1 } else { Resolution::Minute.seconds() };
        Self { start, seconds, of: of.seconds() }
    }
}

/// Takes what a store holds, and what the log says.
pub(super) trait Sums {
    /// Are the windows of this day wanted?
    fn wants(&self, day: u64) -> bool;

    /// # Errors
    /// When there are too many.
    fn stored(&mut self, cell: Cell, counts: &Counts) -> Result<(), StoreError>;

    /// # Errors
    /// When there are too many.
    fn logged(&mut self, cell: Cell, counts: &Counts) -> Result<(), StoreError>;
}

/// The cells of a window that a store holds.
pub(super) fn stored(
    sums: &mut impl Sums,
    resolution: Resolution,
    window: &WindowRow,
) -> Result<(), StoreError> {
    sums.stored(Cell::whole(resolution, window.start), &window.counts)?;
    let mut parts = window.parts.iter();
    parts.try_for_each(|(second, counts)| sums.stored(Cell::part(resolution, *second), counts))
}

/// Adds the log of one slot, as far as the windows hold it.
pub(super) struct SlotSums<'a, S> {
    slot: Slot,
    coverage: &'a Coverage,
    sums: &'a mut S,
    /// What all windows hold, put together for a while: entries have seconds in common.
    held: BySecond,
}

impl<'a, S: Sums> SlotSums<'a, S> {
    pub(super) fn new(slot: Slot, coverage: &'a Coverage, sums: &'a mut S) -> Self {
        Self { slot, coverage, sums, held: BySecond::new() }
    }

    /// Takes the next entry.
    pub(super) fn add(&mut self, number: u64, mut counts: BySecond) -> Result<(), StoreError> {
        // Of the other days not all messages are there.
        counts.retain(|second, _| self.coverage.is_left(*second));
        if number < self.coverage.checkpoint(self.slot) {
            for (second, counts) in counts {
                *self.held.entry(second).or_default() += counts;
            }
            return if self.held.len() < HELD_SECONDS { Ok(()) } else { self.finish() };
        }
        let (coverage, slot) = (self.coverage, self.slot);
        self.logged(&counts, |resolution, start| coverage.holds(resolution, start, slot, number))
    }

    /// After the last entry.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        let held = std::mem::take(&mut self.held);
        self.logged(&held, |_, _| true)
    }

    /// Adds the sums of all windows that hold these samples.
    fn logged(
        &mut self,
        counts: &BySecond,
        holds: impl Fn(Resolution, u64) -> bool,
    ) -> Result<(), StoreError> {
        for (second, counts) in counts {
            let minute = Resolution::Minute.window_start(*second);
            if self.sums.wants(Resolution::Day.window_start(*second)) && holds(Resolution::Minute, minute) {
                self.sums.logged(Cell::part(Resolution::Minute, *second), counts)?;
            }
        }
        for (minute, counts) in rollup::windows(counts, Resolution::Minute) {
            let hour = Resolution::Hour.window_start(minute);
            let has_it = self.coverage.has_minutes(hour) && holds(Resolution::Hour, hour);
            if has_it && self.sums.wants(Resolution::Day.window_start(minute)) {
                self.sums.logged(Cell::part(Resolution::Hour, minute), &counts)?;
            }
        }
        for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
            for (start, counts) in rollup::windows(counts, resolution) {
                if self.sums.wants(Resolution::Day.window_start(start)) && holds(resolution, start) {
                    self.sums.logged(Cell::whole(resolution, start), &counts)?;
                }
            }
        }
        Ok(())
    }
}

/// One number a day: every count of every cell has a weight of 128 random bits, so that sums of the same cells are
/// the same, and those of others are not, but for one case in 2⁶⁴.
#[derive(Default)]
pub(super) struct Digest {
    weights: Weights,
    days: BTreeMap<u64, u128>,
}

/// See [`Digest`].
#[derive(Default)]
pub(super) struct Weights([RandomState; 2]);

impl Weights {
    /// The weight of counts in a place.
    pub(super) fn of(&self, place: impl Hash + Copy, counts: &Counts) -> u128 {
        let weigh = |(number, count): (usize, u64)| {
            let [high, low] = &self.0;
            let weight =
                u128::from(high.hash_one((place, number))) << 64 | u128::from(low.hash_one((place, number)));
            weight.wrapping_mul(count.into())
        };
        let some = numbers(counts).enumerate().filter(|(_, count)| *count > 0);
        some.map(weigh).fold(0_u128, u128::wrapping_add)
    }
}

impl Digest {
    /// The days that have a window which is not as the log says.
    pub(super) fn differing(&self) -> impl Iterator<Item = u64> + '_ {
        self.days.iter().filter(|(_, difference)| **difference != 0).map(|(day, _)| *day)
    }

    fn add(
        &mut self,
        cell: Cell,
        counts: &Counts,
        add: impl Fn(u128, u128) -> u128,
    ) -> Result<(), StoreError> {
        let weight = self.weights.of(cell, counts);
        let day = self.days.entry(Resolution::Day.window_start(cell.start)).or_default();
        *day = add(*day, weight);
        if self.days.len() > DAYS_MAX {
            let reason = format!("there are samples of more than {DAYS_MAX} days");
            return Err(StoreError::Corrupt(reason));
        }
        Ok(())
    }
}

impl Sums for Digest {
    fn wants(&self, _: u64) -> bool {
        true
    }

    fn stored(&mut self, cell: Cell, counts: &Counts) -> Result<(), StoreError> {
        self.add(cell, counts, u128::wrapping_add)
    }

    fn logged(&mut self, cell: Cell, counts: &Counts) -> Result<(), StoreError> {
        self.add(cell, counts, u128::wrapping_sub)
    }
}

/// Every cell of a few days: what is stored, and what the log says.
pub(super) struct Exact {
    days: BTreeSet<u64>,
    cells: BTreeMap<Cell, (Counts, Counts)>,
}

impl Exact {
    pub(super) fn of(days: &[u64]) -> Self {
        Self { days: days.iter().copied().collect(), cells: BTreeMap::new() }
    }

    /// The cells that are not as the log says.
    pub(super) fn differing(&self) -> impl Iterator<Item = (Cell, &Counts, &Counts)> {
        let cells = self.cells.iter().map(|(cell, (stored, logged))| (*cell, stored, logged));
        cells.filter(|(_, stored, logged)| stored != logged)
    }
}

impl Sums for Exact {
    fn wants(&self, day: u64) -> bool {
        self.days.contains(&day)
    }

    fn stored(&mut self, cell: Cell, counts: &Counts) -> Result<(), StoreError> {
        self.cells.entry(cell).or_default().0 += *counts;
        Ok(())
    }

    fn logged(&mut self, cell: Cell, counts: &Counts) -> Result<(), StoreError> {
        self.cells.entry(cell).or_default().1 += *counts;
        Ok(())
    }
}

/// All numbers of counts.
fn numbers(counts: &Counts) -> impl Iterator<Item = u64> + use<> {
    let Counts { statuses, one_second, unknown, late, undecided } = *counts;
    statuses.into_iter().chain([one_second, unknown, late, undecided])
}
