//! The rows of one slot's devices, made again from its log.

use std::collections::{BTreeMap, HashMap};

use rollcall_wire::{DeviceId, Slot};

use super::{Stop, words};
use crate::intake::seen::Seen;
use crate::log::Snapshot;
use crate::log::row::Row;
use crate::model::Entry;
use crate::ops::Findings;
use crate::ops::check::Reporter;

/// How many rows are read at a time.
const READ_ROWS: usize = 4096;

/// What a store has of a slot's devices, and what the log says of them.
pub(super) struct SlotRows {
    /// Below this entry, the rows hold all.
    checkpoint: u64,
    stored: BTreeMap<DeviceId, Row>,
    seen: Seen,
    /// Those that are further than the checkpoint, and how far.
    ahead: HashMap<DeviceId, u64>,
}

impl SlotRows {
    /// Reads the rows that are stored.
    pub(super) fn read(
        snapshot: &mut dyn Snapshot,
        reporter: &mut Reporter,
        slot: Slot,
        checkpoint: u64,
    ) -> Result<Self, Stop> {
        let mut slot_rows =
            Self { checkpoint, stored: BTreeMap::new(), seen: Seen::default(), ahead: HashMap::new() };
        loop {
            let after = slot_rows.stored.last_key_value().map(|(device, _)| *device);
            let rows = snapshot.rows(slot, after, READ_ROWS)?;
            let read = rows.len();
            for row in rows {
                if row.upto > checkpoint {
                    slot_rows.ahead.insert(row.device, row.upto);
                }
                slot_rows.stored.insert(row.device, row);
            }
            reporter.progress(|| format!("reading the rows of slot {slot}: {}", slot_rows.stored.len()))?;
            if read < READ_ROWS {
                return Ok(slot_rows);
            }
        }
    }

    /// From this entry on, the log is in none of them.
    pub(super) fn furthest(&self) -> u64 {
        self.ahead.values().copied().max().unwrap_or_default().max(self.checkpoint)
    }

    /// Takes the next entry of the log.
    pub(super) fn take(&mut self, entry: &Entry) {
        for record in &entry.records {
            let upto = self.ahead.get(&record.device).unwrap_or(&self.checkpoint);
            if entry.number < *upto {
                self.seen.record(record, entry.log_time);
            }
        }
    }

    /// Names the devices whose rows are not as the log says; how many rows were compared.
    pub(super) fn compare(mut self, findings: &mut Findings) -> u64 {
        let compared = self.stored.len() as u64;
        let mut devices = self.seen.take_changed();
        devices.sort_unstable();
        for device in devices {
            let logged = self.seen.row(device, self.checkpoint);
            match self.stored.remove(&device) {
                Some(stored) => {
                    if let Some(difference) = words::row_difference(&stored, &logged) {
                        findings.add(|| format!("the row of device {device}: {difference}"));
                    }
                }
                None => findings.add(|| format!("device {device} has messages in the log, and no row")),
            }
        }
        for device in self.stored.keys() {
            findings.add(|| format!("device {device} has a row, and no message in the log"));
        }
        compared
    }
}
