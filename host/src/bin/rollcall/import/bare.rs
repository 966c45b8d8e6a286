//! Identities for messages that have none.

use std::collections::HashMap;

use rollcall_host::model::{Line, Record, hashed_id};
use rollcall_wire::SampleId;

/// The identity of a message without a number is all that its line says, and how many like it came before: in a file, and in
/// the log alike.
#[derive(Default)]
pub(super) struct Bare(HashMap<Record, u64>);

impl Bare {
    pub(super) fn id(&mut self, record: &Record) -> SampleId {
        let before = self.0.entry(*record).or_default();
        let text = format!("{} {before}", Line::from(record));
        *before += 1;
        hashed_id(text.as_bytes())
    }
}
