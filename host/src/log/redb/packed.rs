//! Entries that are rolled up: a chunk's entries compressed together (LZ4, which finds the device and boot
//! ids that every flush repeats) and cut into rows of a page each.

use redb::{ReadTransaction, TableDefinition, WriteTransaction};
use rollcall_wire::Slot;

use super::{ENTRIES, WorkError, codec, key};
use crate::log::StoreError;
use crate::log::rollup::{CHUNK_ENTRIES, Chunk};
use crate::model::Entry;

/// (the key of the chunk's first entry, 0, 1, …) → a piece of the packed chunk.
const PACKED: TableDefinition<'_, (u64, u16), &[u8]> = TableDefinition::new("packed");

/// What a row may take so that it fills a page of redb's, 4,096 bytes: less 4 for the page's head, 10 for
/// the key, 4 for the end of the value, and a little.
const PIECE_BYTES: usize = 4_064;

/// The largest chunk that is unpacked, in bytes: 64 flushes at their largest take a tenth of it.
const CHUNK_MAX: usize = 256 << 20;

/// Makes the table, so that readers find it.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(PACKED)?;
    Ok(())
}

/// Moves a chunk's entries from rows of their own into packed rows.
pub(super) fn pack(transaction: &WriteTransaction, chunk: &Chunk) -> Result<(), WorkError> {
    let range = key(chunk.slot, chunk.entries.start)..key(chunk.slot, chunk.entries.end);
    let mut table = transaction.open_table(ENTRIES)?;
    let mut entries = Vec::<Vec<u8>>::new();
    table.retain_in::<u64, _>(range.clone(), |_, bytes| {
        entries.push(bytes.to_vec());
        false
    })?;
    if entries.len() as u64 != CHUNK_ENTRIES {
        return Err(damaged(chunk.slot, chunk.entries.start));
    }
    let plain = postcard::to_allocvec(&entries).expect("plain data always serialises into memory");
    let mut packed = transaction.open_table(PACKED)?;
    for (piece, number) in lz4_flex::compress_prepend_size(&plain).chunks(PIECE_BYTES).zip(0_u16..) {
        packed.insert((range.start, number), piece)?;
    }
    Ok(())
}

/// The packed entries of `slot` from number `from` on, in order, `limit` at most.
pub(super) fn read(
    transaction: &ReadTransaction,
    slot: Slot,
    from: u64,
    limit: usize,
) -> Result<Vec<Entry>, WorkError> {
    let table = transaction.open_table(PACKED)?;
    let mut entries = Vec::new();
    let mut first = from - from % CHUNK_ENTRIES;
    while entries.len() < limit {
        let mut packed = Vec::new();
        for row in table.range((key(slot, first), 0)..=(key(slot, first), u16::MAX))? {
            packed.extend_from_slice(row?.1.value());
        }
        if packed.is_empty() {
            break;
        }
        for (bytes, number) in unpack(&packed).ok_or_else(|| damaged(slot, first))?.iter().zip(first..) {
            if number >= from && entries.len() < limit {
                entries.push(codec::entry(slot, number, bytes).map_err(WorkError::Store)?);
            }
        }
        first += CHUNK_ENTRIES;
    }
    Ok(entries)
}

fn unpack(packed: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (size, _) = lz4_flex::block::uncompressed_size(packed).ok()?;
    let plain = (size <= CHUNK_MAX).then(|| lz4_flex::decompress_size_prepended(packed).ok())??;
    postcard::from_bytes(&plain).ok()
}

fn damaged(slot: Slot, first: u64) -> WorkError {
    WorkError::Store(StoreError::Corrupt(format!("the chunk of entry {first} of slot {slot}")))
}
