//! What every store promises, the same tests for each. A new store adds a [`Fixture`] and one line below.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod completeness;
mod device_windows;
mod doctor;
mod fixtures;
mod messages;
mod retention;
mod rows;

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use self::completeness::*;
use self::device_windows::*;
use self::doctor::*;
use self::fixtures::*;
use self::messages::*;
use self::retention::*;
use self::rows::*;
#[cfg(feature = "mongodb")]
use common::mongod::{self, Server};
use common::{brute_force, device_of, entry, range, record};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::partition::Partition;
use rollcall_host::intake::recount;
use rollcall_host::intake::seen::Sighting;
use rollcall_host::log::devices::DeviceView;
#[cfg(feature = "mongodb")]
use rollcall_host::log::mongo::{MongoAddress, MongoStore};
use rollcall_host::log::plan::{Plan, Upto, View, series, total};
use rollcall_host::log::rollup::{CHUNK_ENTRIES, Chunk};
use rollcall_host::log::row::Row;
use rollcall_host::log::start::{Cut, Identity, Start};
use rollcall_host::log::{Beyond, Checkpoint, LogStore, MemoryStore, RedbStore, RowWrite, StoreError};
use rollcall_host::model::{Counts, Entry, Record, RecordKind, UnixMs, Verdict};
use rollcall_host::ops::check::Report;
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot};
use tokio::sync::mpsc;

/// All of a store but its appends, by another store.
macro_rules! delegate_reads {
    ($self:ident => $store:expr) => {
        async fn read(&$self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
            $store.read(slot, from, limit).await
        }

        async fn checkpoint(&$self, slot: Slot) -> Result<Checkpoint, StoreError> {
            $store.checkpoint(slot).await
        }

        async fn apply(&$self, chunks: &[Chunk]) -> Result<(), StoreError> {
            $store.apply(chunks).await
        }

        async fn rows(
            &$self,
            slot: Slot,
            after: Option<DeviceId>,
            limit: usize,
        ) -> Result<Vec<Row>, StoreError> {
            $store.rows(slot, after, limit).await
        }

        async fn first_rows(&$self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
            $store.first_rows(after, limit).await
        }

        async fn write_rows(&$self, writes: &[RowWrite]) -> Result<(), StoreError> {
            $store.write_rows(writes).await
        }

        async fn beyond_rows(&$self, slots: &[Slot], known: Option<&Upto>) -> Result<Beyond, StoreError> {
            $store.beyond_rows(slots, known).await
        }

        async fn devices(
            &$self,
            devices: &[DeviceId],
            hours: Range<u32>,
        ) -> Result<Vec<DeviceView>, StoreError> {
            $store.devices(devices, hours).await
        }

        async fn view(&$self, plan: &Plan) -> Result<View, StoreError> {
            $store.view(plan).await
        }

        async fn start(&$self, slot: Slot) -> Result<Start, StoreError> {
            $store.start(slot).await
        }

        async fn cut(&$self, cut: &Cut) -> Result<bool, StoreError> {
            $store.cut(cut).await
        }

        async fn release(&$self, slot: Slot, below: u64) -> Result<bool, StoreError> {
            $store.release(slot, below).await
        }

        async fn imported(&$self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
            $store.imported(identities).await
        }

        async fn ping(&$self) -> Result<(), StoreError> {
            $store.ping().await
        }
    };
}

macro_rules! contract {
    ($($store:ident: $fixture:ty;)*) => {$(
        mod $store {
            use super::*;
            contract!(@tests $fixture:
                entries_are_read_back_in_order
                a_taken_number_is_named_and_the_others_are_written
                a_chunk_counts_once_however_often_it_is_applied
                a_chunk_beyond_the_checkpoint_is_refused
                a_checkpoint_brings_the_partition_back
                rows_come_back_in_the_order_of_their_devices_and_the_furthest_stays
                rows_of_all_slots_come_in_the_order_of_their_devices
                a_restart_sees_what_the_log_holds_wherever_rows_and_windows_are
                counts_agree_with_the_oracle_whatever_is_rolled_up
                ingest_logs_each_record_once_through_lost_replies_repeats_and_a_jumping_clock
                device_counts_agree_with_the_oracle_through_late_samples_and_restarts
                what_is_sealed_is_added_to_hours_once_whoever_does_it
                what_is_missing_agrees_with_the_oracle_through_late_samples_reboots_and_restarts
                messages_of_a_range_are_found_each_once_however_late_they_came_and_however_the_clock_was_set
                a_cut_log_starts_later_and_its_windows_stay
                an_export_goes_on_when_messages_of_other_days_go
                no_answer_changes_by_what_is_removed
                doctor_finds_nothing_wrong_with_what_an_ingest_wrote
                doctor_names_a_window_and_a_row_that_are_not_as_the_log_says
            );
        }
    )*};
    (@tests $fixture:ty: $($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            if <$fixture as Fixture>::available() {
                super::$name::<$fixture>().await;
            }
        }
    )*};
}

