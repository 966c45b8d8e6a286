//! The entries that are not rolled up yet: a row each, and their counts in memory, so that a query reads them
//! without the disk.
//!
//! Beside a slot's last entry, on the same page, stands the length of its log. So a page that loses rows, or
//! goes back, is noticed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use rollcall_wire::{Slot, mutant};

use super::{Decode, WorkError, damage, packed, sealed};
use crate::log::plan::TailEntry;
use crate::log::rollup::{CHUNK_ENTRIES, Chunk};
use crate::log::{StoreError, codec, key};
use crate::model::Entry;

/// The key of an entry → the entry; a slot's last key → the length of its log.
pub(super) const TAIL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tail");

/// Makes the table with the length of each log, so that readers find them.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(TAIL)?;
    for slot in Slot::all() {
        let head = key::head(slot);
        if table.get(head)?.is_none() {
            table.insert(head, seal(head, 0_u64.to_le_bytes().to_vec()).as_slice())?;
        }
    }
    Ok(())
}

/// An entry on its way into the table.
pub(super) struct Row {
    slot: Slot,
    number: u64,
    sealed: Vec<u8>,
    counts: TailEntry,
}

impl Row {
    pub(super) fn of(entry: &Entry) -> Self {
        let counts = entry.counts();
        let bytes = codec::entry_bytes(entry, &counts);
        Self {
            slot: entry.slot,
            number: entry.number,
            sealed: seal(key::key(entry.slot, entry.number), bytes),
            counts: TailEntry::new(entry.slot, entry.number, counts),
        }
    }
}

/// Appends rows whose number is free; the slots of the others, and the counts of those that were appended.
pub(super) fn append(
    transaction: &WriteTransaction,
    rows: Vec<Row>,
) -> Result<(Vec<Slot>, Vec<TailEntry>), WorkError> {
    let (mut taken, mut written) = (Vec::new(), Vec::new());
    let mut table = transaction.open_table(TAIL)?;
    for row in rows {
        let length = length(&table, row.slot)?;
        if row.number < length {
            taken.push(row.slot);
            continue;
        }
        if row.number > length {
            let (slot, number) = (row.slot, row.number);
            let what = format!("the log of slot {slot} ends at {length}, and {number} is to follow");
            return Err(WorkError::Store(StoreError::Corrupt(what)));
        }
        table.insert(key::key(row.slot, row.number), row.sealed.as_slice())?;
        let head = key::head(row.slot);
        table.insert(head, seal(head, (row.number + 1).to_le_bytes().to_vec()).as_slice())?;
        written.push(row.counts);
    }
    Ok((taken, written))
}

/// The length of a slot's log.
fn length(table: &impl ReadableTable<u64, &'static [u8]>, slot: Slot) -> Result<u64, WorkError> {
    let damaged = || damage(format!("the length of the log of slot {slot}"));
    let head = key::head(slot);
    let stored = table.get(head)?.ok_or_else(damaged)?;
    let length =
        open(head, stored.value()).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    length.ok_or_else(damaged)
}

/// Where a slot's tail begins: every entry before it is packed.
pub(super) fn start(table: &impl ReadableTable<u64, &'static [u8]>, slot: Slot) -> Result<u64, WorkError> {
    let length = length(table, slot)?;
    let start = match table.range(key::keys(slot, 0))?.next() {
        Some(row) => row?.0.value() - key::key(slot, 0),
        None => length,
    };
    if start > length || !start.is_multiple_of(CHUNK_ENTRIES) {
        return Err(missing(slot, length.min(start - start % CHUNK_ENTRIES)));
    }
    Ok(start)
}

/// The entries of `slot` from number `from` on, in order, `limit` at most.
pub(super) fn read<T>(
    transaction: &ReadTransaction,
    slot: Slot,
    from: u64,
    limit: usize,
    decode: Decode<T>,
) -> Result<Vec<T>, WorkError> {
    let mut entries = Vec::new();
    each(transaction, slot, from, limit, |number, bytes| {
        entries.push(decode(slot, number, bytes).map_err(super::packed::unreadable)?);
        Ok(())
    })?;
    Ok(entries)
}

/// Does something with the entries of `slot` from number `from` on, `limit` at most.
fn each(
    transaction: &ReadTransaction,
    slot: Slot,
    from: u64,
    limit: usize,
    mut with: impl FnMut(u64, &[u8]) -> Result<(), WorkError>,
) -> Result<(), WorkError> {
    let table = transaction.open_table(TAIL)?;
    let end = length(&table, slot)?;
    let wanted = end.saturating_sub(from).min(limit as u64);
    let mut next = from;
    for row in table.range(key::key(slot, from)..key::key(slot, from + wanted))? {
        let (key, stored) = row?;
        let bytes = (key.value() == key::key(slot, next)).then(|| open(key.value(), stored.value()));
        with(next, bytes.flatten().ok_or_else(|| missing(slot, next))?)?;
        next += 1;
    }
    if next < from + wanted { Err(missing(slot, next)) } else { Ok(()) }
}

