//! A time range → the windows that cover it, and the sum of those windows and of the log's tail: of all of it, or of
//! each step.
//!
//! Pure arithmetic: a store fetches what a [`Plan`] names and gives it back as a [`View`]. The sums are exact
//! at every instant, late samples included, because a sample is found either in a window or in the tail,
//! and [`Window::upto`] says which.

use std::ops::Range;
use std::sync::Arc;

use rollcall_wire::Slot;

use super::rollup::Resolution;
use crate::model::{self, BySecond, Counts};

/// For each partition, how many entries from the start of its log are meant.
pub type Upto = [u64; Slot::COUNT];

/// The pieces that a range falls into: whole days, whole hours and minutes beside them, and seconds at the
/// edges. Pieces are disjoint and cover the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The range in Unix seconds, end exclusive.
    pub range: Range<u64>,
    /// The length of a step in seconds, at least 1. Steps lie on its multiples since 1970, and the first and the last
    /// may reach beyond the range. `None`: all of the range is one.
    pub step: Option<u64>,
    /// Runs of whole windows, each in Unix seconds on its resolution's boundaries, and none in two steps.
    pub whole: Vec<(Resolution, Range<u64>)>,
    /// At most two runs of seconds. Each is shorter than two minutes, unless steps are no whole minutes.
    pub edges: Vec<Range<u64>>,
}

impl Plan {
    /// Plans the sum of `range`; an empty one has no pieces.
    pub fn new(range: Range<u64>) -> Self {
        Self::with(range, None)
    }

    /// Plans a sum for each step of so many seconds, at least 1.
    pub fn stepwise(range: Range<u64>, step: u64) -> Self {
        Self::with(range, Some(step.max(1)))
    }

    fn with(range: Range<u64>, step: Option<u64>) -> Self {
        let mut whole = Vec::new();
        let mut rest = vec![range.clone()];
        let within_steps = |of: &Resolution| step.is_none_or(|step| step.is_multiple_of(of.seconds()));
        for resolution in
            [Resolution::Day, Resolution::Hour, Resolution::Minute].into_iter().filter(within_steps)
        {
            let mut beside = Vec::with_capacity(2);
            for part in rest {
                let inner = inner(&part, resolution.seconds());
                if inner.is_empty() {
                    beside.push(part);
                } else {
                    beside.extend([part.start..inner.start, inner.end..part.end]);
                    whole.push((resolution, inner));
                }
            }
            beside.retain(|part| !part.is_empty());
            rest = beside;
        }
        Self { range, step, whole, edges: rest }
    }

    /// Where the first step starts; without steps, the range does.
    pub fn first(&self) -> u64 {
        self.step.map_or(self.range.start, |step| self.range.start / step * step)
    }

    /// How many steps there are: 0 for an empty range, and otherwise at least 1.
    pub fn steps(&self) -> u64 {
        if self.range.is_empty() {
            return 0;
        }
        self.step.map_or(1, |step| (self.range.end - self.first()).div_ceil(step))
    }

    /// A run of seconds of one minute, cut so that no part is in two steps.
    pub fn cut(&self, seconds: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let step = self.step;
        let mut start = seconds.start;
        std::iter::from_fn(move || {
            let end =
                step.map_or(seconds.end, |step| (start / step + 1).saturating_mul(step).min(seconds.end));
            let part = start..end;
            start = end;
            (!part.is_empty()).then_some(part)
        })
    }

    /// In which step a second of the range is.
    fn step_of(&self, second: u64) -> usize {
        // Below `steps`, of which there are sums in memory.
        self.step.map_or(0, |step| ((second - self.first()) / step) as usize)
    }
}

/// The whole multiples of `unit` in `range`; empty when there is none.
fn inner(range: &Range<u64>, unit: u64) -> Range<u64> {
    let start = range.start.div_ceil(unit).saturating_mul(unit);
    start..(range.end / unit * unit)
}

/// A part of a window that lies in the range.
#[derive(Clone, Debug)]
pub struct Window {
    /// The part, in Unix seconds.
    pub range: Range<u64>,
    /// The sum of that part.
    pub counts: Counts,
    /// Which entries the sum holds already.
    pub upto: Upto,
}

