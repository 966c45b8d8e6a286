//! Records on their way into the log, and what became of each, over all attempts to store them.

use rollcall_wire::{BootId, DeviceId, mutant};

use crate::model::{Entry, Record, RecordKind, Sender, Verdict};

/// An entry to be appended, and which of the records it holds.
pub(super) struct Draft {
    pub(super) entry: Entry,
    pub(super) places: Vec<usize>,
}

impl Draft {
    /// Puts the streams into the order in which every store gives them back: what is made of the draft now is what
    /// will be made of it when the log is read again.
    pub(super) fn sorted(mut self) -> Self {
        let mut placed: Vec<_> = self.entry.records.into_iter().zip(self.places).collect();
        placed.sort_by_key(|(record, _)| stream(record));
        mutant!(OrderLost => placed.sort_by_key(|(record, _)| (stream(record), record.status)));
        (self.entry.records, self.places) = placed.into_iter().unzip();
        self
    }

    /// Is this what became of the draft in the log? A store may change the order of streams in an entry.
    fn is(&self, entry: &Entry) -> bool {
        let sorted = |entry: &Entry| {
            let mut records = entry.records.clone();
            records.sort_by_key(stream);
            records
        };
        let of = |entry: &Entry| (entry.slot, entry.number, entry.writer, entry.received_at);
        of(&self.entry) == of(entry) && sorted(&self.entry) == sorted(entry)
    }
}

fn stream(record: &Record) -> (DeviceId, Option<BootId>) {
    (record.device, record.id.map(|id| id.boot))
}

/// Records on their way into the log, and what became of each so far, over all attempts.
#[derive(Default)]
pub(super) struct Batch<'a> {
    pub(super) records: &'a [Record],
    /// Who sent them; where it ends, all hear a refusal.
    pub(super) senders: &'a [Sender],
    pub(super) verdicts: Vec<Option<Verdict>>,
    /// Appended without an answer: each is in the log or not.
    pub(super) in_doubt: Vec<Draft>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(records: &'a [Record], senders: &'a [Sender]) -> Self {
        Self { records, senders, verdicts: vec![None; records.len()], in_doubt: Vec::new() }
    }

    /// What became of each, when all are settled.
    pub(super) fn verdicts(self) -> Vec<Verdict> {
        self.verdicts.into_iter().flatten().collect()
    }

    /// The draft is in the log.
    pub(super) fn accept(&mut self, draft: &Draft) {
        for (place, record) in draft.places.iter().zip(&draft.entry.records) {
            self.verdicts[*place] = Some(match record.kind {
                RecordKind::Undecided => Verdict::Undecided,
                RecordKind::Sample | RecordKind::Imported => Verdict::Accepted,
            });
        }
    }

    /// An entry of the log was read; it may be one that we had lost sight of.
    pub(super) fn recognise(&mut self, entry: &Entry) {
        mutant!(InDoubtForgotten => return);
        if let Some(at) = self.in_doubt.iter().position(|draft| draft.is(entry)) {
            let draft = self.in_doubt.swap_remove(at);
            self.accept(&draft);
        }
    }
}
