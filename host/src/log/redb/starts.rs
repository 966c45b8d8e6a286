//! Where logs start, and the identities of imported documents whose entries were removed.
//!
//! Both tables are made by the first cut, which gives the store a format of its own: until then older versions read it.

use redb::{
    ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError, Value,
    WriteTransaction,
};
use rollcall_wire::Slot;

use super::open::{self, FORMAT, META};
use super::{WorkError, checkpoints, damage, packed, sealed};
use crate::log::must_be_made;
use crate::log::start::{Cut, Identity, Start, Starts};

/// slot → the start of its log, and how many identities are kept of it.
pub(super) const STARTS: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("starts");

/// device, boot, sequence.
type Key = (&'static str, u64, u64);

/// The identity of a document → nothing.
pub(super) const IMPORTED: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("imported");

/// Where the log of `slot` starts.
pub(super) fn of(transaction: &ReadTransaction, slot: Slot) -> Result<Start, WorkError> {
    match transaction.open_table(STARTS) {
        Ok(table) => Ok(stored(&table, slot)?.0),
        Err(TableError::TableDoesNotExist(_)) if !open::stamp(transaction)?.is_cut() => Ok(Start::default()),
        Err(error) => Err(error.into()),
    }
}

/// Where all logs start.
pub(super) fn all(transaction: &ReadTransaction) -> Result<Starts, WorkError> {
    let mut starts = Starts::default();
    for slot in Slot::all() {
        starts[slot.index()] = of(transaction, slot)?;
    }
    Ok(starts)
}

/// The same, in a transaction that writes.
pub(super) fn written(transaction: &WriteTransaction) -> Result<Starts, WorkError> {
    let mut starts = Starts::default();
    if is_cut(transaction)? {
        let table = transaction.open_table(STARTS)?;
        for slot in Slot::all() {
            starts[slot.index()] = stored(&table, slot)?.0;
        }
    }
    Ok(starts)
}

fn is_cut(transaction: &WriteTransaction) -> Result<bool, WorkError> {
    let format = transaction.open_table(META)?.get("format")?.map(|format| format.value());
    Ok(format == Some(FORMAT))
}

fn stored(table: &impl ReadableTable<u8, &'static [u8]>, slot: Slot) -> Result<(Start, u64), WorkError> {
    let damaged = || damage(format!("the start of the log of slot {slot}"));
    let index = slot.index() as u8;
    let stored = table.get(index)?.ok_or_else(damaged)?;
    let read = || {
        let bytes = sealed::open("starts", &[index], stored.value())?;
        let (first, horizon, later, imported) = postcard::from_bytes(bytes).ok()?;
        Some((Start::restored(first, horizon, later)?, imported))
    };
    read().ok_or_else(damaged)
}

fn store(
    table: &mut redb::Table<'_, u8, &'static [u8]>,
    slot: Slot,
    start: &Start,
    imported: u64,
) -> Result<(), WorkError> {
    let (horizon, later) = start.days();
    let bytes = postcard::to_allocvec(&(start.first, horizon, later, imported));
    let index = slot.index() as u8;
    let sealed = sealed::seal("starts", &[index], bytes.expect("plain data always serialises into memory"));
    table.insert(index, sealed.as_slice())?;
    Ok(())
}

/// Lets a log start later, unless it does not start where it did; was it done?
pub(super) fn cut(transaction: &WriteTransaction, cut: &Cut) -> Result<bool, WorkError> {
    let Cut { slot, from, start, imported } = cut;
    if written(transaction)?[slot.index()].first != *from {
        return Ok(false);
    }
    let made = checkpoints::update(transaction, *slot, |made| Ok(made.checkpoint()))?;
    must_be_made(*slot, start.first, made).map_err(WorkError::Store)?;
    if !is_cut(transaction)? {
        let mut table = transaction.open_table(STARTS)?;
        Slot::all().try_for_each(|slot| store(&mut table, slot, &Start::default(), 0))?;
        transaction.open_table(IMPORTED)?;
        transaction.open_table(META)?.insert("format", FORMAT)?;
    }
    let new = keep(transaction, imported)?;
    let mut table = transaction.open_table(STARTS)?;
    let (_, kept) = stored(&table, *slot)?;
    store(&mut table, *slot, start, kept + new)?;
    packed::remove(transaction, *slot, *from..start.first)?;
    Ok(true)
}

/// Keeps identities; how many were not there.
fn keep(transaction: &WriteTransaction, identities: &[Identity]) -> Result<u64, WorkError> {
    let mut table = transaction.open_table(IMPORTED)?;
    let mut new = 0;
    for identity in identities {
        let sealed = sealed::seal(NAME, &key_bytes(identity), Vec::new());
        new += u64::from(table.insert(key(identity), sealed.as_slice())?.is_none());
    }
    Ok(new)
}

/// Which of these identities are kept?
pub(super) fn imported(
    transaction: &ReadTransaction,
    identities: &[Identity],
) -> Result<Vec<bool>, WorkError> {
    let table = match transaction.open_table(IMPORTED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) if !open::stamp(transaction)?.is_cut() => {
            return Ok(vec![false; identities.len()]);
        }
        Err(error) => return Err(error.into()),
    };
    let is_kept = |identity: &Identity| match table.get(key(identity))? {
        None => Ok(false),
        Some(stored) if sealed::open(NAME, &key_bytes(identity), stored.value()).is_some() => Ok(true),
        Some(_) => Err(damage(format!("an imported document of device {}", identity.0))),
    };
    identities.iter().map(is_kept).collect()
}

/// Are all starts there, and as many identities as were kept?
pub(super) fn check(transaction: &ReadTransaction) -> Result<(), WorkError> {
    if !open::stamp(transaction)?.is_cut() {
        return Ok(());
    }
    let table = transaction.open_table(STARTS)?;
    let mut expected = 0;
    for slot in Slot::all() {
        expected += stored(&table, slot)?.1;
    }
    if transaction.open_table(IMPORTED)?.len()? == expected {
        Ok(())
    } else {
        Err(damage("the identities of imported documents".into()))
    }
}

/// Whose identity a key is, in plain words.
pub(super) fn place(key: &[u8]) -> String {
    let (device, ..) = <Key as Value>::from_bytes(key);
    format!("an imported document of device {device}")
}

const NAME: &str = "imported";

fn key((device, id): &Identity) -> (&str, u64, u64) {
    (device.as_str(), id.boot.0, id.seq.get())
}

fn key_bytes(identity: &Identity) -> Vec<u8> {
    <Key as Value>::as_bytes(&key(identity))
}
