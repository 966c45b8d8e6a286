//! The counts of the entries beyond the checkpoints, kept between questions: an entry never changes, and to read
//! one for its counts MongoDB has to fetch all of its messages.

use std::collections::VecDeque;
use std::sync::Arc;

use rollcall_wire::Slot;

use crate::log::plan::{TailEntry, Upto};

/// What was read of every slot's tail.
#[derive(Debug, Default)]
pub(super) struct Tail([Run; Slot::COUNT]);

/// Entries without a gap, from number `base` on.
#[derive(Debug, Default)]
struct Run {
    base: u64,
    entries: VecDeque<Arc<TailEntry>>,
}

impl Run {
    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// Removes what is below `upto`: it is in the windows.
    fn advance(&mut self, upto: u64) {
        if upto >= self.end() {
            *self = Self { base: upto, entries: VecDeque::new() };
        }
        while self.base < upto {
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

impl Tail {
    /// The entries that are known from `upto` on, and from which number on to read each slot's further ones.
    pub(super) fn known(&mut self, upto: &Upto) -> (Vec<Arc<TailEntry>>, Upto) {
        let mut known = Vec::new();
        let mut further = *upto;
        for slot in Slot::all() {
            let (run, upto) = (&mut self.0[slot.index()], upto[slot.index()]);
            // Somebody who asked later has seen a later checkpoint, and removed what is needed here.
            if upto < run.base {
                continue;
            }
            run.advance(upto);
            further[slot.index()] = run.end();
            known.extend(run.entries.iter().cloned());
        }
        (known, further)
    }

    /// Keeps entries that were read, in order, as far as they follow what is kept.
    pub(super) fn keep(&mut self, entries: &[Arc<TailEntry>]) {
        for entry in entries {
            let run = &mut self.0[entry.slot.index()];
            if entry.number == run.end() {
                run.entries.push_back(entry.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BySecond;

    fn entry(number: u64) -> Arc<TailEntry> {
        Arc::new(TailEntry::new(Slot::new(3).unwrap(), number, BySecond::new()))
    }

    fn upto(number: u64) -> Upto {
        let mut upto = [0; Slot::COUNT];
        upto[3] = number;
        upto
    }

    fn numbers(entries: &[Arc<TailEntry>]) -> Vec<u64> {
        entries.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn only_what_is_new_is_read_again() {
        let mut tail = Tail::default();
        let (known, further) = tail.known(&upto(64));
        assert_eq!((numbers(&known), further[3]), (Vec::<u64>::new(), 64));
        tail.keep(&[entry(64), entry(65), entry(66)]);
        let (known, further) = tail.known(&upto(65));
        assert_eq!((numbers(&known), further[3]), (vec![65, 66], 67));
    }

    #[test]
    fn a_question_with_an_older_checkpoint_reads_for_itself() {
        let mut tail = Tail::default();
        tail.known(&upto(0));
        tail.keep(&[entry(0), entry(1)]);
        tail.known(&upto(128));
        let (known, further) = tail.known(&upto(64));
        assert_eq!((numbers(&known), further[3]), (Vec::<u64>::new(), 64));
        tail.keep(&[entry(64), entry(65)]);
        assert_eq!(numbers(&tail.known(&upto(128)).0), Vec::<u64>::new(), "what does not follow is not kept");
    }

    #[test]
    fn what_two_questions_read_at_once_is_kept_once() {
        let mut tail = Tail::default();
        tail.known(&upto(0));
        tail.keep(&[entry(0), entry(1)]);
        tail.keep(&[entry(0), entry(1), entry(2)]);
        assert_eq!(numbers(&tail.known(&upto(0)).0), [0, 1, 2]);
    }
}
