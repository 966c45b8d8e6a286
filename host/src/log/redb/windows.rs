//! The windows: rows that are added to when a chunk is rolled up, and summed up for a plan.

use std::ops::Range;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use rollcall_wire::Status;

use super::{WorkError, codec};
use crate::log::plan::{Plan, Upto, Window};
use crate::log::rollup::{self, Chunk, Resolution};
use crate::model::{self, Counts};

/// start in Unix seconds → the minute by second.
const MINUTES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("minutes");
/// start in Unix seconds → the hour's counts.
const HOURS: TableDefinition<'_, u64, [u64; Status::COUNT]> = TableDefinition::new("hours");
/// start in Unix seconds → the day's counts.
const DAYS: TableDefinition<'_, u64, [u64; Status::COUNT]> = TableDefinition::new("days");

/// Makes the tables, so that readers find them.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(MINUTES)?;
    transaction.open_table(HOURS)?;
    transaction.open_table(DAYS)?;
    Ok(())
}

/// Adds a chunk's samples to every window that they lie in.
pub(super) fn add(transaction: &WriteTransaction, chunk: &Chunk) -> Result<(), WorkError> {
    add_minutes(transaction, chunk)?;
    for (table, resolution) in [(HOURS, Resolution::Hour), (DAYS, Resolution::Day)] {
        let mut table = transaction.open_table(table)?;
        for (start, counts) in rollup::windows(&chunk.counts, resolution) {
            let mut sum = table.get(start)?.map_or_else(Counts::default, |stored| Counts(stored.value()));
            sum += counts;
            table.insert(start, sum.0)?;
        }
    }
    Ok(())
}

fn add_minutes(transaction: &WriteTransaction, chunk: &Chunk) -> Result<(), WorkError> {
    let mut table = transaction.open_table(MINUTES)?;
    for start in rollup::windows(&chunk.counts, Resolution::Minute).into_keys() {
        let mut minute = match table.get(start)? {
            Some(stored) => codec::minute(start, stored.value()).map_err(WorkError::Store)?,
            None => Default::default(),
        };
        for (second, counts) in chunk.counts.range(start..start + Resolution::Minute.seconds()) {
            *minute.entry(*second).or_default() += *counts;
        }
        table.insert(start, codec::minute_bytes(&minute).as_slice())?;
    }
    Ok(())
}

/// The windows of a plan, in order of time. Each holds the entries below `upto`.
pub(super) fn read(transaction: &ReadTransaction, plan: &Plan, upto: Upto) -> Result<Vec<Window>, WorkError> {
    let mut windows = Vec::new();
    for (resolution, range) in &plan.whole {
        match resolution {
            Resolution::Minute => read_minutes(transaction, range, upto, &mut windows)?,
            Resolution::Hour => read_sums(transaction, HOURS, *resolution, range, upto, &mut windows)?,
            Resolution::Day => read_sums(transaction, DAYS, *resolution, range, upto, &mut windows)?,
        }
    }
    for edge in &plan.edges {
        read_minutes(transaction, edge, upto, &mut windows)?;
    }
    windows.sort_by_key(|window| window.range.start);
    Ok(windows)
}

fn read_sums(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, u64, [u64; Status::COUNT]>,
    resolution: Resolution,
    range: &Range<u64>,
    upto: Upto,
    windows: &mut Vec<Window>,
) -> Result<(), WorkError> {
    for row in transaction.open_table(table)?.range(range.clone())? {
        let (start, counts) = row?;
        let range = start.value()..start.value() + resolution.seconds();
        windows.push(Window { range, counts: Counts(counts.value()), upto });
    }
    Ok(())
}

/// The minutes that `range` touches, each clipped to it.
fn read_minutes(
    transaction: &ReadTransaction,
    range: &Range<u64>,
    upto: Upto,
    windows: &mut Vec<Window>,
) -> Result<(), WorkError> {
    let first = Resolution::Minute.window_start(range.start);
    for row in transaction.open_table(MINUTES)?.range(first..range.end)? {
        let (start, bytes) = row?;
        let start = start.value();
        let minute = codec::minute(start, bytes.value()).map_err(WorkError::Store)?;
        let range = range.start.max(start)..range.end.min(start + Resolution::Minute.seconds());
        windows.push(Window { counts: model::sum(&minute, range.clone()), range, upto });
    }
    Ok(())
}
