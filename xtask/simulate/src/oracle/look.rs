//! A look at a store: the log against what is known to have happened, and the windows against the log.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use rollcall_host::log::plan::{self, Plan};
use rollcall_host::log::{LogStore, StoreError};
use rollcall_host::model::{self, BySecond, Counts, Entry, Record, RecordKind, TimeError, UnixMs};
use rollcall_wire::{BootId, DeviceId, Slot};

use super::{Found, Oracle};
use crate::chance::Chance;
use crate::scene::Failure;

/// How many ranges are asked for in a look.
const RANGES: u64 = 4;

/// Does at once what a store does at once: a look sees one instant.
#[expect(clippy::panic, reason = "it is the simulation that would be wrong")]
pub(super) fn at_once<T>(work: impl Future<Output = T>) -> T {
    match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a store that waits cannot be looked at"),
    }
}

/// What a record is to count for.
pub(super) fn counted(record: &Record) -> Counts {
    let mut counts = Counts::default();
    if record.kind == RecordKind::Undecided {
        counts.undecided = 1;
        return counts;
    }
    counts.statuses[record.status.index()] = 1;
    counts.one_second = u64::from(record.time_error == TimeError::OneSecond);
    counts.unknown = u64::from(record.time_error == TimeError::Unknown);
    let came_late = record.received_at.0 > record.sampled_at.0 + 60_000;
    counts.late = u64::from(came_late && record.kind == RecordKind::Sample);
    counts
}

fn failure(check: &'static str, found: String) -> Failure {
    Failure { check, found }
}

/// Why a look came to nothing.
pub(crate) enum Blind {
    /// The store does not answer now.
    Store(StoreError),
    /// What it holds is wrong.
    Failure(Failure),
}

impl From<StoreError> for Blind {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for Blind {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Oracle {
    /// Looks at all that a store holds, and how it answers.
    ///
    /// # Errors
    /// [`Blind`].
    pub(crate) fn look<S: LogStore>(&mut self, store: &S, chance: &mut Chance) -> Result<(), Blind> {
        self.looks += 1;
        self.forged_found.clear();
        let mut logs = Vec::new();
        for slot in Slot::all() {
            logs.push(at_once(store.read(slot, 0, usize::MAX))?);
        }
        let counts = self.look_at_log(&logs)?;
        self.look_for_granted()?;
        look_at_windows(store, &counts, chance)?;
        for (slot, log) in Slot::all().zip(&logs) {
            super::rows::look(store, slot, log)?;
        }
        Ok(())
    }

    fn look_at_log(&mut self, logs: &[Vec<Entry>]) -> Result<BySecond, Failure> {
        let mut counts = BySecond::new();
        let mut bare = BTreeMap::<(DeviceId, UnixMs), u64>::new();
        for (slot, log) in Slot::all().zip(logs) {
            let mut before = UnixMs(0);
            for (number, entry) in (0..).zip(log) {
                if entry.number != number || entry.slot != slot || entry.log_time < before {
                    return Err(failure("log", format!("entry {number} of slot {slot} is {entry:?}")));
                }
                before = entry.log_time;
                self.look_at_order(entry)?;
                for record in &entry.records {
                    self.look_at_record(record, slot, &mut bare)?;
                    *counts.entry(record.sampled_at.second()).or_default() += counted(record);
                }
            }
        }
        self.look_at_bare(&bare)?;
        Ok(counts)
    }

    fn look_at_record(
        &mut self,
        record: &Record,
        slot: Slot,
        bare: &mut BTreeMap<(DeviceId, UnixMs), u64>,
    ) -> Result<(), Failure> {
        let look = self.looks;
        if Slot::of(&record.device) != slot {
            return Err(failure("log", format!("{record:?} is in slot {slot}")));
        }
        let Some(id) = record.id else {
            *bare.entry((record.device, record.received_at)).or_default() += 1;
            return Ok(());
        };
        let is_forged = self.forged.contains(&(record.device, id));
        let Some(sample) = self.sample(record.device, id) else {
            return if !is_forged {
                Err(failure("invented", format!("{record:?}: nobody took it")))
            } else if record.kind != RecordKind::Undecided && !self.forged_found.insert((record.device, id)) {
                Err(failure("counted twice", format!("{record:?}")))
            } else {
                Ok(())
            };
        };
        if record.status != sample.status {
            return Err(failure("status", format!("{record:?} was {:?}", sample.status)));
        }
        let found = sample.found_by(look);
        match record.kind {
            RecordKind::Undecided if found == Found::Nowhere => sample.found = (look, Found::Undecided),
            RecordKind::Undecided => {}
            _ if found == Found::Counted => return Err(failure("counted twice", format!("{record:?}"))),
            _ => sample.found = (look, Found::Counted),
        }
        self.check_time(record)
    }