/// Are a chunk's entries packed?
pub(super) fn is_packed(transaction: &WriteTransaction, chunk: &Chunk) -> Result<bool, WorkError> {
    Ok(chunk.entries.start < start(&transaction.open_table(TAIL)?, chunk.slot)?)
}

/// Takes a chunk's entries out of the table, as bytes.
pub(super) fn take(transaction: &WriteTransaction, chunk: &Chunk) -> Result<Vec<Vec<u8>>, WorkError> {
    let mut table = transaction.open_table(TAIL)?;
    let mut entries = Vec::new();
    for number in chunk.entries.clone() {
        let key = key::key(chunk.slot, number);
        let stored = table.remove(key)?.ok_or_else(|| missing(chunk.slot, number))?;
        entries.push(open(key, stored.value()).ok_or_else(|| missing(chunk.slot, number))?.to_vec());
    }
    Ok(entries)
}

/// The log of a slot has so many entries.
pub(super) fn set_length(transaction: &WriteTransaction, slot: Slot, length: u64) -> Result<(), WorkError> {
    let head = key::head(slot);
    let sealed = seal(head, length.to_le_bytes().to_vec());
    transaction.open_table(TAIL)?.insert(head, sealed.as_slice())?;
    Ok(())
}

/// Puts an entry of an older format into the table.
pub(super) fn put(
    transaction: &WriteTransaction,
    slot: Slot,
    number: u64,
    bytes: Vec<u8>,
) -> Result<(), WorkError> {
    let key = key::key(slot, number);
    transaction.open_table(TAIL)?.insert(key, seal(key, bytes).as_slice())?;
    set_length(transaction, slot, number + 1)
}

fn seal(key: u64, bytes: Vec<u8>) -> Vec<u8> {
    sealed::seal("tail", &key.to_le_bytes(), bytes)
}

fn open(key: u64, stored: &[u8]) -> Option<&[u8]> {
    sealed::open("tail", &key.to_le_bytes(), stored)
}

fn missing(slot: Slot, number: u64) -> WorkError {
    damage(format!("entry {number} of slot {slot}"))
}

/// For each partition the counts of its entries that are not packed. It never lacks a committed entry that is
/// not in the windows.
#[derive(Default)]
pub(super) struct Tail(Mutex<[VecDeque<Arc<TailEntry>>; Slot::COUNT]>);

impl Tail {
    /// Reads the tail of a store that was just opened.
    pub(super) fn load(&self, database: &Database) -> Result<(), WorkError> {
        let transaction = database.begin_read()?;
        let mut tail = self.lock();
        for slot in Slot::all() {
            let entries = &mut tail[slot.index()];
            entries.clear();
            let start = packed::upto(&transaction, slot)?;
            each(&transaction, slot, start, usize::MAX, |number, bytes| {
                let counts = codec::entry_counts(slot, number, bytes).map_err(super::packed::unreadable)?;
                entries.push_back(Arc::new(TailEntry::new(slot, number, counts)));
                Ok(())
            })?;
            mutant!(TailCountedTwice => entries.extend(entries.clone()));
        }
        Ok(())
    }

    /// These entries are committed. One that [`Tail::load`] has met already is not taken again.
    pub(super) fn extend(&self, entries: Vec<TailEntry>) {
        let mut tail = self.lock();
        for entry in entries {
            let entries = &mut tail[entry.slot.index()];
            if entries.back().is_none_or(|last| last.number < entry.number) {
                entries.push_back(Arc::new(entry));
            }
        }
    }

    /// These chunks are in the windows.
    pub(super) fn forget(&self, chunks: &[Chunk]) {
        let mut tail = self.lock();
        for chunk in chunks {
            let entries = &mut tail[chunk.slot.index()];
            while entries.front().is_some_and(|entry| entry.number < chunk.entries.end) {
                entries.pop_front();
            }
        }
    }

    /// Those of which some may lie in the range, as they are now.
    pub(super) fn entries(&self, range: &Range<u64>) -> Vec<Arc<TailEntry>> {
        self.lock().iter().flatten().filter(|entry| entry.touches(range)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, [VecDeque<Arc<TailEntry>>; Slot::COUNT]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