contract! {
    memory: Memory;
    redb: Redb;
}

#[cfg(feature = "mongodb")]
contract! {
    mongo: Mongo;
}

/// The records of an entry keep their order within a device and boot only; these tests have one of each.
async fn entries_are_read_back_in_order<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let entries: Vec<Entry> = (0..5).map(|n| entry(&mut random, 3, n, n * 10, 4)).collect();
    for entry in &entries {
        assert_eq!(fixture.store().append(std::slice::from_ref(entry)).await.unwrap(), []);
    }
    let fixture = fixture.reopened().await;
    let read = async |from, limit| fixture.store().read(entries[0].slot, from, limit).await.unwrap();
    assert_eq!(read(0, 100).await, entries);
    assert_eq!(read(2, 2).await, entries[2..4]);
    assert_eq!(read(5, 100).await, []);
    assert_eq!(fixture.store().read(Slot::new(4).unwrap(), 0, 100).await.unwrap(), []);
}

async fn a_taken_number_is_named_and_the_others_are_written<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let store = fixture.store();
    let first = entry(&mut random, 1, 0, 0, 2);
    store.append(std::slice::from_ref(&first)).await.unwrap();
    let (second, other) = (entry(&mut random, 1, 0, 50, 2), entry(&mut random, 2, 0, 0, 2));
    assert_eq!(store.append(&[second, other.clone()]).await.unwrap(), [first.slot]);
    assert_eq!(store.read(first.slot, 0, 9).await.unwrap(), [first]);
    assert_eq!(store.read(other.slot, 0, 9).await.unwrap(), [other]);
}

/// The first chunks of a log in `slot`, appended already.
async fn chunks<S: LogStore>(
    random: &mut fastrand::Rng,
    store: &S,
    slot: u8,
    count: u64,
) -> (Vec<Entry>, Vec<Chunk>) {
    let mut partition = Partition::restore(Slot::new(slot).unwrap(), Checkpoint::default());
    let (mut entries, mut chunks) = (Vec::new(), Vec::new());
    for number in 0..count * CHUNK_ENTRIES {
        let entry = entry(random, slot, number, number * 3, 3);
        store.append(std::slice::from_ref(&entry)).await.unwrap();
        chunks.extend(partition.apply(&entry).unwrap());
        entries.push(entry);
    }
    (entries, chunks)
}

async fn count<S: LogStore>(store: &S, range: std::ops::Range<u64>) -> Counts {
    let plan = Plan::new(range);
    total(&plan, &store.view(&plan).await.unwrap())
}

async fn a_chunk_counts_once_however_often_it_is_applied<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let (entries, chunks) = chunks(&mut random, fixture.store(), 9, 2).await;
    let everything = 0..4_000_000_000;
    let expected = brute_force(entries.iter().flat_map(|entry| &entry.records), &everything);
    let store = fixture.store();
    assert_eq!(count(store, everything.clone()).await, expected, "from the tail");
    store.apply(&chunks[..1]).await.unwrap();
    assert_eq!(count(store, everything.clone()).await, expected, "half rolled up");
    store.apply(&chunks).await.unwrap();
    store.apply(&chunks[..1]).await.unwrap();
    assert_eq!(count(store, everything.clone()).await, expected, "rolled up twice");
    let fixture = fixture.reopened().await;
    assert_eq!(count(fixture.store(), everything).await, expected, "after a restart");
}

