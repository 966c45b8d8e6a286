//! Makes a failure smaller: leaves out faults, devices and time for as long as the same check fails.

use std::collections::BTreeSet;

use crate::faults;
use crate::scene::Failure;
use crate::settings::{Parts, Settings};
use crate::world::run;

/// Sampling goes on for so long after the last fault, at least, in milliseconds.
const AFTER_MS: [u64; 3] = [1_000, 10_000, 40_000];

/// The smallest run that is found in `runs` attempts whose failure is that of the same check.
pub fn shrink(settings: &Settings, failure: &Failure, runs: usize) -> Settings {
    let mut shrinker = Shrinker { check: failure.check, runs };
    let mut smallest = Settings { keep_trace: false, ..settings.clone() };
    let schedule = faults::draw(settings, &Parts::draw(settings.seed));
    let faults = smallest.faults.clone().unwrap_or_else(|| (0..schedule.len()).collect());
    let devices = smallest.only.clone().unwrap_or_else(|| (0..settings.devices).collect());
    let with_faults = |base: &Settings, faults| Settings { faults: Some(faults), ..base.clone() };
    let with_devices = |base: &Settings, only| Settings { only: Some(only), ..base.clone() };
    shrinker.reduce(&mut smallest, faults, with_faults);
    shrinker.reduce(&mut smallest, devices, with_devices);
    let kept = smallest.faults.iter().flatten();
    let last_ms = kept.filter_map(|place| schedule.get(*place)).map(|(at_ms, _)| *at_ms).max().unwrap_or(0);
    for after_ms in AFTER_MS {
        if shrinker.try_settings(&mut smallest, |base| Settings {
            stop_at_ms: Some(last_ms + after_ms),
            ..base.clone()
        }) {
            break;
        }
    }
    let faults = smallest.faults.clone().unwrap_or_default();
    shrinker.reduce(&mut smallest, faults, with_faults);
    smallest
}

struct Shrinker {
    check: &'static str,
    runs: usize,
}

impl Shrinker {
    /// Takes other settings for the smallest if they fail in the same way.
    fn try_settings(&mut self, smallest: &mut Settings, change: impl FnOnce(&Settings) -> Settings) -> bool {
        if self.runs == 0 {
            return false;
        }
        self.runs -= 1;
        let changed = change(smallest);
        let fails = run(&changed).failure.is_some_and(|failure| failure.check == self.check);
        if fails {
            *smallest = changed;
        }
        fails
    }

    /// Leaves out halves, quarters, … of `items`, and in the end each alone.
    fn reduce<T: Ord + Copy>(
        &mut self,
        smallest: &mut Settings,
        items: BTreeSet<T>,
        with: impl Fn(&Settings, BTreeSet<T>) -> Settings,
    ) {
        let mut items: Vec<T> = items.into_iter().collect();
        let mut size = items.len();
        while size > 0 {
            let mut at = 0;
            while at < items.len() {
                let end = (at + size).min(items.len());
                let without: Vec<T> = [&items[..at], &items[end..]].concat();
                if self.try_settings(smallest, |base| with(base, without.iter().copied().collect())) {
                    items = without;
                } else {
                    at = end;
                }
            }
            size /= 2;
        }
    }
}
