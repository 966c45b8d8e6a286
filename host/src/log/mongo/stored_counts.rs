//! Counts as documents: `{3: 17, one_second: 2, unknown: 1, late: 4, undecided: 1}` by status, how many of them have a time
//! that is not exact or came late, and how many are not counted; and `{1721433676: {3: 17}}` by second, or by another number.
//! What is zero is absent, for most of it would be.

use std::fmt;
use std::marker::PhantomData;

use rollcall_wire::Status;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::model::{BySecond, Counts};

/// A document whose names are read one by one, without memory for each: `None` when one of them or its number is not
/// readable, so that whoever reads can say where.
#[derive(Debug)]
pub(super) struct Named<T>(Option<T>);

/// What is made of a document's names.
pub(super) trait FromNames: Default {
    /// What stands under a name.
    type Value: for<'de> Deserialize<'de>;

    /// Takes a name; `None` when it is none.
    fn take(&mut self, name: &str, value: Self::Value) -> Option<()>;
}

/// Each number by its name.
pub(super) type StoredCounts = Named<Counts>;

/// By second of Unix time in an entry, and of the minute in a window; by minute of the hour in another.
pub(super) type StoredParts = Named<Vec<(u64, Counts)>>;

const ONE_SECOND: &str = "one_second";
const UNKNOWN: &str = "unknown";
const LATE: &str = "late";
const UNDECIDED: &str = "undecided";

impl<T: Default> Default for Named<T> {
    fn default() -> Self {
        Self(Some(T::default()))
    }
}

impl<T> Named<T> {
    /// As it is to be stored.
    pub(super) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// What is stored; `None` when it is not readable.
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl FromNames for Counts {
    type Value = i64;

    fn take(&mut self, name: &str, count: i64) -> Option<()> {
        let number = match name {
            ONE_SECOND => &mut self.one_second,
            UNKNOWN => &mut self.unknown,
            LATE => &mut self.late,
            UNDECIDED => &mut self.undecided,
            status => &mut self.statuses[Status::new(status.parse().ok()?)?.index()],
        };
        *number += u64::try_from(count).ok()?;
        Some(())
    }
}

impl FromNames for Vec<(u64, Counts)> {
    type Value = StoredCounts;

    fn take(&mut self, name: &str, counts: StoredCounts) -> Option<()> {
        self.push((name.parse().ok()?, counts.0?));
        Some(())
    }
}

impl<'de, T: FromNames> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Names(PhantomData)).map(Self)
    }
}

struct Names<T>(PhantomData<T>);

impl<'de, T: FromNames> Visitor<'de> for Names<T> {
    type Value = Option<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        let mut all = Some(T::default());
        while let Some(name) = map.next_key::<&str>()? {
            let value = map.next_value()?;
            all = all.and_then(|mut all| all.take(name, value).map(|()| all));
        }
        Ok(all)
    }
}

impl Serialize for StoredCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.get().into_iter().flat_map(named))
    }
}

impl Serialize for StoredParts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = self.get().into_iter().flatten();
        serializer.collect_map(parts.map(|(part, counts)| (part.to_string(), Named::new(*counts))))
    }
}

/// As it is stored.
pub(super) fn seconds(counts: &BySecond) -> StoredParts {
    Named::new(counts.iter().map(|(second, counts)| (*second, *counts)).collect())
}

/// Each number that is not zero, by its name.
pub(super) fn named(counts: &Counts) -> impl Iterator<Item = (String, i64)> + use<> {
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
