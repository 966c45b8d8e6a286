//! The rows of one slot's devices, made again from its log.

use std::collections::{BTreeMap, HashMap};

use rollcall_wire::{DeviceId, Slot};

use super::devices::DeviceSums;
use super::{Stop, words};
use crate::intake::seen::{BOOT_KEPT_MS, Seen, Sighting};
use crate::log::Snapshot;
use crate::log::row::Row;
use crate::log::start::Start;
use crate::model::{Entry, Record, RecordKind, UnixMs};
use crate::ops::Findings;
use crate::ops::check::Reporter;

/// How many rows are read at a time.
pub(super) const READ_ROWS: usize = 4096;

/// What a store has of a slot's devices, and what the log says of them.
pub(super) struct SlotRows {
    /// Below this entry, the rows hold all.
    checkpoint: u64,
    stored: BTreeMap<DeviceId, Row>,
    seen: Seen,
    /// Those that are further than the checkpoint, and how far.
    ahead: HashMap<DeviceId, u64>,
    sums: DeviceSums,
    /// Of a log that starts later: what the rows hold, which can no longer be made again.
    held: Option<Seen>,
    /// What of these is not as the log says.
    wrong: BTreeMap<DeviceId, (UnixMs, String)>,
    /// The log time of the last entry.
    log_time: UnixMs,
}

impl SlotRows {
    /// Reads the rows that are stored.
    pub(super) fn read(
        snapshot: &mut dyn Snapshot,
        reporter: &mut Reporter,
        slot: Slot,
        start: &Start,
        checkpoint: u64,
    ) -> Result<Self, Stop> {
        let mut slot_rows = Self {
            checkpoint,
            stored: BTreeMap::new(),
            seen: Seen::default(),
            ahead: HashMap::new(),
            sums: DeviceSums::new(start.clone()),
            held: None,
            wrong: BTreeMap::new(),
            log_time: UnixMs(0),
        };
        loop {
            let after = slot_rows.stored.last_key_value().map(|(device, _)| *device);
            let rows = snapshot.rows(slot, after, READ_ROWS)?;
            let read = rows.len();
            rows.into_iter().for_each(|row| slot_rows.store(row));
            reporter.progress(|| format!("reading the rows of slot {slot}: {}", slot_rows.stored.len()))?;
            if read < READ_ROWS {
                break;
            }
        }
        for row in slot_rows.sums.read(snapshot, reporter, slot, &slot_rows.stored)? {
            slot_rows.store(row);
        }
        if start.first > 0 {
            slot_rows.hold();
        }
        Ok(slot_rows)
    }

    fn store(&mut self, row: Row) {
        if row.upto > self.checkpoint {
            self.ahead.insert(row.device, row.upto);
        }
        // What is read for its hours is without its closed boots.
        let closed = self.stored.get(&row.device).and_then(|stored| stored.closed.clone());
        self.stored.insert(row.device, Row { closed: row.closed.clone().or(closed), ..row });
    }

    fn hold(&mut self) {
        let mut held = Seen::default();
        for row in self.stored.values().filter(|row| !held.restore(row)) {
            self.wrong.insert(row.device, (UnixMs(u64::MAX), "it is not readable".to_owned()));
        }
        self.held = Some(held);
    }

    /// From this entry on, the log is in none of them.
    pub(super) fn furthest(&self) -> u64 {
        self.ahead.values().copied().max().unwrap_or_default().max(self.checkpoint)
    }

    /// Takes the next entry of the log.
    pub(super) fn take(&mut self, entry: &Entry) {
        let (ahead, checkpoint) = (&self.ahead, self.checkpoint);
        let wanted = |device: &DeviceId| entry.number < *ahead.get(device).unwrap_or(&checkpoint);
        self.log_time = entry.log_time;
        match &self.held {
            None => self.seen.take(entry, wanted),
            Some(held) => {
                let unknown = entry.records.iter().filter(|record| wanted(&record.device));
                let stored = &self.stored;
                let lacks = |record: &Record| match stored.contains_key(&record.device) {
                    // Others need not have one, where there are more devices than are known.
                    false if record.kind == RecordKind::Sample && record.id.is_some() => {
                        Some("it is not there".to_owned())
                    }
                    _ => lacks(held, record),
                };
                let unknown = unknown.filter_map(|record| Some((record, lacks(record)?)));
                self.wrong.extend(unknown.map(|(record, what)| (record.device, (entry.log_time, what))));
            }
        }
        // The sums have all of it.
        self.seen.all_moved();
        self.sums.take(entry, wanted);
    }

    /// Names the devices whose rows are not as the log says; how many rows were compared, and the devices whose counts are
    /// not as the log says.
    pub(super) fn compare(mut self, findings: &mut Findings) -> (u64, Vec<DeviceId>) {
        let compared = self.stored.len() as u64;
        let devices = self.seen.take_changed();
        for device in devices {
            let logged = self.seen.row(device, self.checkpoint);
            match self.stored.remove(&device) {
                Some(stored) => {
                    if let Some(difference) = words::row_difference(&stored, &logged) {
                        findings.add(|| format!("the row of device {device}: {difference}"));
                    }
                }
                None => {
                    self.sums.forget(&device);
                    findings.add(|| format!("device {device} has messages in the log, and no row"));
                }
            }
        }
        if self.held.is_some() {
            // A boot that was silent for longer may have been forgotten, and have come back since.
            let known = |at: &UnixMs| at.0.saturating_add(BOOT_KEPT_MS) > self.log_time.0;
            let wrong = self.wrong.iter().filter(|(_, (at, _))| known(at));
            wrong.for_each(|(device, (_, what))| {
                findings.add(|| format!("the row of device {device}: {what}"));
            });
            return (compared, self.sums.differing());
        }
        for device in self.stored.keys() {
            findings.add(|| format!("device {device} has a row, and no message in the log"));
        }
        (compared, self.sums.differing())
    }
}

/// What a row does not know of a record that the log has.
fn lacks(held: &Seen, record: &Record) -> Option<String> {
    let id = record.id.filter(|_| record.kind == RecordKind::Sample)?;
    // Other boots may be forgotten by now.
    let is_open = held.is_open(&record.device, id.boot);
    let lacks = is_open && held.check(&record.device, id) == Sighting::New;
    lacks
        .then(|| format!("it does not know sample {} of boot {}, which is in the log", id.seq.get(), id.boot))
}
