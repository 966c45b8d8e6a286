//! Entries that are rolled up: a chunk's entries compressed together (LZ4, which finds the device and boot
//! ids that every flush repeats) and cut into rows of a page each.

use std::ops::Range;

use redb::{ReadTransaction, TableDefinition, WriteTransaction};
use rollcall_wire::Slot;

use super::{Decode, WorkError, damage, sealed, starts, tail};
use crate::log::rollup::{CHUNK_ENTRIES, Chunk};
use crate::log::{StoreError, key};

/// (the key of the chunk's first entry, 0, 1, …) → a piece of the packed chunk.
pub(super) const CHUNKS: TableDefinition<'_, (u64, u16), &[u8]> = TableDefinition::new("chunks");

/// The same without checksums, as formats 1 and 2 wrote them. They stay as they are: the log is not rewritten.
pub(super) const OLDER_CHUNKS: TableDefinition<'_, (u64, u16), &[u8]> = TableDefinition::new("packed");

/// What a row may take so that it fills a page of redb's, 4,096 bytes: less 4 for the page's head, 10 for
/// the key, 4 for the end of the value, and a little.
const ROW_BYTES: usize = 4_064;

/// The largest chunk that is unpacked, in bytes: 64 flushes at their largest take a tenth of it.
const CHUNK_MAX: usize = 256 << 20;

/// Makes the tables, so that readers find them.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(CHUNKS)?;
    transaction.open_table(OLDER_CHUNKS)?;
    Ok(())
}

/// Writes a chunk's entries into packed rows.
pub(super) fn pack(
    transaction: &WriteTransaction,
    chunk: &Chunk,
    entries: &[Vec<u8>],
) -> Result<(), WorkError> {
    let first = key::key(chunk.slot, chunk.entries.start);
    let plain = postcard::to_allocvec(entries).expect("plain data always serialises into memory");
    let packed = lz4_flex::compress_prepend_size(&plain);
    let mut table = transaction.open_table(CHUNKS)?;
    for (piece, number) in packed.chunks(ROW_BYTES - sealed::SEAL_BYTES).zip(0_u16..) {
        let sealed = sealed::seal("chunks", &key_bytes(first, number), piece.to_vec());
        table.insert((first, number), sealed.as_slice())?;
    }
    Ok(())
}

/// Deletes chunks of a slot.
pub(super) fn remove(
    transaction: &WriteTransaction,
    slot: Slot,
    entries: Range<u64>,
) -> Result<(), WorkError> {
    let keys = (key::key(slot, entries.start), 0)..(key::key(slot, entries.end), 0);
    for table in [CHUNKS, OLDER_CHUNKS] {
        transaction.open_table(table)?.retain_in(keys.clone(), |_, _| false)?;
    }
    Ok(())
}

/// How many of a slot's entries are packed. The tail begins there, and no chunk does: a page of the tail that went back
/// would have entries that are packed too.
pub(super) fn upto(transaction: &ReadTransaction, slot: Slot) -> Result<u64, WorkError> {
    let upto = tail::start(&transaction.open_table(tail::TAIL)?, slot)?;
    let beyond = (key::key(slot, upto), 0)..(key::head(slot), 0);
    for table in [CHUNKS, OLDER_CHUNKS] {
        if transaction.open_table(table)?.range(beyond.clone())?.next().is_some() {
            return Err(damage(format!("the end of the log of slot {slot}")));
        }
    }
    Ok(upto)
}

/// The entries of `slot` from number `from` on, in order, `limit` at most, be they packed or not.
pub(super) fn read<T>(
    transaction: &ReadTransaction,
    slot: Slot,
    from: u64,
    limit: usize,
    decode: Decode<T>,
) -> Result<Vec<T>, WorkError> {
    let upto = upto(transaction, slot)?;
    let from = from.max(starts::of(transaction, slot)?.first);
    let mut entries = Vec::new();
    let mut first = from - from % CHUNK_ENTRIES;
    while first < upto && entries.len() < limit {
        let last = first + CHUNK_ENTRIES - 1;
        let damaged = || damage(format!("entries {first} to {last} of slot {slot}"));
        let packed = packed(transaction, key::key(slot, first))?;
        let chunk = packed.and_then(|packed| unpack(&packed)).ok_or_else(damaged)?;
        if chunk.len() as u64 != CHUNK_ENTRIES {
            return Err(damaged());
        }
        for (bytes, number) in chunk.iter().zip(first..) {
            if number >= from && entries.len() < limit {
                entries.push(decode(slot, number, bytes).map_err(unreadable)?);
            }
        }
        first += CHUNK_ENTRIES;
    }
    let left = limit - entries.len();
    entries.append(&mut tail::read(transaction, slot, from.max(upto), left, decode)?);
    Ok(entries)
}

/// The pieces of a chunk, put together; `None` when one of them is damaged.
fn packed(transaction: &ReadTransaction, first: u64) -> Result<Option<Vec<u8>>, WorkError> {
    let mut packed = Vec::new();
    for row in transaction.open_table(CHUNKS)?.range((first, 0)..=(first, u16::MAX))? {
        let (key, stored) = row?;
        let (first, number) = key.value();
        let Some(piece) = sealed::open("chunks", &key_bytes(first, number), stored.value()) else {
            return Ok(None);
        };
        packed.extend_from_slice(piece);
    }
    if packed.is_empty() {
        for row in transaction.open_table(OLDER_CHUNKS)?.range((first, 0)..=(first, u16::MAX))? {
            packed.extend_from_slice(row?.1.value());
        }
    }
    Ok(Some(packed))
}

fn key_bytes(first: u64, number: u16) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn unpack(packed: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (size, _) = lz4_flex::block::uncompressed_size(packed).ok()?;
    let plain = (size <= CHUNK_MAX).then(|| lz4_flex::decompress_size_prepended(packed).ok())??;
    postcard::from_bytes(&plain).ok()
}

/// What is stored cannot be read, though its checksum is right.
pub(super) fn unreadable(error: StoreError) -> WorkError {
    match error {
        StoreError::Corrupt(what) => damage(what),
        error => WorkError::Store(error),
    }
}