/// The counts of a log entry that may not be rolled up yet.
#[derive(Clone, Debug)]
pub struct TailEntry {
    /// The partition.
    pub slot: Slot,
    /// The entry's number in the partition.
    pub number: u64,
    counts: BySecond,
    /// The sum of `counts`, for ranges that hold all of it.
    total: Counts,
    /// The seconds from the first of `counts` to the last.
    span: Range<u64>,
}

impl TailEntry {
    /// The entry `number` of `slot` has `counts`.
    pub fn new(slot: Slot, number: u64, counts: BySecond) -> Self {
        let total = model::sum(&counts, 0..u64::MAX);
        let (first, last) = (counts.first_key_value(), counts.last_key_value());
        let span = first.zip(last).map_or(0..0, |((first, _), (last, _))| *first..last.saturating_add(1));
        Self { slot, number, counts, total, span }
    }

    /// May some of it lie in the range? Most of a tail does not, when one asks for what was long ago.
    pub fn touches(&self, range: &Range<u64>) -> bool {
        self.span.start < range.end && range.start < self.span.end
    }

    fn lies_within(&self, range: &Range<u64>) -> bool {
        range.start <= self.span.start && self.span.end <= range.end
    }
}

/// What a store holds for a plan: windows first, then the tail, so that nothing falls between them.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The windows with a sample; disjoint, in order of time.
    pub windows: Vec<Window>,
    /// Every entry from each partition's checkpoint on, and perhaps some from before it.
    pub tail: Vec<Arc<TailEntry>>,
}

impl View {
    /// What of it is of the entries below `ends`; `None` when a window holds more.
    pub fn below(mut self, ends: &Upto) -> Option<Self> {
        let holds_more = |window: &Window| window.upto.iter().zip(ends).any(|(upto, end)| upto > end);
        if self.windows.iter().any(holds_more) {
            return None;
        }
        self.tail.retain(|entry| entry.number < ends[entry.slot.index()]);
        Some(self)
    }

    /// How many sums there are to be added up at most.
    pub fn sums(&self) -> usize {
        self.windows.len() + self.tail.iter().map(|entry| entry.counts.len()).sum::<usize>()
    }
}

/// How many samples of each status were taken in the plan's range, in all of its steps.
pub fn total(plan: &Plan, view: &View) -> Counts {
    let mut total = Counts::default();
    add_up(plan, view, |_, counts| total += counts);
    total
}

/// How many samples of each status were taken in each of the plan's steps.
pub fn series(plan: &Plan, view: &View) -> Vec<Counts> {
    let mut series = vec![Counts::default(); usize::try_from(plan.steps()).unwrap_or(usize::MAX)];
    add_up(plan, view, |step, counts| series[step] += counts);
    series
}

/// Gives each part of the sum once, with the step that it is in.
fn add_up(plan: &Plan, view: &View, mut add: impl FnMut(usize, Counts)) {
    for window in &view.windows {
        add(plan.step_of(window.range.start), window.counts);
    }
    let rolled = rolled_up(&view.windows);
    for entry in view.tail.iter().filter(|entry| entry.touches(&plan.range)) {
        let is_new = entry.number >= rolled[entry.slot.index()];
        if plan.step.is_none() && is_new && entry.lies_within(&plan.range) {
            add(0, entry.total);
            continue;
        }
        for (second, counts) in entry.counts.range(plan.range.clone()) {
            if is_new || !holds(&view.windows, *second, entry) {
                add(plan.step_of(*second), *counts);
            }
        }
    }
}

/// For each partition, the entries that one of the windows may hold.
fn rolled_up(windows: &[Window]) -> Upto {
    windows.iter().fold([0; Slot::COUNT], |rolled, window| {
        std::array::from_fn(|slot| rolled[slot].max(window.upto[slot]))
    })
}

