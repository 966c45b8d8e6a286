//! Which samples of a partition are in its log already: per device and boot the exact set of their sequences,
//! as ranges, usually one.
//!
//! A sample is new if and only if it is not in the set: no order, prefetch or overtaking makes it otherwise,
//! and a jump forward is a range of its own. What is kept is bounded, by names; what falls behind a bound is
//! neither new nor counted: [`Sighting::CannotTell`]. Beside it stands what is counted of each device by minute and not
//! in its windows yet. A pure function of the log's prefix: only [`Seen::take`] changes it, and only by logged entries;
//! but of what is sealed, that goes which is in the windows.

mod devices;

use std::collections::HashMap;

use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, mutant};

use self::devices::Devices;
use crate::log::devices::{SEAL_BYTES, Sealed};
use crate::log::minutes::Minutes;
use crate::log::row::{Boot, ClosedBoots, DeviceState, OPEN_BOOTS_MAX, RANGES_MAX, Row, SeqRange};
use crate::model::{Entry, Record, RecordKind, UnixMs};

/// How many devices a slot may have: two million in all, which take some 700 MB. One more is not taken: of its
/// samples it could not be told whether they are in the log.
pub const DEVICES_MAX: usize = 131_072;

/// How long a boot is known after its last sample, in log time. What a device or a broker still holds of it
/// then is older than the wire's horizon, and refused for that.
pub const BOOT_KEPT_MS: u64 = rollcall_wire::codec::AGE_MAX_MS as u64;

/// What is known of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It is not in the log.
    New,
    /// It is in the log.
    Counted,
    /// Its boot, or its place in it, is closed: it may be in the log or not.
    CannotTell,
}

/// The devices of one partition.
#[derive(Debug, Default)]
pub struct Seen {
    devices: Devices,
    /// How many were changed since their rows were taken.
    changed: usize,
    /// What is sealed of those few of which something is, and may not be in their windows.
    sealed: HashMap<DeviceId, Vec<Sealed>>,
}

#[derive(Debug)]
struct Device {
    id: DeviceId,
    state: DeviceState,
    /// `None` for the many that have none.
    closed: Option<Box<ClosedBoots>>,
    /// Was it changed since its row was taken?
    changed: bool,
    /// Were its closed boots changed since their row was taken?
    closed_changed: bool,
}

impl Seen {
    /// Takes a device's row out of a store; `false` when it is none.
    pub fn restore(&mut self, row: &Row) -> bool {
        let Some(state) = DeviceState::from_bytes(&row.state) else { return false };
        let closed = match row.closed.as_deref().map(ClosedBoots::from_bytes) {
            Some(None) => return false,
            Some(Some(closed)) if !closed.is_empty() => Some(Box::new(closed)),
            _ => None,
        };
        self.devices.insert(Device { id: row.device, state, closed, changed: false, closed_changed: false });
        if !row.sealed.is_empty() {
            self.sealed.insert(row.device, row.sealed.clone());
        }
        true
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.devices.len() == 0
    }

    /// Is this sample in the log?
    pub fn check(&self, device: &DeviceId, sample: SampleId) -> Sighting {
        match self.devices.get(device) {
            Some(device) => device.check(sample),
            None if self.devices.len() >= DEVICES_MAX => Sighting::CannotTell,
            None => Sighting::New,
        }
    }

    /// Is it known exactly which samples that this device took at `at` or later are in the log or were? It was heard by then,
    /// and nothing of it was forgotten that reached so far.
    pub fn tells_all(&self, device: &DeviceId, at: UnixMs) -> bool {
        let Some(Device { state, .. }) = self.devices.get(device) else { return false };
        state.first_seen <= at && state.known_from.is_none_or(|from| from <= at)
    }

    /// Can this boot get samples?
    pub fn is_open(&self, device: &DeviceId, boot: BootId) -> bool {
        self.devices.get(device).is_some_and(|device| device.state.boots.iter().any(|open| open.id == boot))
    }