    /// The samples of a boot stand in an entry as they came.
    fn look_at_order(&self, entry: &Entry) -> Result<(), Failure> {
        let mut last = BTreeMap::<(DeviceId, BootId), u64>::new();
        for record in &entry.records {
            let Some((id, sample)) = record.id.zip(self.known_sample(record)) else { continue };
            let before = last.entry((record.device, id.boot)).or_default();
            let mut arrivals =
                sample.copies.iter().filter(|copy| copy.received_at == record.received_at).peekable();
            if arrivals.peek().is_none() {
                continue;
            }
            match arrivals.map(|copy| copy.order).filter(|order| order > before).min() {
                Some(order) => *before = order,
                None => {
                    let (slot, number) = (entry.slot, entry.number);
                    let found = format!(
                        "entry {number} of slot {slot}: {record:?} came before what stands before it"
                    );
                    return Err(failure("order", found));
                }
            }
        }
        Ok(())
    }

    fn look_at_bare(&self, found: &BTreeMap<(DeviceId, UnixMs), u64>) -> Result<(), Failure> {
        let mut by_device = BTreeMap::<DeviceId, u64>::new();
        for ((device, received_at), times) in found {
            let handed_on = self.bare.get(&(*device, *received_at)).copied().unwrap_or_default();
            if *times > handed_on {
                let found = format!("{times} of {device} received at {received_at:?}, and {handed_on} came");
                return Err(failure("bare message counted twice", found));
            }
            *by_device.entry(*device).or_default() += times;
        }
        for (device, granted) in &self.bare_granted {
            let times = by_device.get(device).copied().unwrap_or_default();
            if times < *granted {
                let found = format!("{times} of {device} are in the log, {granted} were acknowledged");
                return Err(failure("acknowledged and not counted", found));
            }
        }
        Ok(())
    }

    /// Success means that it is counted, now and for ever.
    fn look_for_granted(&self) -> Result<(), Failure> {
        for (id, device) in &self.devices {
            for (boot, samples) in &device.boots {
                for (seq, sample) in samples.iter().enumerate() {
                    let Some(sample) = sample.as_ref().filter(|sample| sample.is_granted) else { continue };
                    if sample.found_by(self.looks) != Found::Counted {
                        let found = format!("{id}, boot {boot}, number {seq}");
                        return Err(failure("acknowledged and not counted", found));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Every range has as many as the log.
fn look_at_windows<S: LogStore>(store: &S, counts: &BySecond, chance: &mut Chance) -> Result<(), Blind> {
    let first = counts.first_key_value().map_or(0, |(second, _)| *second);
    let last = counts.last_key_value().map_or(0, |(second, _)| *second);
    for range in 0..RANGES {
        let range = if range == 0 {
            0..u64::MAX / 2
        } else {
            let start = chance.within(first.saturating_sub(90), last + 1);
            // Some begin and end with a minute.
            let unit = chance.pick(&[1, 1, 60]);
            let start = start / unit * unit;
            start..start + unit * chance.within(1, (last - first) / unit + 2)
        };
        let plan = Plan::new(range.clone());
        let view = at_once(store.view(&plan))?;
        let (answered, logged) = (plan::total(&plan, &view), model::sum(counts, range.clone()));
        if answered != logged {
            let found = format!("{range:?}: {answered:?}, and the log has {logged:?}");
            return Err(failure("windows", found).into());
        }
    }
    Ok(())
}
