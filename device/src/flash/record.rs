//! One record of the ring: a sample, and what the outbox held when it was taken. Pure.
//!
//! | offset | size | what, little endian |
//! | --- | --- | --- |
//! | 0 | 8 | boot id |
//! | 8 | 8 | number · 8 + status |
//! | 16 | 8 | when it was taken, in milliseconds of the device's clock |
//! | 24 | 4 | d: every number from d below on is in the outbox |
//! | 28 | 4 each | up to 8 numbers before those that are in it too, each as how far it is below |

use heapless::Vec;
use rollcall_wire::{BootId, Sequence, Status};

use crate::config::WINDOW;
use crate::outbox::{Contents, Sample};

/// The longest record, in bytes. All but the first 28 are there only while acknowledgements are out of
/// order.
pub(super) const RECORD_MAX: usize = FIXED + 4 * WINDOW;

const FIXED: usize = 28;

/// A status is below a number, which has 53 bits.
const STATUS_BITS: u32 = 3;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) boot: BootId,
    pub(super) sample: Sample,
    dense: u32,
    late: Vec<u32, WINDOW>,
}

impl Record {
    /// `None` when something is more than 2³² numbers behind.
    pub(super) fn new(boot: BootId, sample: Sample, others: &Contents) -> Option<Self> {
        let seq = sample.seq.get();
        let mut dense_from = others.rest_from.map_or(seq, Sequence::get);
        let mut late = Vec::new();
        for other in others.first.iter().rev() {
            if late.is_empty() && other.seq.get() + 1 == dense_from {
                dense_from -= 1;
            } else {
                late.push(u32::try_from(seq.checked_sub(other.seq.get())?).ok()?).ok()?;
            }
        }
        let dense = u32::try_from(seq.checked_sub(dense_from)?).ok()?;
        Some(Self { boot, sample, dense, late })
    }

    /// Whether `seq` was in the outbox, or is the sample itself.
    pub(super) fn holds(&self, seq: Sequence) -> bool {
        let Some(below) = self.sample.seq.get().checked_sub(seq.get()) else { return false };
        below <= u64::from(self.dense) || self.late.iter().any(|late| u64::from(*late) == below)
    }

    pub(super) fn encode(&self) -> Vec<u8, RECORD_MAX> {
        let number = self.sample.seq.get() << STATUS_BITS | u64::from(self.sample.status.get());
        let mut bytes = Vec::new();
        for word in [self.boot.0, number, self.sample.taken_at_ms] {
            // RECORD_MAX holds all of it.
            let _ = bytes.extend_from_slice(&word.to_le_bytes());
        }
        for half in [self.dense].iter().chain(&self.late) {
            let _ = bytes.extend_from_slice(&half.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let number = word(8)?;
        let sample = Sample {
            seq: Sequence::new(number >> STATUS_BITS)?,
            status: Status::new((number & ((1 << STATUS_BITS) - 1)) as u8)?,
            taken_at_ms: word(16)?,
        };
        let (halves, []) = bytes.get(FIXED - 4..)?.as_chunks::<4>() else { return None };
        let (dense, late) = halves.split_first()?;
        let late: Vec<_, WINDOW> = Vec::from_slice(late).ok()?;
        let late = late.into_iter().map(u32::from_le_bytes).collect();
        Some(Self { boot: BootId(word(0)?), sample, dense: u32::from_le_bytes(*dense), late })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn sample(seq: u64) -> Sample {
        let status = Status::new((seq % 7) as u8).unwrap();
        Sample { seq: Sequence::new(seq).unwrap(), status, taken_at_ms: seq * 1000 }
    }

    fn record(seq: u64, first: &[u64], rest_from: Option<u64>) -> Record {
        let first = first.iter().map(|seq| sample(*seq)).collect();
        let others = Contents { first, rest_from: rest_from.and_then(Sequence::new) };
        Record::new(BootId(0x9f3c_5a0b_e1d2_4c77), sample(seq), &others).unwrap()
    }

    /// The numbers up to the record's own that it says were in the outbox.
    fn held(record: &Record) -> std::vec::Vec<u64> {
        let seqs = 0..=record.sample.seq.get() + 1;
        seqs.filter(|seq| record.holds(Sequence::new(*seq).unwrap())).collect()
    }

    #[test]
    fn a_record_without_gaps_is_28_bytes_and_tells_all() {
        let record = record(20, &[5, 6, 7, 8, 9, 10, 11, 12], Some(13));
        assert_eq!(record.encode().len(), 28);
        assert_eq!(held(&record), (5..=20).collect::<std::vec::Vec<_>>());
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }

    #[test]
    fn gaps_between_the_first_and_before_the_rest_are_told() {
        let record = record(20, &[0, 1, 2, 4, 5, 6, 7, 10], Some(18));
        assert_eq!(held(&record), [0, 1, 2, 4, 5, 6, 7, 10, 18, 19, 20]);
        assert_eq!(record.encode().len(), RECORD_MAX);
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }

    #[test]
    fn with_an_empty_outbox_the_sample_stands_alone() {
        assert_eq!(held(&record(20, &[], None)), [20]);
        assert_eq!(held(&record(20, &[17, 19], None)), [17, 19, 20]);
    }

    #[test]
    fn what_is_no_record_is_not_read() {
        let bytes = record(20, &[0], None).encode();
        assert_eq!(Record::decode(&bytes[..27]), None);
        assert_eq!(Record::decode(&bytes[..30]), None);
        assert_eq!(Record::decode(&[0xff; 28]), None);
        assert_eq!(Record::decode(&[0; 28 + 4 * 9]), None);
    }
}