/// Is the entry's share of `second` in a window already?
fn holds(windows: &[Window], second: u64, entry: &TailEntry) -> bool {
    let at = windows.partition_point(|window| window.range.end <= second);
    windows
        .get(at)
        .is_some_and(|window| window.range.start <= second && entry.number < window.upto[entry.slot.index()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 86_400;

    #[test]
    fn whole_days_come_first_then_hours_minutes_and_seconds_on_both_sides() {
        let plan = Plan::new(DAY - 3_661..2 * DAY + 3_661);
        assert_eq!(
            plan.whole,
            [
                (Resolution::Day, DAY..2 * DAY),
                (Resolution::Hour, DAY - 3_600..DAY),
                (Resolution::Hour, 2 * DAY..2 * DAY + 3_600),
                (Resolution::Minute, DAY - 3_660..DAY - 3_600),
                (Resolution::Minute, 2 * DAY + 3_600..2 * DAY + 3_660),
            ]
        );
        assert_eq!(plan.edges, [DAY - 3_661..DAY - 3_660, 2 * DAY + 3_660..2 * DAY + 3_661]);
    }

    #[test]
    fn an_empty_range_has_no_pieces() {
        let plan = Plan::new(77..77);
        assert!(plan.whole.is_empty() && plan.edges.is_empty());
    }

    #[test]
    fn a_sample_that_a_window_holds_is_not_counted_again_from_the_tail() {
        let slot = Slot::new(3).unwrap();
        let one = |status: usize| {
            let mut counts = Counts::default();
            counts.statuses[status] = 1;
            counts
        };
        let entry = |number| Arc::new(TailEntry::new(slot, number, BySecond::from([(60, one(2))])));
        let mut upto = [0; Slot::COUNT];
        upto[3] = 8;
        let view = View {
            windows: vec![Window { range: 60..120, counts: one(2), upto }],
            tail: vec![entry(7), entry(8)],
        };
        assert_eq!(total(&Plan::new(60..120), &view).statuses, [0, 0, 2, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn no_piece_is_in_two_steps(
            start in 0..3 * DAY, length in 0..3 * DAY, step in prop_oneof![1..200u64, Just(60), Just(900), Just(7200), Just(DAY)],
        ) {
            let plan = Plan::stepwise(start..start + length, step);
            let of_whole = |(resolution, run): &(Resolution, Range<u64>)| {
                let seconds = resolution.seconds();
                run.clone().step_by(seconds as usize).map(move |at| at..at + seconds).collect::<Vec<_>>()
            };
            let mut pieces: Vec<_> = plan.whole.iter().flat_map(of_whole).collect();
            for edge in &plan.edges {
                for minute in edge.start / 60..edge.end.div_ceil(60) {
                    pieces.extend(plan.cut(edge.start.max(minute * 60)..edge.end.min(minute * 60 + 60)));
                }
            }
            pieces.sort_by_key(|piece| piece.start);
            let mut at = start;
            for piece in pieces {
                prop_assert_eq!(piece.start, at);
                prop_assert_eq!(piece.start / step, (piece.end - 1) / step);
                prop_assert!((plan.step_of(piece.start) as u64) < plan.steps());
                at = piece.end;
            }
            prop_assert_eq!(at, start + length);
        }

        #[test]
        fn pieces_are_disjoint_and_cover_the_range(start in 0..10 * DAY, length in 0..10 * DAY) {
            let plan = Plan::new(start..start + length);
            let mut pieces: Vec<_> = plan.whole.iter().map(|(_, range)| range.clone()).collect();
            pieces.extend(plan.edges.clone());
            pieces.sort_by_key(|range| range.start);
            let mut at = start;
            for piece in pieces {
                prop_assert_eq!(piece.start, at);
                at = piece.end;
            }
            prop_assert_eq!(at, start + length);
            for (resolution, range) in &plan.whole {
                prop_assert_eq!(range.start % resolution.seconds(), 0);
                prop_assert_eq!(range.end % resolution.seconds(), 0);
            }
            prop_assert!(plan.edges.len() <= 2 && plan.whole.len() <= 5);
            prop_assert!(plan.edges.iter().all(|edge| edge.end - edge.start < 120));
        }
    }
}