async fn a_chunk_beyond_the_checkpoint_is_refused<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let (entries, chunks) = chunks(&mut random, fixture.store(), 9, 2).await;
    let refused = fixture.store().apply(&chunks[1..]).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    let expected = brute_force(entries.iter().flat_map(|entry| &entry.records), &(0..4_000_000_000));
    assert_eq!(count(fixture.store(), 0..4_000_000_000).await, expected);
}

async fn a_checkpoint_brings_the_partition_back<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let (entries, chunks) = chunks(&mut random, fixture.store(), 9, 1).await;
    let slot = entries[0].slot;
    assert_eq!(fixture.store().checkpoint(slot).await.unwrap(), Checkpoint::default());
    fixture.store().apply(&chunks).await.unwrap();
    assert_eq!(
        fixture.store().read(slot, 0, usize::MAX).await.unwrap(),
        entries,
        "rolled up, and still there"
    );
    assert_eq!(fixture.store().read(slot, 10, 3).await.unwrap(), entries[10..13]);
    let checkpoint = fixture.store().checkpoint(slot).await.unwrap();
    assert_eq!(checkpoint, Checkpoint { windows: CHUNK_ENTRIES, rows: 0 });
    let mut partition = Partition::restore(slot, checkpoint);
    entries.iter().for_each(|entry| assert_eq!(partition.apply(entry).unwrap(), None, "rolled up already"));
    let last = entries.last().unwrap().records.last().unwrap();
    assert_eq!(partition.check(&last.device, last.id.unwrap()), Sighting::Counted);
}

/// Whatever of rows and windows was stored before the end, a restart comes to the same answers.
async fn a_restart_sees_what_the_log_holds_wherever_rows_and_windows_are<F: Fixture>() {
    let mut random = common::random();
    let mut fixture = Arc::new(F::fresh().await);
    let devices: Vec<_> = (0..40).map(common::device).collect();
    let mut sent = Vec::new();
    let mut next = vec![0_u64; devices.len()];
    for _ in 0..6 {
        let link = Arc::new(Link(fixture.clone()));
        let mut ingest = Ingest::open(link.clone()).await.unwrap();
        let verdicts = ingest.commit(&sent, UnixMs(0)).await.unwrap();
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Duplicate), "{verdicts:?}");
        for _ in 0..random.usize(1..120) {
            let device = random.usize(..devices.len());
            let records: Vec<_> = (0..random.u64(1..4))
                .map(|more| record(&mut random, devices[device], next[device] + more))
                .collect();
            next[device] += records.len() as u64;
            ingest.commit(&records, UnixMs(0)).await.unwrap();
            sent.extend(records);
            match random.u8(..10) {
                0..6 => ingest.roll().await.unwrap(),
                6..8 => ingest.write_all_rows().await.unwrap(),
                _ => {}
            }
        }
        drop((ingest, link));
        let Ok(alone) = Arc::try_unwrap(fixture) else { panic!("the store is in use") };
        fixture = Arc::new(alone.reopened().await);
    }
    assert_eq!(count(fixture.store(), 0..4_000_000_000).await, brute_force(&sent, &(0..4_000_000_000)));
}

/// A store as an ingest can share it.
struct Link<F>(Arc<F>);

impl<F: Fixture> LogStore for Link<F> {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        self.0.store().append(entries).await
    }

    delegate_reads!(self => self.0.store());
}

async fn counts_agree_with_the_oracle_whatever_is_rolled_up<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let mut records = Vec::new();
    for slot in [2, 11] {
        let (entries, chunks) = chunks(&mut random, fixture.store(), slot, 2).await;
        fixture.store().apply(&chunks[..usize::from(slot == 2)]).await.unwrap();
        records.extend(entries.into_iter().flat_map(|entry| entry.records));
    }
    for _ in 0..300 {
        let range = range(&mut random);
        assert_eq!(count(fixture.store(), range.clone()).await, brute_force(&records, &range), "{range:?}");
        // As long as a range has at most a few thousand of them.
        let step = random.choice([1, 7, 60, 90, 300, 3_600, 7_200, 86_400]).unwrap();
        let step = step.max((range.end - range.start) / 2_000 / 60 * 60);
        let plan = Plan::stepwise(range.clone(), step);
        let found = series(&plan, &fixture.store().view(&plan).await.unwrap());
        let parts = (plan.first()..range.end).step_by(usize::try_from(step).unwrap());
        let parts = parts.filter(|_| !range.is_empty());
        let expected =
            parts.map(|at| brute_force(&records, &(at.max(range.start)..range.end.min(at + step))));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{range:?} by {step} s");
    }
}

