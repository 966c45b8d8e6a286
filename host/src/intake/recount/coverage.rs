//! Which entries each window of a store holds, so that it is compared with those and no others.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_wire::Slot;

use super::kept::KeptSums;
use crate::log::plan::Upto;
use crate::log::rollup::Resolution;
use crate::log::start::{self, Start, Starts};
use crate::log::{Checkpoints, StoreError, WindowRow};

/// The most windows that may change while all of them are read.
const MOVING_MAX: usize = 1 << 16;

/// All windows hold the entries below the checkpoint that was read before them. One that was added to in between
/// says so itself.
pub(super) struct Coverage {
    checkpoint: Upto,
    moving: BTreeMap<(Resolution, u64), Upto>,
    furthest: Upto,
    /// Which hours of each day have the sums of their minutes, one bit each.
    by_minute: BTreeMap<u64, u32>,
    starts: Starts,
    kept: KeptSums,
}

impl Coverage {
    /// `starts` were read before the checkpoints.
    pub(super) fn new(starts: Starts, checkpoints: &Checkpoints) -> Self {
        let checkpoint = checkpoints.map(|checkpoint| checkpoint.windows);
        let (moving, by_minute, kept) = (BTreeMap::new(), BTreeMap::new(), KeptSums::default());
        Self { checkpoint, moving, furthest: checkpoint, by_minute, starts, kept }
    }

    /// Where the log of `slot` starts.
    pub(super) fn start(&self, slot: Slot) -> &Start {
        &self.starts[slot.index()]
    }

    /// Are all messages there that were sampled on the day of this second?
    pub(super) fn is_left(&self, second: u64) -> bool {
        self.starts.iter().all(|start| !start.lacks(second))
    }

    /// The Unix second from which on all messages are there, and how many days after it are without.
    pub(super) fn complete_from(&self) -> (u64, usize) {
        let horizon = start::horizon(&self.starts);
        let days: BTreeSet<_> = self.starts.iter().flat_map(|start| start.days().1).collect();
        (horizon, days.into_iter().filter(|day| **day >= horizon).count())
    }

    /// The days without all of their messages, whose windows do not add up.
    pub(super) fn torn(&self) -> impl Iterator<Item = u64> + '_ {
        self.kept.differing()
    }

    /// Takes what a window says of itself; hours before minutes.
    ///
    /// # Errors
    /// When too many have changed.
    pub(super) fn note(&mut self, resolution: Resolution, window: &WindowRow) -> Result<(), StoreError> {
        if resolution == Resolution::Hour && !window.parts.is_empty() {
            let (day, hour) = day_and_hour(window.start);
            *self.by_minute.entry(day).or_default() |= 1 << hour;
        }
        if !self.is_left(window.start) {
            let has_minutes = self.has_minutes(window.start);
            self.kept.add(resolution, window, has_minutes)?;
        }
        let moving = window.upto.iter().zip(self.checkpoint).any(|(upto, checkpoint)| *upto > checkpoint);
        if !moving {
            return Ok(());
        }
        for (furthest, upto) in self.furthest.iter_mut().zip(window.upto) {
            *furthest = upto.max(*furthest);
        }
        self.kept.is_moving(window.start);
        self.moving.insert((resolution, window.start), window.upto);
        if self.moving.len() > MOVING_MAX {
            let reason =
                format!("more than {MOVING_MAX} windows were added to while they were read; try again");
            return Err(StoreError::Unavailable(reason));
        }
        Ok(())
    }

    /// Below it, every window holds the entries of `slot`.
    pub(super) fn checkpoint(&self, slot: Slot) -> u64 {
        self.checkpoint[slot.index()]
    }

    /// From it on, no window holds an entry of `slot`.
    pub(super) fn furthest(&self, slot: Slot) -> u64 {
        self.furthest[slot.index()]
    }

    /// Does the hour of this second have the sums of its minutes?
    pub(super) fn has_minutes(&self, second: u64) -> bool {
        let (day, hour) = day_and_hour(second);
        self.by_minute.get(&day).is_some_and(|hours| hours >> hour & 1 == 1)
    }

    /// Does the window hold its part of the entry?
    pub(super) fn holds(&self, resolution: Resolution, start: u64, slot: Slot, number: u64) -> bool {
        let upto = self.moving.get(&(resolution, start)).map_or(0, |upto| upto[slot.index()]);
        number < upto.max(self.checkpoint(slot))
    }
}

fn day_and_hour(second: u64) -> (u64, u64) {
    let day = Resolution::Day.window_start(second);
    (day, (second - day) / Resolution::Hour.seconds())
}
