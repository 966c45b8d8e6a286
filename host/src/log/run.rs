//! Counts at places one after the other, as bytes: the minutes of a device, and the seconds of a minute.
//!
//! One byte tells a number in most cases: 2 bits how many places after the one before (3: a difference follows), 3
//! bits which of its numbers (7: a byte follows), 3 bits how often (0: what is beyond 7 follows).

use super::codec::{self, Numbers};
use super::varint;
use crate::model::Counts;

const ADVANCE_SHIFT: u32 = 6;
const NUMBER_SHIFT: u32 = 3;
/// What of a first byte says that more follows, of each of the three.
const DIFFERENCE_FOLLOWS: u8 = 3;
const NUMBER_FOLLOWS: u8 = 7;
const COUNT_FOLLOWS: u8 = 0;

/// The most that a first byte says of a count.
const COUNT_MAX: u64 = 7;

/// More samples at a place are none that were counted: what says so is damaged.
const COUNT_END: u64 = 1 << 48;

/// One place: its distance from the one before, and its counts. Nothing is written of counts of nothing.
pub(super) fn write(bytes: &mut Vec<u8>, difference: i64, counts: &Counts) {
    let mut difference = Some(difference);
    for (number, count) in (0_u8..).zip(codec::numbers(counts)).filter(|(_, count)| *count > 0) {
        let (advance, far) = match difference.take() {
            None => (0, None),
            Some(near @ 0..=2) => (near as u8, None),
            Some(far) => (DIFFERENCE_FOLLOWS, Some(far)),
        };
        let short = if count <= COUNT_MAX { count as u8 } else { COUNT_FOLLOWS };
        bytes.push(advance << ADVANCE_SHIFT | number.min(NUMBER_FOLLOWS) << NUMBER_SHIFT | short);
        if let Some(far) = far {
            varint::put_signed(bytes, far);
        }
        if number >= NUMBER_FOLLOWS {
            bytes.push(number);
        }
        if count > COUNT_MAX {
            varint::put(bytes, count - COUNT_MAX - 1);
        }
    }
}

/// Reads one place, if there is a whole one, as [`write()`] writes it and not otherwise.
pub(super) fn read(bytes: &mut &[u8]) -> Option<(i64, Counts)> {
    let mut numbers = Numbers::default();
    let first = *bytes.first()? >> ADVANCE_SHIFT;
    let mut difference = i64::from(first);
    let mut last = None;
    while let Some((head, rest)) = bytes.split_first() {
        if last.is_some() && head >> ADVANCE_SHIFT > 0 {
            break;
        }
        *bytes = rest;
        if head >> ADVANCE_SHIFT == DIFFERENCE_FOLLOWS {
            difference = varint::get_signed(bytes)?;
            if (0..DIFFERENCE_FOLLOWS.into()).contains(&difference) {
                return None;
            }
        }
        let mut number = head >> NUMBER_SHIFT & NUMBER_FOLLOWS;
        if number == NUMBER_FOLLOWS {
            let (more, rest) = bytes.split_first()?;
            (number, *bytes) = (*more, rest);
            if number < NUMBER_FOLLOWS {
                return None;
            }
        }
        if last.is_some_and(|last| last >= number) {
            return None;
        }
        last = Some(number);
        let count = match head & COUNT_MAX as u8 {
            COUNT_FOLLOWS => varint::get(bytes).filter(|more| *more < COUNT_END)? + COUNT_MAX + 1,
            short => short.into(),
        };
        *numbers.get_mut(usize::from(number))? = count;
    }
    Some((difference, codec::counts(&numbers)))
}

/// Which numbers have all samples of a run: all came late, or no time is exact. It is told once, and not at each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common(u8);

/// The numbers that may be, by bit.
const COMMON: [fn(&mut Counts) -> &mut u64; 3] =
    [|counts| &mut counts.late, |counts| &mut counts.one_second, |counts| &mut counts.unknown];

impl Common {
    /// What the samples of these places have in common.
    pub(super) fn of(places: impl Iterator<Item = Counts>) -> Self {
        let mut common = Self::all();
        for mut counts in places {
            let total = counts.total();
            for (bit, number) in COMMON.iter().enumerate() {
                if *number(&mut counts) != total {
                    common.0 &= !(1 << bit);
                }
            }
        }
        common
    }

    fn all() -> Self {
        Self((1 << COMMON.len()) - 1)
    }

    /// Its stored form: three bits.
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// Reads what [`Common::bits`] gave.
    pub(super) fn from_bits(bits: u8) -> Option<Self> {
        (bits <= Self::all().0).then_some(Self(bits))
    }

    /// The counts of a place as they are written.
    pub(super) fn left_out(self, counts: Counts) -> Counts {
        self.set(counts, |_| 0)
    }

    /// The counts of a place that were written without what is common.
    pub(super) fn put_back(self, counts: Counts) -> Counts {
        self.set(counts, Counts::total)
    }

    fn set(self, mut counts: Counts, value: impl Fn(&Counts) -> u64) -> Counts {
        let value = value(&counts);
        for (_, number) in COMMON.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 > 0) {
            *number(&mut counts) = value;
        }
        counts
    }
}
