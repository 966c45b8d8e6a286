//! A look at the checksum of every value in every table.

use std::collections::BTreeSet;

use redb::{Key, ReadableTable, TableDefinition, TableError, TableHandle, Value};
use rollcall_wire::Slot;

use super::snapshot::RedbSnapshot;
use super::tables::{EachTable, each_table, rows};
use super::{WorkError, checkpoints, device_windows, packed, rows as devices, sealed, starts, tail, windows};
use crate::log::key;
use crate::log::rollup::Resolution;
use crate::model::UnixMs;
use crate::ops::Findings;
use crate::ops::check::{Reporter, Unheard};

/// How many values are looked at between two looks at whether somebody listens.
const STEP: u64 = 1024;

/// Looks at all values, and reports which are not as they were written.
pub(super) fn sweep(snapshot: &RedbSnapshot<'_>, reporter: &mut Reporter) -> Result<(), Unheard> {
    let mut sweep =
        Sweep { snapshot, reporter, values: 0, tables: BTreeSet::new(), findings: Findings::default() };
    each_table(&mut sweep)?;
    let Sweep { values, tables, mut findings, .. } = sweep;
    match snapshot.run(rows) {
        Ok(there) => there.keys().filter(|name| !tables.contains(*name)).for_each(|name| {
            findings.add(|| format!("the table {name} is of another version of rollcall"));
        }),
        Err(error) => findings.add(|| error.to_string()),
    }
    let right = format!("{values} values in {} tables", tables.len());
    findings.report(
        reporter,
        "checksums",
        right,
        "restore the store from a backup; windows, rows and checkpoints alone are made anew by rollcall doctor --repair",
    )
}

struct Sweep<'a, 's> {
    snapshot: &'a RedbSnapshot<'s>,
    reporter: &'a mut Reporter,
    values: u64,
    tables: BTreeSet<String>,
    findings: Findings,
}

impl EachTable for Sweep<'_, '_> {
    type Error = Unheard;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), Unheard> {
        let snapshot = self.snapshot;
        match snapshot.run(|transaction| self.each_value(table, transaction)) {
            Ok(heard) => heard,
            Err(error) => {
                self.findings.add(|| format!("the table {}: {error}", table.name()));
                Ok(())
            }
        }
    }
}

impl Sweep<'_, '_> {
    fn each_value<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        transaction: &redb::ReadTransaction,
    ) -> Result<Result<(), Unheard>, WorkError> {
        let name = table.name();
        let table = match transaction.open_table(table) {
            Ok(table) => table,
            // Another format has it.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Ok(())),
            Err(error) => return Err(error.into()),
        };
        self.tables.insert(name.to_owned());
        for row in table.iter()? {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            let (key, value) = (K::as_bytes(&key), V::as_bytes(&value));
            if let Some(sealed_key) = sealed_key(name, key.as_ref())
                && sealed::open(name, sealed_key, value.as_ref()).is_none()
            {
                self.findings.add(|| place(name, key.as_ref()));
            }
            self.values += 1;
            if self.values.is_multiple_of(STEP)
                && let Err(unheard) =
                    self.reporter.progress(|| format!("reading all values: {}", self.values))
            {
                return Ok(Err(unheard));
            }
        }
        Ok(Ok(()))
    }
}

/// What of a key is sealed with its value; `None` where values have no checksum.
fn sealed_key<'a>(table: &str, key: &'a [u8]) -> Option<&'a [u8]> {
    let window = |resolution| windows::name(resolution) == table;
    if table == devices::DEVICES.name() || table == devices::CLOSED.name() {
        // The slot stands before the device.
        return key.get(1..);
    }
    let whole = [
        tail::TAIL.name(),
        packed::CHUNKS.name(),
        starts::STARTS.name(),
        starts::IMPORTED.name(),
        checkpoints::CHECKPOINTS.name(),
        device_windows::TABLE.name(),
    ];
    let sealed = whole.contains(&table)
        || [Resolution::Minute, Resolution::Hour, Resolution::Day].into_iter().any(window);
    sealed.then_some(key)
}

/// Whose value a key is, in plain words.
fn place(table: &str, key: &[u8]) -> String {
    let number = key.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let entry = number.and_then(key::place);
    match (table, entry, number) {
        ("tail", Some((slot, number)), _) if key::key(slot, number) == key::head(slot) => {
            format!("the length of the log of slot {slot}")
        }
        ("tail", Some((slot, number)), _) => format!("entry {number} of slot {slot}"),
        ("chunks", Some((slot, number)), _) => format!("the chunk of entry {number} of slot {slot}"),
        ("devices" | "closed_boots", ..) => {
            format!("the row of device {}", String::from_utf8_lossy(key.get(1..).unwrap_or_default()))
        }
        ("device_hours", ..) => device_windows::place(key),
        ("imported", ..) => starts::place(key),
        ("progress" | "starts", ..) => {
            let what = if table == "starts" { "the start of the log" } else { "the checkpoint" };
            match key.first().and_then(|slot| Slot::new(*slot)) {
                Some(slot) => format!("{what} of slot {slot}"),
                None => format!("{what} of no slot"),
            }
        }
        (table, _, Some(start)) => {
            format!("{table} at {}", UnixMs(start.saturating_mul(1000)).to_rfc3339())
        }
        (table, ..) => format!("a value of {table}"),
    }
}
