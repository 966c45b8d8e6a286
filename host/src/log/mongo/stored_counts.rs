//! Counts as documents: `{3: 17}` by status, and `{1721433676: {3: 17}}` by second. What is zero is absent, for
//! most of it would be.

use std::collections::BTreeMap;

use rollcall_wire::Status;

use crate::model::{BySecond, Counts};

/// By status.
pub(super) type StoredCounts = BTreeMap<String, i64>;

/// By second: of Unix time in an entry, of the minute in a window.
pub(super) type StoredSeconds = BTreeMap<String, StoredCounts>;

/// As it is stored.
pub(super) fn seconds(counts: &BySecond) -> StoredSeconds {
    counts.iter().map(|(second, counts)| (second.to_string(), by_status(counts).collect())).collect()
}

/// The statuses that there are, and how many of each.
pub(super) fn by_status(counts: &Counts) -> impl Iterator<Item = (String, i64)> {
    let counts = counts.statuses.iter().enumerate().filter(|(_, count)| **count > 0);
    counts.map(|(status, count)| (status.to_string(), count.cast_signed()))
}

/// Adds what is stored; `None` when it is not readable.
pub(super) fn add(sum: &mut Counts, stored: &StoredCounts) -> Option<()> {
    for (status, count) in stored {
        let status = Status::new(status.parse().ok()?)?;
        sum.statuses[status.index()] += u64::try_from(*count).ok()?;
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
