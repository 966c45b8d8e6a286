//! Random samples, and the plain oracle that counts them one by one.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod damage;
#[cfg(feature = "mongodb")]
pub(crate) mod mongod;
pub(crate) mod older;
pub(crate) mod place;
pub(crate) mod serve;

use std::ops::Range;
use std::sync::Arc;

use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::LogStore;
use rollcall_host::model::{Counts, Entry, Record, RecordKind, TimeError, UnixMs, WriterId};
use rollcall_host::ops::check::{Outcome, Report};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};
use tokio::sync::mpsc;

/// Where the random times begin: not on any window's boundary.
pub(crate) const START_S: u64 = 1_721_433_677;

/// How far they reach: over days, so that every resolution matters.
pub(crate) const SPAN_S: u64 = 5 * 86_400;

/// Random numbers of this run.
pub(crate) fn random() -> fastrand::Rng {
    rollcall_harness::random()
}

pub(crate) fn device(number: u64) -> DeviceId {
    DeviceId::new(&format!("device-{number}")).unwrap()
}

/// A device that belongs to `slot`.
pub(crate) fn device_of(slot: u8) -> DeviceId {
    let slot = Slot::new(slot).unwrap();
    (0..).map(device).find(|device| Slot::of(device) == slot).unwrap()
}

/// Sample `seq` of a device's only boot, of a random status and second.
pub(crate) fn record(random: &mut fastrand::Rng, device: DeviceId, seq: u64) -> Record {
    use TimeError::{Exact, OneSecond, Unknown};
    let sampled_ms = (START_S + random.u64(..SPAN_S)) * 1000 + random.u64(..1000);
    Record {
        device,
        id: Some(SampleId { boot: BootId(7), seq: Sequence::new(seq).unwrap() }),
        status: Status::new(random.u8(..7)).unwrap(),
        kind: RecordKind::Sample,
        sampled_at: UnixMs(sampled_ms),
        time_error: random.choice([Exact, Exact, OneSecond, Unknown]).unwrap(),
        received_at: UnixMs((START_S + SPAN_S) * 1000),
    }
}

/// An entry of one slot with `records` random samples of one device, numbered from `seq`.
pub(crate) fn entry(random: &mut fastrand::Rng, slot: u8, number: u64, seq: u64, records: u64) -> Entry {
    let device = device_of(slot);
    Entry {
        slot: Slot::of(&device),
        number,
        writer: WriterId(random.u32(..)),
        received_at: UnixMs((START_S + SPAN_S) * 1000),
        log_time: UnixMs((START_S + SPAN_S) * 1000),
        records: (seq..seq + records).map(|seq| record(random, device, seq)).collect(),
    }
}

/// Stores 5,000 messages of 50 devices, rolls up what makes full chunks, and writes some of the rows.
pub(crate) async fn fill<S: LogStore>(random: &mut fastrand::Rng, store: Arc<S>) -> Vec<Record> {
    let mut ingest = Ingest::open(store).await.unwrap();
    let mut all = Vec::new();
    for seq in 0..100 {
        let records: Vec<_> = (0..50).map(|number| record(random, device(number), seq)).collect();
        ingest.commit(&records, UnixMs((START_S + SPAN_S) * 1000)).await.unwrap();
        ingest.roll().await.unwrap();
        if seq % 10 == 0 {
            ingest.write_all_rows().await.unwrap();
        }
        all.extend(records);
    }
    all
}

/// A range around the samples: short and long ones, aligned and not, some empty.
pub(crate) fn range(random: &mut fastrand::Rng) -> Range<u64> {
    let unit = random.choice([1, 1, 60, 3600, 86_400]).unwrap();
    let mut bound = || (START_S - 100_000 + random.u64(..SPAN_S + 200_000)) / unit * unit;
    let (a, b) = (bound(), bound());
    let short = random.u64(..200);
    if random.bool() { a.min(b)..a.max(b) } else { a..a + short }
}

/// Counts by looking at every sample.
pub(crate) fn brute_force<'a>(records: impl IntoIterator<Item = &'a Record>, range: &Range<u64>) -> Counts {
    let mut counts = Counts::default();
    for record in records {
        if range.contains(&record.sampled_at.second()) {
            if record.kind == RecordKind::Undecided {
                counts.undecided += 1;
                continue;
            }
            counts.statuses[record.status.index()] += 1;
            counts.one_second += u64::from(record.time_error == TimeError::OneSecond);
            counts.unknown += u64::from(record.time_error == TimeError::Unknown);
            let late =
                record.kind == RecordKind::Sample && record.received_at.0 > record.sampled_at.0 + 60_000;
            counts.late += u64::from(late);
        }
    }
    counts
}

/// What doctor says is wrong, out of all that it reports.
pub(crate) async fn failures(mut reports: mpsc::Receiver<Report>) -> Vec<String> {
    let mut failures = Vec::new();
    while let Some(report) = reports.recv().await {
        if let Report::Check(check) = report
            && check.outcome == Outcome::Fail
        {
            failures.push(format!("{}: {}", check.name, check.found));
        }
    }
    failures
}
