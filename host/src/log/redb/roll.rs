//! A chunk that is rolled up.

use redb::WriteTransaction;

use super::{WorkError, checkpoints, kept, packed, starts, tail, windows};
use crate::log::rollup::Chunk;
use crate::model::{self, BySecond};

/// Every effect of a chunk in one transaction: windows, checkpoint and the packing of its entries, unless only windows
/// are made anew.
pub(super) fn apply(transaction: &WriteTransaction, chunk: &Chunk) -> Result<(), WorkError> {
    let is_packed = tail::is_packed(transaction, chunk)?;
    // Made anew are the windows of days that have all their messages; the others were kept, and hold what is packed.
    let counts = if is_packed { &left(transaction, &chunk.counts)? } else { &chunk.counts };
    let is_next = checkpoints::update(transaction, chunk.slot, |progress| {
        let is_next = crate::log::is_next(chunk, progress.windows).map_err(WorkError::Store)?;
        if is_next {
            progress.windows = chunk.entries.end;
            progress.count(model::sum(counts, 0..u64::MAX));
        }
        Ok(is_next)
    })?;
    if !is_next {
        return Ok(());
    }
    if is_packed {
        kept::count(transaction, model::sum(counts, 0..u64::MAX).total())?;
    }
    windows::add(transaction, counts)?;
    if is_packed { Ok(()) } else { packed::pack(transaction, chunk, &tail::take(transaction, chunk)?) }
}

/// Counts of the days of which no message was removed.
fn left(transaction: &WriteTransaction, counts: &BySecond) -> Result<BySecond, WorkError> {
    let starts = starts::written(transaction)?;
    let is_left = |second: &u64| starts.iter().all(|start| !start.lacks(*second));
    Ok(counts
        .iter()
        .filter(|(second, _)| is_left(second))
        .map(|(second, counts)| (*second, *counts))
        .collect())
}
