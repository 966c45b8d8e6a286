//! What every store promises, the same tests for each. A new store adds a [`Fixture`] and one line below.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[cfg(feature = "mongodb")]
use common::mongod::{self, Server};
use common::{brute_force, device_of, entry, range, record};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::partition::Partition;
#[cfg(feature = "mongodb")]
use rollcall_host::log::mongo::{MongoAddress, MongoStore};
use rollcall_host::log::plan::{Plan, View, total};
use rollcall_host::log::rollup::{CHUNK_ENTRIES, Chunk};
use rollcall_host::log::{Checkpoint, LogStore, MemoryStore, RedbStore, StoreError};
use rollcall_host::model::{Entry, UnixMs, Verdict};
use rollcall_wire::Slot;

/// A store of one kind, empty at first.
trait Fixture: Sized + Send + Sync + 'static {
    type Store: LogStore;
    /// Can this machine run it? If not, the test is reported as skipped.
    fn available() -> bool {
        true
    }
    fn fresh() -> impl Future<Output = Self> + Send;
    fn store(&self) -> &Self::Store;
    /// The same data, opened anew, as after a restart of the process.
    fn reopened(self) -> impl Future<Output = Self> + Send;
}

struct Memory(Arc<MemoryStore>);

impl Fixture for Memory {
    type Store = MemoryStore;
    async fn fresh() -> Self {
        Self(Arc::default())
    }
    fn store(&self) -> &MemoryStore {
        &self.0
    }
    async fn reopened(self) -> Self {
        self
    }
}

struct Redb(RedbStore, tempfile::TempDir);

impl Fixture for Redb {
    type Store = RedbStore;
    async fn fresh() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self(RedbStore::open(directory.path()).unwrap(), directory)
    }
    fn store(&self) -> &RedbStore {
        &self.0
    }
    async fn reopened(self) -> Self {
        let Self(store, directory) = self;
        drop(store);
        Self(RedbStore::open(directory.path()).unwrap(), directory)
    }
}

#[cfg(feature = "mongodb")]
struct Mongo(MongoStore, MongoAddress, Arc<Server>);

#[cfg(feature = "mongodb")]
impl Fixture for Mongo {
    type Store = MongoStore;
    fn available() -> bool {
        mongod::available()
    }
    async fn fresh() -> Self {
        let server = mongod::server();
        let address = server.fresh_database();
        Self(MongoStore::open(&address).await.unwrap(), address, server)
    }
    fn store(&self) -> &MongoStore {
        &self.0
    }
    async fn reopened(self) -> Self {
        let Self(_, address, server) = self;
        Self(MongoStore::open(&address).await.unwrap(), address, server)
    }
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
                counts_agree_with_the_oracle_whatever_is_rolled_up
                ingest_logs_each_record_once_through_lost_replies_repeats_and_a_jumping_clock
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
    let mut partition = Partition::restore(Slot::new(slot).unwrap(), &Checkpoint::default()).unwrap();
    let (mut entries, mut chunks) = (Vec::new(), Vec::new());
    for number in 0..count * CHUNK_ENTRIES {
        let entry = entry(random, slot, number, number * 3, 3);
        store.append(std::slice::from_ref(&entry)).await.unwrap();
        chunks.extend(partition.apply(&entry).unwrap());
        entries.push(entry);
    }
    (entries, chunks)
}

async fn count<S: LogStore>(store: &S, range: std::ops::Range<u64>) -> [u64; 7] {
    let plan = Plan::new(range);
    total(&plan, &store.view(&plan).await.unwrap()).0
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
    assert_eq!(checkpoint, Checkpoint { next: CHUNK_ENTRIES, dedupe: chunks[0].dedupe.clone() });
    let partition = Partition::restore(slot, &checkpoint).unwrap();
    let last = entries.last().unwrap().records.last().unwrap();
    assert_eq!(
        partition.check(&last.device, last.id.unwrap()),
        rollcall_host::intake::seen::Sighting::Counted
    );
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

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.0.store().read(slot, from, limit).await
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        self.0.store().checkpoint(slot).await
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        self.0.store().apply(chunks).await
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        self.0.store().view(plan).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.0.store().ping().await
    }
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

#[tokio::test]
async fn a_redb_file_of_the_older_format_is_taken_over_with_what_it_has_seen() {
    let mut random = common::random();
    let directory = tempfile::tempdir().unwrap();
    let records: Vec<_> = (0..2 * CHUNK_ENTRIES).map(|seq| record(&mut random, device_of(5), seq)).collect();
    {
        let store = Arc::new(RedbStore::open(directory.path()).unwrap());
        let mut ingest = Ingest::open(store).await.unwrap();
        for record in &records[..CHUNK_ENTRIES as usize] {
            ingest.commit(&[*record], UnixMs(0)).await.unwrap();
        }
        ingest.roll().await.unwrap();
    }
    // As it was: id, highest sequence, and a bit for each of the 64 below it; sequence 0 was not there yet.
    let state = vec![(device_of(5).to_string(), vec![(7_u64, CHUNK_ENTRIES - 1, u64::MAX >> 1)])];
    let state = postcard::to_allocvec(&state).unwrap();
    change_redb(directory.path(), |transaction| {
        let dedupe: ::redb::TableDefinition<'_, u8, &[u8]> = ::redb::TableDefinition::new("dedupe");
        transaction.open_table(dedupe).unwrap().insert(5, state.as_slice()).unwrap();
        transaction.open_table(REDB_META).unwrap().insert("format", 1).unwrap();
    });

    let store = Arc::new(RedbStore::open(directory.path()).unwrap());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let verdicts = ingest.commit(&records, UnixMs(0)).await.unwrap();
    for (seq, verdict) in (0..).zip(verdicts) {
        let expected = if seq < CHUNK_ENTRIES { Verdict::Duplicate } else { Verdict::Accepted };
        assert_eq!(verdict, expected, "{seq}");
    }
    drop((ingest, store));
    assert_eq!(redb_format(directory.path()), 2);
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