    /// The entry is in the log now, and what of it is of devices that are `wanted` was not taken before. Where the
    /// counts of a device are many, they are sealed at its end: a row never has that many of its own.
    pub fn take(&mut self, entry: &Entry, wanted: impl Fn(&DeviceId) -> bool) {
        let mut full = Vec::new();
        for record in entry.records.iter().filter(|record| wanted(&record.device)) {
            if self.record(record, entry.log_time) {
                full.push(record.device);
            }
        }
        for id in full {
            let counts = &mut self.device(&id).state.counts;
            if counts.len() >= SEAL_BYTES {
                let sealed = Sealed::new(entry.number + 1, std::mem::take(counts));
                self.sealed.entry(id).or_default().push(sealed);
            }
        }
    }

    /// The record is in the log now, in an entry of the log time `log_time`; are the counts of its device many?
    fn record(&mut self, record: &Record, log_time: UnixMs) -> bool {
        // Documents of an older program have identities of their own, and are no device's.
        if record.kind == RecordKind::Imported {
            return false;
        }
        if self.devices.len() >= DEVICES_MAX && self.devices.get(&record.device).is_none() {
            return false;
        }
        let new = || Device::new(record.device, record.received_at);
        let device = self.devices.get_or_insert_with(record.device, new);
        device.record(record, log_time);
        let is_full = device.state.counts.len() >= SEAL_BYTES;
        if !std::mem::replace(&mut device.changed, true) {
            self.changed += 1;
        }
        is_full
    }

    /// As [`Seen::moved`], of all devices.
    pub fn all_moved(&mut self) {
        self.sealed.clear();
    }

    /// What a device has sealed up to entry `upto` is in its windows; was there something?
    pub fn moved(&mut self, id: &DeviceId, upto: u64) -> bool {
        let Some(sealed) = self.sealed.get_mut(id) else { return false };
        let before = sealed.len();
        sealed.retain(|sealed| sealed.below > upto);
        let left = sealed.len();
        if left == 0 {
            self.sealed.remove(id);
        }
        left < before
    }

    /// How many devices were changed since [`Seen::take_changed`].
    pub fn changed(&self) -> usize {
        self.changed
    }

    /// The devices that were changed since this was called last, in their order. It looks at all of them, and none is
    /// kept in a list until then.
    pub fn take_changed(&mut self) -> Vec<DeviceId> {
        let mut changed = Vec::with_capacity(std::mem::take(&mut self.changed));
        let taken = self
            .devices
            .iter_mut()
            .filter_map(|device| std::mem::take(&mut device.changed).then_some(device.id));
        changed.extend(taken);
        changed.sort_unstable();
        changed
    }

    /// These were taken, and may not be stored: they count as changed again.
    pub fn put_back(&mut self, devices: Vec<DeviceId>) {
        for id in devices {
            let device = self.device(&id);
            device.closed_changed = device.closed.is_some();
            if !std::mem::replace(&mut device.changed, true) {
                self.changed += 1;
            }
        }
    }

    /// A device's row, up to entry `upto`.
    pub fn row(&mut self, id: DeviceId, upto: u64) -> Row {
        let device = self.device(&id);
        let closed = if std::mem::take(&mut device.closed_changed) { device.closed.as_deref() } else { None };
        let (closed, state) = (closed.map(ClosedBoots::to_bytes), device.state.to_bytes());
        let sealed = self.sealed.get(&id).cloned().unwrap_or_default();
        Row { device: id, upto, sealed, state, closed }
    }

    fn device(&mut self, id: &DeviceId) -> &mut Device {
        self.devices.get_mut(id).expect("a device that was recorded stays")
    }
}

impl Device {
    fn new(id: DeviceId, first_seen: UnixMs) -> Self {
        let state = DeviceState {
            first_seen,
            last_seen: first_seen,
            last_sample: None,
            undecided: 0,
            known_from: None,
            boots: Vec::with_capacity(1),
            counts: Minutes::default(),
        };
        Self { id, state, closed: None, changed: false, closed_changed: false }
    }

    fn check(&self, sample: SampleId) -> Sighting {
        match self.state.boots.iter().rfind(|boot| boot.id == sample.boot) {
            Some(boot) => check(boot, sample.seq),
            None if self.closed.as_ref().is_some_and(|closed| closed.contains(sample.boot)) => {
                Sighting::CannotTell
            }
            None => Sighting::New,
        }
    }

