//! Counts as documents: `{3: 17, one_second: 2, unknown: 1, late: 4, undecided: 1}` by status, how many of them have a time
//! that is not exact or came late, and how many are not counted; and `{1721433676: {3: 17}}` by second. What is zero is absent, for most of it would be.

use std::collections::BTreeMap;

use rollcall_wire::Status;

use crate::model::{BySecond, Counts};

/// Each number by its name.
pub(super) type StoredCounts = BTreeMap<String, i64>;

/// By second: of Unix time in an entry, of the minute in a window.
pub(super) type StoredSeconds = BTreeMap<String, StoredCounts>;

/// As it is stored.
pub(super) fn seconds(counts: &BySecond) -> StoredSeconds {
    counts.iter().map(|(second, counts)| (second.to_string(), named(counts).collect())).collect()
}

const ONE_SECOND: &str = "one_second";
const UNKNOWN: &str = "unknown";
const LATE: &str = "late";
const UNDECIDED: &str = "undecided";

/// Each number that is not zero, by its name.
pub(super) fn named(counts: &Counts) -> impl Iterator<Item = (String, i64)> {
    let others = [
        (ONE_SECOND, counts.one_second),
        (UNKNOWN, counts.unknown),
        (LATE, counts.late),
        (UNDECIDED, counts.undecided),
    ];
    let statuses = counts.statuses.into_iter().enumerate().filter(|(_, count)| *count > 0);
    let others = others.into_iter().filter(|(_, count)| *count > 0);
    let all = statuses
        .map(|(status, count)| (status.to_string(), count))
        .chain(others.map(|(name, count)| (name.to_owned(), count)));
    all.map(|(name, count)| (name, count.cast_signed()))
}

/// Adds what is stored; `None` when it is not readable.
pub(super) fn add(sum: &mut Counts, stored: &StoredCounts) -> Option<()> {
    for (name, count) in stored {
        let number = match name.as_str() {
            ONE_SECOND => &mut sum.one_second,
            UNKNOWN => &mut sum.unknown,
            LATE => &mut sum.late,
            UNDECIDED => &mut sum.undecided,
            status => &mut sum.statuses[Status::new(status.parse().ok()?)?.index()],
        };
        *number += u64::try_from(*count).ok()?;
    }
    Some(())
}

/// What is stored; `None` when it is not readable.
pub(super) fn by_second(stored: &StoredSeconds) -> Option<BySecond> {
    let mut counts = BySecond::new();
    for (second, stored) in stored {
        add(counts.entry(second.parse().ok()?).or_default(), stored)?;
    }
    Some(counts)
}
