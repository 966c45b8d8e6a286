//! Strings of bytes by columns: the first bytes of all of them, then their second ones. Where strings are alike, a byte has
//! more in common with the same one of the next than with the one beside it, and compresses better so.

use std::borrow::Cow;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many bytes of a string stand in columns. What is longer stands behind all of them, string by string: in most states of
/// devices, these are counts, which compress worse by columns.
const COLUMNS_MAX: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Columns {
    lengths: Vec<usize>,
    /// The least of them: columns before it have a byte of each string.
    shortest: usize,
    /// By columns.
    bytes: Vec<u8>,
}

/// As they are stored.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    lengths: Cow<'a, [usize]>,
    #[serde(borrow)]
    bytes: Cow<'a, [u8]>,
}

impl Columns {
    pub(super) fn of(strings: &[Vec<u8>]) -> Self {
        let columns =
            (0..COLUMNS_MAX).flat_map(|column| strings.iter().filter_map(move |string| string.get(column)));
        let beyond = strings.iter().filter_map(|string| string.get(COLUMNS_MAX..)).flatten();
        let bytes = columns.chain(beyond).copied().collect();
        Self::new(strings.iter().map(Vec::len).collect(), bytes)
    }

    fn new(lengths: Vec<usize>, bytes: Vec<u8>) -> Self {
        Self { shortest: lengths.iter().copied().min().unwrap_or(0), lengths, bytes }
    }

    /// How many strings there are.
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// The string with this number, which is less than [`Columns::len`].
    pub(super) fn get(&self, at: usize) -> Vec<u8> {
        let (length, before) = (self.lengths[at], &self.lengths[..at]);
        let mut string = Vec::with_capacity(length);
        let mut start = 0;
        for column in 0..length.min(COLUMNS_MAX) {
            let (in_it, before) = if column < self.shortest {
                (self.len(), at)
            } else {
                (longer(&self.lengths, column), longer(before, column))
            };
            string.push(self.bytes[start + before]);
            start += in_it;
        }
        if length > COLUMNS_MAX {
            let start = self.bytes.len() - beyond(&self.lengths) + beyond(before);
            string.extend(&self.bytes[start..start + length - COLUMNS_MAX]);
        }
        string
    }
}

/// How many of these lengths are greater.
fn longer(lengths: &[usize], than: usize) -> usize {
    lengths.iter().filter(|length| **length > than).count()
}

/// How many bytes strings of these lengths have that stand in no column.
fn beyond(lengths: &[usize]) -> usize {
    lengths.iter().map(|length| length.saturating_sub(COLUMNS_MAX)).sum()
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored { lengths: (&self.lengths).into(), bytes: (&self.bytes).into() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { lengths, bytes } = Stored::deserialize(deserializer)?;
        let length = lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(*length));
        if length != Some(bytes.len()) {
            return Err(D::Error::custom("the lengths of strings do not add up"));
        }
        Ok(Self::new(lengths.into_owned(), bytes.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_bytes_of_all_strings_stand_together() {
        let strings = ["ab1", "", "ab2", "ac"].map(|string| string.as_bytes().to_vec());
        assert_eq!(postcard::to_allocvec(&Columns::of(&strings)).unwrap(), b"\x04\x03\0\x03\x02\x08aaabbc12");
    }

    fn string() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..9),
            prop::collection::vec(any::<u8>(), 0..2 * COLUMNS_MAX),
            prop::collection::vec(any::<u8>(), COLUMNS_MAX - 1..COLUMNS_MAX + 2),
        ]
    }

    proptest! {
        #[test]
        fn strings_come_back(strings in prop::collection::vec(string(), 0..9)) {
            let stored = postcard::to_allocvec(&Columns::of(&strings)).unwrap();
            let read: Columns = postcard::from_bytes(&stored).unwrap();
            prop_assert_eq!((0..read.len()).map(|at| read.get(at)).collect::<Vec<_>>(), strings);
        }

        #[test]
        fn any_bytes_are_strings_or_none(
            lengths in prop::collection::vec(prop_oneof![0..4_usize, 0..2 * COLUMNS_MAX, any::<usize>()], 0..5),
            (bytes, is_whole) in (prop::collection::vec(any::<u8>(), 0..4 * COLUMNS_MAX), any::<bool>()),
        ) {
            let sum = lengths.iter().fold(0_usize, |sum, length| sum.saturating_add(*length));
            let bytes = if is_whole && sum < bytes.len() { &bytes[..sum] } else { &bytes };
            let stored = postcard::to_allocvec(&(&lengths, bytes)).unwrap();
            let read = postcard::from_bytes::<Columns>(&stored);
            prop_assert_eq!(read.is_ok(), sum == bytes.len());
            if let Ok(read) = read {
                let strings: Vec<_> = (0..read.len()).map(|at| read.get(at)).collect();
                prop_assert_eq!(postcard::to_allocvec(&Columns::of(&strings)).unwrap(), stored);
            }
        }
    }
}
