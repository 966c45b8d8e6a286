//! The windows of days of which messages were removed. Nothing is left to count them again by; but seconds have to add up to
//! their minute, minutes to their hour, and hours to the day; and an hour that has sums of its minutes, those of the minutes.

use std::collections::{BTreeMap, BTreeSet};

use super::sums::{Cell, DAYS_MAX, Weights};
use crate::log::rollup::Resolution;
use crate::log::{StoreError, WindowRow};
use crate::model::{self, Counts};

/// A number a day, which is 0 where all adds up.
#[derive(Default)]
pub(super) struct KeptSums {
    weights: Weights,
    days: BTreeMap<u64, u128>,
    /// Days that were added to while they were read: of these nothing is said.
    moving: BTreeSet<u64>,
}

impl KeptSums {
    /// Takes a window; does its hour have sums of its minutes?
    ///
    /// # Errors
    /// When there are too many days.
    pub(super) fn add(
        &mut self,
        resolution: Resolution,
        window: &WindowRow,
        has_minutes: bool,
    ) -> Result<(), StoreError> {
        let cell = |resolution: Resolution| Cell::whole(resolution, resolution.window_start(window.start));
        let of_hour =
            |minute: u64, counts: &Counts| self.weights.of(Cell::part(Resolution::Hour, minute), counts);
        // What it is as a whole, and as a part.
        let (whole, part) = match resolution {
            Resolution::Day => (Some(Resolution::Day), None),
            Resolution::Hour => (Some(Resolution::Hour), Some(Resolution::Day)),
            Resolution::Minute => (None, Some(Resolution::Hour)),
        };
        let of = |of: Option<Resolution>| of.map_or(0, |of| self.weights.of(cell(of), &window.counts));
        let mut sum = of(whole).wrapping_sub(of(part));
        if resolution == Resolution::Hour {
            let minutes = window.parts.iter().map(|(minute, counts)| of_hour(*minute, counts));
            sum = minutes.fold(sum, u128::wrapping_add);
        }
        if resolution == Resolution::Minute {
            if has_minutes {
                sum = sum.wrapping_sub(of_hour(window.start, &window.counts));
            }
            let seconds = model::sum(&window.parts, 0..u64::MAX);
            let minute = cell(Resolution::Minute);
            sum = sum.wrapping_add(self.weights.of(minute, &window.counts));
            sum = sum.wrapping_sub(self.weights.of(minute, &seconds));
        }
        let day = self.days.entry(Resolution::Day.window_start(window.start)).or_default();
        *day = day.wrapping_add(sum);
        if self.days.len() > DAYS_MAX {
            return Err(StoreError::Corrupt(format!("there are samples of more than {DAYS_MAX} days")));
        }
        Ok(())
    }

    /// The day of this second is added to.
    pub(super) fn is_moving(&mut self, second: u64) {
        self.moving.insert(Resolution::Day.window_start(second));
    }

    /// The days that do not add up.
    pub(super) fn differing(&self) -> impl Iterator<Item = u64> + '_ {
        let differs = |(day, sum): &(&u64, &u128)| **sum != 0 && !self.moving.contains(*day);
        self.days.iter().filter(differs).map(|(day, _)| *day)
    }
}
