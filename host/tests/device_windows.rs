//! The windows of devices, in a store that fails between any two of its writes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{START_S, brute_force, device};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::devices;
use rollcall_host::log::{Fault, LogStore, MemoryStore};
use rollcall_host::model::{Counts, Record, UnixMs};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence};

const DEVICES: u64 = 6;
const FIRST_MINUTE: u32 = (START_S / 60) as u32 - 5 * 1440;
const END_MINUTE: u32 = FIRST_MINUTE + 10 * 1440;

/// A sample as time goes on, of whichever boot, and some late.
fn sample(random: &mut fastrand::Rng, at: u64) -> Record {
    let late_s = if random.u8(..5) == 0 { random.u64(..3 * 86_400) } else { random.u64(..90) };
    let id = SampleId { boot: BootId(random.u64(..4)), seq: Sequence::new(at).unwrap() };
    let sampled_at = UnixMs((START_S + at * 20 - late_s) * 1000);
    let device = device(random.u64(..DEVICES));
    Record { id: Some(id), sampled_at, ..common::record(random, device, 0) }
}

type Oracle = BTreeMap<(DeviceId, u32), Counts>;

fn count(oracle: &mut Oracle, record: &Record) {
    let minute = (record.sampled_at.second() / 60) as u32;
    *oracle.entry((record.device, minute)).or_default() += brute_force([record], &(0..u64::MAX));
}

/// Every device by a step of minutes, and all of it at once.
async fn assert_counts<S: LogStore>(random: &mut fastrand::Rng, store: &S, oracle: &Oracle) {
    let ids: Vec<_> = (0..=DEVICES).map(device).collect();
    let (a, b) = (random.u32(FIRST_MINUTE..END_MINUTE), random.u32(FIRST_MINUTE..END_MINUTE));
    let range = a.min(b)..a.max(b);
    let read = devices::read(store, &ids, &range, UnixMs(7)).await.unwrap();
    assert_eq!(read.as_of, UnixMs(7), "all is in the rows");
    let step = random.u32(1..200);
    for (device, view) in ids.into_iter().zip(read.value) {
        let first = range.start / step;
        let steps = if range.is_empty() { 0 } else { range.end.div_ceil(step) - first };
        let mut buckets = vec![Counts::default(); steps as usize];
        let mut sum = Counts::default();
        for ((_, minute), counts) in oracle.range((device, range.start)..(device, range.end)) {
            buckets[(minute / step - first) as usize] += *counts;
            sum += *counts;
        }
        assert_eq!(view.counts(&range).unwrap(), sum, "{device} {range:?}");
        assert_eq!(view.series(&range, step).unwrap(), buckets, "{device} {range:?} {step}");
    }
}

#[tokio::test]
async fn counts_are_exact_wherever_the_writing_of_rows_is_cut_off() {
    let mut random = common::random();
    for _ in 0..6 {
        let store = Arc::new(MemoryStore::default());
        let mut ingest = Ingest::open(store.clone()).await.unwrap();
        let mut oracle = Oracle::new();
        let mut sent = Vec::new();
        for at in 0..300 {
            let mut records: Vec<_> = (0..random.u64(1..6)).map(|_| sample(&mut random, at)).collect();
            records.dedup_by_key(|record| (record.device, record.id));
            // Some come again.
            records.extend(random.choice(&sent).copied());
            ingest.commit(&records, UnixMs((START_S + at) * 1000)).await.unwrap();
            let logged = store_of(&*store).await;
            oracle = logged;
            sent.extend(records);
            ingest.roll().await.unwrap();
            if random.u8(..3) > 0 {
                continue;
            }
            store.inject(Fault::TearRows(random.usize(..12)));
            let torn = ingest.write_all_rows().await;
            assert_readable(&*store).await;
            match torn {
                // It was in the middle of it, and this process goes on.
                Err(_) if random.bool() => ingest.catch_up().await.unwrap(),
                // Or there is another one.
                _ => ingest = Ingest::open(store.clone()).await.unwrap(),
            }
            if random.bool() {
                while ingest.write_all_rows().await.is_err() {
                    ingest.catch_up().await.unwrap();
                }
                assert_counts(&mut random, &*store, &oracle).await;
            }
        }
        while ingest.write_all_rows().await.is_err() {
            ingest.catch_up().await.unwrap();
        }
        assert_counts(&mut random, &*store, &oracle).await;
    }
}

/// What the log has, looked at sample by sample.
async fn store_of<S: LogStore>(store: &S) -> Oracle {
    let mut oracle = Oracle::new();
    for slot in rollcall_wire::Slot::all() {
        for entry in store.read(slot, 0, usize::MAX).await.unwrap() {
            entry.records.iter().for_each(|record| count(&mut oracle, record));
        }
    }
    oracle
}

/// Every device answers by what is below its row's `upto`, in whichever state the store is.
async fn assert_readable<S: LogStore>(store: &S) {
    for device in (0..DEVICES).map(device) {
        let view = store.devices(&[device], 0..u32::MAX).await.unwrap().remove(0);
        assert!(!view.is_torn());
        let upto = view.row.as_ref().map_or(0, |row| row.upto);
        let mut expected = BTreeMap::<u32, Counts>::new();
        for entry in store.read(rollcall_wire::Slot::of(&device), 0, upto as usize).await.unwrap() {
            for record in entry.records.iter().filter(|record| record.device == device) {
                let minute = expected.entry((record.sampled_at.second() / 60) as u32).or_default();
                *minute += brute_force([record], &(0..u64::MAX));
            }
        }
        let mut counted = BTreeMap::<u32, Counts>::new();
        for (minute, counts) in view.minutes().unwrap() {
            *counted.entry(minute).or_default() += counts;
        }
        assert_eq!(counted, expected, "{device} at {upto}");
        assert!(view.windows.iter().is_sorted_by_key(|window| window.span));
    }
}