/// A network that plays tricks between the ingest and a store that works.
struct Faulty<F>(Arc<F>, Mutex<fastrand::Rng>);

impl<F: Fixture> LogStore for Faulty<F> {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        let store = self.0.store();
        let trick = self.1.lock().unwrap().u8(..4);
        match trick {
            0 => Err(StoreError::Unavailable("the request was lost".into())),
            1 => {
                store.append(entries).await?;
                Err(StoreError::Unavailable("the reply was lost".into()))
            }
            // As a driver does that repeats a request whose reply it missed: all numbers are taken, by itself.
            2 => {
                store.append(entries).await?;
                store.append(entries).await
            }
            _ => store.append(entries).await,
        }
    }

    delegate_reads!(self => self.0.store());
}

async fn ingest_logs_each_record_once_through_lost_replies_repeats_and_a_jumping_clock<F: Fixture>() {
    let mut random = common::random();
    let fixture = Arc::new(F::fresh().await);
    let mut sent = Vec::new();
    // Two lives of the ingest, the second over what the first left.
    for life in 0..2 {
        let faulty = Arc::new(Faulty(fixture.clone(), Mutex::new(random.fork())));
        let mut ingest = Ingest::open(faulty).await.unwrap();
        for flush in life * 100..(life + 1) * 100 {
            let records: Vec<_> =
                (0..3).map(|number| record(&mut random, device_of(number), flush)).collect();
            sent.extend(records.clone());
            loop {
                let now = UnixMs(common::START_S * 1000 + random.u64(..10_000_000));
                match ingest.commit(&records, now).await {
                    Ok(_) => break,
                    Err(_) => ingest.catch_up().await.unwrap(),
                }
            }
            ingest.roll().await.unwrap();
        }
    }
    assert_eq!(count(fixture.store(), 0..4_000_000_000).await, brute_force(&sent, &(0..4_000_000_000)));
    for number in 0..3 {
        let device = device_of(number);
        let entries = fixture.store().read(Slot::of(&device), 0, usize::MAX).await.unwrap();
        let logged: Vec<_> = entries.into_iter().flat_map(|entry| entry.records).collect();
        let expected: Vec<_> = sent.iter().filter(|record| record.device == device).copied().collect();
        assert_eq!(logged, expected, "each once, in order");
    }
}

#[test]
fn a_second_process_on_the_same_redb_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = RedbStore::open(directory.path()).unwrap();
    let error = RedbStore::open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("another process uses the data directory"), "{error}");
}

#[test]
fn a_redb_directory_that_cannot_be_made_is_named() {
    let error = RedbStore::open(Path::new("/dev/null/rollcall")).err().unwrap().to_string();
    assert!(error.contains("/dev/null/rollcall cannot be used"), "{error}");
}

#[test]
fn a_redb_file_of_another_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(RedbStore::open(directory.path()).unwrap());
    change_redb(directory.path(), |transaction| {
        transaction.open_table(REDB_META).unwrap().insert("format", 99).unwrap();
    });
    let error = RedbStore::open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("has format 99"), "{error}");
    assert_eq!(redb_format(directory.path()), 99);
}

const REDB_META: ::redb::TableDefinition<'_, &str, u64> = ::redb::TableDefinition::new("meta");

/// Changes a store that nobody uses, as another version would have left it.
fn change_redb(directory: &Path, change: impl FnOnce(&::redb::WriteTransaction)) {
    let database = ::redb::Database::open(directory.join("rollcall.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn redb_format(directory: &Path) -> u64 {
    use ::redb::ReadableDatabase;
    let database = ::redb::Database::open(directory.join("rollcall.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    transaction.open_table(REDB_META).unwrap().get("format").unwrap().unwrap().value()
}
