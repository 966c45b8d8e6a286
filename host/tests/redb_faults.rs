//! The embedded store on a disk that fails at every one of its operations in turn, and then loses power.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::remove_old_once;
use rollcall_host::log::plan::{self, Plan};
use rollcall_host::log::rollup::CHUNK_ENTRIES;
use rollcall_host::log::{LogStore, RedbStore, StoreError};
use rollcall_host::model::{Entry, Record, RecordKind, TimeError, UnixMs, Verdict, WriterId};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};

/// What a disk holds, and what of it survives a power cut.
#[derive(Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Where something was written since the last sync.
    unsynced: Vec<std::ops::Range<usize>>,
    /// Writes and syncs until one fails; from then on all do, until the store is opened again.
    left: Option<usize>,
    /// What the next opening finds.
    found: Found,
    /// How often it was opened.
    openings: usize,
    /// Does the next write panic?
    panics: bool,
}

/// What a store finds when it is opened again after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Found {
    /// The power was cut: only what was synced.
    #[default]
    Synced,
    /// The disk was full, or refused for a moment: all that was written until then.
    Written,
}

impl Platter {
    fn operation(&mut self) -> std::io::Result<()> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(std::io::Error::other("injected")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    /// Opens a store on what is left after a power cut; the disk works again.
    fn open(&self) -> RedbStore {
        let disk = self.clone();
        RedbStore::over(move || {
            let mut platter = disk.0.lock().unwrap();
            if platter.found == Found::Synced {
                platter.bytes = platter.synced.clone();
                platter.unsynced.clear();
            }
            platter.left = None;
            platter.openings += 1;
            drop(platter);
            disk.clone()
        })
        .unwrap()
    }

    fn openings(&self) -> usize {
        self.0.lock().unwrap().openings
    }

    fn fail_after(&self, operations: usize) {
        self.0.lock().unwrap().left = Some(operations);
    }

    fn will_be_found(&self, found: Found) {
        self.0.lock().unwrap().found = found;
    }

    /// Did the injected failure come to pass?
    fn failed(&self) -> bool {
        self.0.lock().unwrap().left == Some(0)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap().bytes[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        platter.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        let Platter { bytes, synced, unsynced, .. } = &mut *platter;
        synced.resize(bytes.len(), 0);
        for range in unsynced.drain(..) {
            // What was cut off again meanwhile is gone.
            let range = range.start.min(bytes.len())..range.end.min(bytes.len());
            synced[range.clone()].copy_from_slice(&bytes[range]);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        if std::mem::take(&mut platter.panics) {
            drop(platter);
            panic!("injected");
        }
        platter.operation()?;
        let start = offset as usize;
        platter.bytes[start..start + data.len()].copy_from_slice(data);
        platter.unsynced.push(start..start + data.len());
        Ok(())
    }
}

fn record(device: u64, seq: u64) -> Record {
    Record {
        device: DeviceId::new(&format!("device-{device}")).unwrap(),
        id: Some(SampleId { boot: BootId(1), seq: Sequence::new(seq).unwrap() }),
        status: Status::new((seq % 7) as u8).unwrap(),
        kind: RecordKind::Sample,
        sampled_at: UnixMs(1_700_000_000_000 + seq * 1000),
        time_error: TimeError::Exact,
        received_at: UnixMs(1_700_000_000_000),
    }
}

/// The first of its slot, with this record alone.
fn first_entry(record: Record) -> Entry {
    let (received_at, log_time) = (record.received_at, record.received_at);
    let (slot, writer, records) = (Slot::of(&record.device), WriterId::NOBODY, vec![record]);
    Entry { slot, number: 0, writer, received_at, log_time, records }
}

async fn logged(store: &RedbStore) -> Vec<(DeviceId, Option<SampleId>)> {
    let mut all = Vec::new();
    for slot in Slot::all() {
        let entries = store.read(slot, 0, usize::MAX).await.unwrap();
        all.extend(entries.iter().flat_map(|entry| &entry.records).map(|record| (record.device, record.id)));
    }
    all.sort();
    all
}

#[tokio::test]
async fn whatever_operation_fails_every_acknowledged_record_is_there_once_after_the_power_cut() {
    let mut fails_at = 0;
    loop {
        let disk = Disk::default();
        let store = Arc::new(disk.open());
        let mut ingest = Ingest::open(store.clone()).await.unwrap();
        let before: Vec<_> = (0..5).map(|device| record(device, 0)).collect();
        ingest.commit(&before, UnixMs(0)).await.unwrap();

        disk.fail_after(fails_at);
        let records: Vec<_> = (0..5).map(|device| record(device, 1)).collect();
        let first = ingest.commit(&records, UnixMs(0)).await;
        let failed = disk.failed();
        // The store opens the disk anew by itself; the ingest loop looks what is there and tries again.
        if first.is_err() {
            ingest.catch_up().await.unwrap();
            ingest.commit(&records, UnixMs(0)).await.unwrap();
        }
        let again = ingest.commit(&records, UnixMs(0)).await.unwrap();
        assert!(again.iter().all(|verdict| *verdict == Verdict::Duplicate), "operation {fails_at}");
        drop((ingest, store));

        let mut expected: Vec<_> =
            before.iter().chain(&records).map(|record| (record.device, record.id)).collect();
        expected.sort();
        assert_eq!(logged(&disk.open()).await, expected, "operation {fails_at}");
        if !failed {
            assert!(first.is_ok() && fails_at > 3, "only {fails_at} operations in a commit");
            return;
        }
        fails_at += 1;
    }
}

/// All records and chunks made durable, however often the store fails; how often it did.
async fn surely(ingest: &mut Ingest<RedbStore>, records: &[Record]) -> usize {
    let mut failures = 0;
    while ingest.commit(records, UnixMs(0)).await.is_err()
        || ingest.roll().await.is_err()
        || ingest.write_all_rows().await.is_err()
    {
        failures += 1;
        assert!(failures < 10, "the ingest does not recover");
        ingest.catch_up().await.unwrap();
    }
    failures
}

/// One entry a record, so that chunks fill.
async fn one_by_one(ingest: &mut Ingest<RedbStore>, seqs: std::ops::Range<u64>) -> usize {
    let mut failures = 0;
    for seq in seqs {
        failures += surely(ingest, &[record(0, seq)]).await;
    }
    failures
}

#[tokio::test]
async fn after_a_failure_of_whatever_operation_the_same_process_rolls_up_ten_more_chunks() {
    const BEFORE: u64 = CHUNK_ENTRIES;
    const AFTER: u64 = BEFORE + 10 * CHUNK_ENTRIES + 5;
    for found in [Found::Written, Found::Synced] {
        let mut fails_at = 0;
        loop {
            let disk = Disk::default();
            let store = Arc::new(disk.open());
            let mut ingest = Ingest::open(store.clone()).await.unwrap();
            // The last of these fills a chunk, whose windows are committed without an fsync of their own.
            one_by_one(&mut ingest, 0..BEFORE).await;
            disk.will_be_found(found);
            disk.fail_after(fails_at);
            let failures = one_by_one(&mut ingest, BEFORE..BEFORE + 1).await;
            let failed = disk.failed() || failures > 0;
            one_by_one(&mut ingest, BEFORE + 1..AFTER).await;

            let checkpoint = store.checkpoint(Slot::of(&record(0, 0).device)).await.unwrap().windows;
            assert_eq!(checkpoint, AFTER - AFTER % CHUNK_ENTRIES, "{found:?}, operation {fails_at}");
            assert_eq!(store.checkpoint(Slot::of(&record(0, 0).device)).await.unwrap().rows, AFTER);
            let plan = Plan::new(0..u64::MAX / 2);
            let counted = plan::total(&plan, &store.view(&plan).await.unwrap()).total();
            assert_eq!(counted, AFTER, "{found:?}, operation {fails_at}");
            if !failed {
                assert!(fails_at > 3, "only {fails_at} operations in a commit");
                break;
            }
            fails_at += 1;
        }
    }
}

/// What a failure of somebody else's call made the store forget, it has to make again, though none of its own calls failed.
#[tokio::test]
async fn rows_that_were_lost_by_anothers_failure_are_written_again_before_any_checkpoint_passes_them() {
    let disk = Disk::default();
    let store = Arc::new(disk.open());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let slot = |device: u64| Slot::of(&record(device, 0).device);
    let other = (1..).find(|device| slot(*device) == slot(0)).unwrap();
    surely(&mut ingest, &[record(other, 0)]).await;
    // Durable by the next append, which is of the other device.
    surely(&mut ingest, &[record(0, 0)]).await;

    disk.fail_after(0);
    let elsewhere = record((1..).find(|device| slot(*device) != slot(0)).unwrap(), 0);
    store.append(&[first_entry(elsewhere)]).await.unwrap_err();

    surely(&mut ingest, &[record(other, 1)]).await;
    surely(&mut ingest, &[record(other, 2)]).await;
    drop((ingest, store));
    let mut ingest = Ingest::open(Arc::new(disk.open())).await.unwrap();
    let again = ingest.commit(&[record(0, 0)], UnixMs(0)).await.unwrap();
    assert_eq!(again, [Verdict::Duplicate]);
}

#[tokio::test]
async fn whatever_operation_of_a_cut_fails_all_or_nothing_of_it_is_done_and_nothing_is_counted_otherwise() {
    const ENTRIES: u64 = 4 * CHUNK_ENTRIES + 5;
    // The last entry below the checkpoints stays.
    const REMOVED: u64 = 3 * CHUNK_ENTRIES;
    let slot = Slot::of(&record(0, 0).device);
    let plan = Plan::new(0..u64::MAX / 2);
    let long_after = UnixMs(1_700_000_000_000 + 90 * 86_400_000);
    for found in [Found::Written, Found::Synced] {
        let mut fails_at = 0;
        loop {
            let disk = Disk::default();
            let store = Arc::new(disk.open());
            let mut ingest = Ingest::open(store.clone()).await.unwrap();
            // Its windows and rows are committed without an fsync of their own.
            one_by_one(&mut ingest, 0..ENTRIES).await;
            disk.will_be_found(found);
            disk.fail_after(fails_at);
            let done = remove_old_once(&*store, "31d".parse().unwrap(), long_after).await;
            let failed = disk.failed();
            drop((ingest, store));

            let store = Arc::new(disk.open());
            let start = store.start(slot).await.unwrap();
            assert!([0, REMOVED].contains(&start.first), "{found:?} {fails_at}: {start:?}");
            assert!(done.is_err() || start.first > 0, "{found:?} {fails_at}: it was said to be durable");
            let checkpoint = store.checkpoint(slot).await.unwrap();
            assert!(start.first <= checkpoint.windows.min(checkpoint.rows));
            assert_eq!(store.read(slot, 0, 1).await.unwrap()[0].number, start.first);
            let mut ingest = Ingest::open(store.clone()).await.unwrap();
            let again: Vec<_> = (0..ENTRIES).map(|seq| record(0, seq)).collect();
            let verdicts = ingest.commit(&again, UnixMs(0)).await.unwrap();
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Duplicate), "{found:?} {fails_at}");
            let counted = plan::total(&plan, &store.view(&plan).await.unwrap()).total();
            assert_eq!(counted, ENTRIES, "{found:?}, operation {fails_at}");
            remove_old_once(&*store, "31d".parse().unwrap(), long_after).await.unwrap();
            assert_eq!(store.start(slot).await.unwrap().first, REMOVED);
            if !failed {
                assert!(fails_at > 3, "only {fails_at} operations in a cut");
                break;
            }
            fails_at += 1;
        }
    }
}

#[tokio::test]
async fn a_panic_below_the_store_says_that_it_is_damaged_and_the_next_call_opens_it_anew() {
    let disk = Disk::default();
    let store = disk.open();
    disk.0.lock().unwrap().panics = true;
    let error = store.append(&[first_entry(record(0, 0))]).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("injected") && error.contains("the test's disk") && error.contains("restore"),
        "{error}"
    );
    let openings = disk.openings();
    store.ping().await.unwrap();
    assert_eq!(disk.openings(), openings + 1);
}