    fn record(&mut self, record: &Record, log_time: UnixMs) {
        let state = &mut self.state;
        state.last_seen = state.last_seen.max(record.received_at);
        state.counts.count(record);
        if record.kind == RecordKind::Undecided {
            state.undecided += 1;
            return;
        }
        if state.last_sample.is_none_or(|(at, _)| at <= record.sampled_at) {
            state.last_sample = Some((record.sampled_at, record.status));
        }
        if let Some(id) = record.id {
            self.record_sample(id, record.sampled_at, log_time);
        }
    }

    fn record_sample(&mut self, id: SampleId, sampled_at: UnixMs, log_time: UnixMs) {
        let boots = &mut self.state.boots;
        let mut boot = match boots.iter().rposition(|boot| boot.id == id.boot) {
            Some(last) if last + 1 == boots.len() => {
                boots[last].last_logged = log_time;
                let closed = insert(&mut boots[last], id.seq, sampled_at);
                return self.not_known_before(closed);
            }
            Some(at) => boots.remove(at),
            None if self.closed.as_ref().is_some_and(|closed| closed.contains(id.boot)) => return,
            None => {
                self.forget(log_time);
                Boot { id: id.boot, open_from: 0, last_logged: log_time, ranges: Vec::with_capacity(1) }
            }
        };
        boot.last_logged = log_time;
        let closed = insert(&mut boot, id.seq, sampled_at);
        self.not_known_before(closed);
        if self.state.boots.len() == OPEN_BOOTS_MAX {
            let silent = self.state.boots.remove(0);
            self.not_known_before(silent.last_at());
            self.closed.get_or_insert_default().push(silent.id, silent.last_logged);
            self.closed_changed = true;
        }
        self.state.boots.push(boot);
    }

    /// A new boot is the occasion to forget those of which nothing can come any more.
    fn forget(&mut self, log_time: UnixMs) {
        let before = mutant!(BootsForgotten, log_time, UnixMs(log_time.0.saturating_sub(BOOT_KEPT_MS)));
        let forgotten = self.state.boots.extract_if(.., |boot| boot.last_logged < before);
        let last_at = forgotten.filter_map(|boot| boot.last_at()).max();
        self.not_known_before(last_at);
        if let Some(closed) = &mut self.closed {
            let length = closed.len();
            closed.forget(before);
            self.closed_changed |= closed.len() < length;
        }
    }

    /// See [`DeviceState::known_from`].
    fn not_known_before(&mut self, at: Option<UnixMs>) {
        self.state.known_from = self.state.known_from.max(at);
    }
}

fn check(boot: &Boot, seq: Sequence) -> Sighting {
    let seq = seq.get();
    let at = boot.ranges.partition_point(|range| range.last < seq);
    if boot.ranges.get(at).is_some_and(|range| range.first <= seq) {
        return Sighting::Counted;
    }
    if seq < boot.open_from { Sighting::CannotTell } else { Sighting::New }
}

/// Takes a sample; if a gap had to be closed for good, where it ended in time.
fn insert(boot: &mut Boot, seq: Sequence, sampled_at: UnixMs) -> Option<UnixMs> {
    let (seq, ranges) = (seq.get(), &mut boot.ranges);
    let at = ranges.partition_point(|range| range.last < seq);
    if ranges.get(at).is_some_and(|range| range.first <= seq) {
        return None;
    }
    let joins_next = ranges.get(at).is_some_and(|range| range.first == seq + 1);
    let follows = at > 0 && ranges[at - 1].last + 1 == seq;
    let joins_last = mutant!(GapClosed, at > 0 && ranges[at - 1].last + 2 >= seq, follows);
    match (joins_last, joins_next) {
        (true, true) => {
            let next = ranges.remove(at);
            let range = &mut ranges[at - 1];
            (range.last, range.last_at) = (next.last, next.last_at);
        }
        (true, false) => (ranges[at - 1].last, ranges[at - 1].last_at) = (seq, sampled_at),
        (false, true) => (ranges[at].first, ranges[at].first_at) = (seq, sampled_at),
        (false, false) => {
            let range = SeqRange { first: seq, last: seq, first_at: sampled_at, last_at: sampled_at };
            ranges.insert(at, range);
        }
    }
    if ranges.len() <= RANGES_MAX {
        return None;
    }
    ranges.remove(0);
    boot.open_from = boot.open_from.max(ranges[0].first);
    Some(ranges[0].first_at)
}

#[cfg(test)]
mod tests;
