//! Windows and rows made anew from the log: stores of older formats, whatever a migration is cut off at. The same for
//! each kind of store, through the one door that a command uses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::future::{Future, poll_fn};
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::Poll;

#[cfg(feature = "mongodb")]
use common::mongod::{self, Server};
use common::{brute_force, device, older, record};
use redb::{ReadableDatabase, TableDefinition};
use rollcall_host::intake::{self, ingest::Ingest};
#[cfg(feature = "mongodb")]
use rollcall_host::log::mongo::MongoAddress;
use rollcall_host::log::plan::{Plan, total};
use rollcall_host::log::{AnyStore, LogStore, StoreAddress};
use rollcall_host::model::{Record, UnixMs, Verdict};
use rollcall_wire::Slot;
use tempfile::TempDir;

const FILE: &str = "rollcall.redb";

/// Where a store of one kind is, which is made older or damaged while nobody uses it.
trait Place: Sized {
    /// The formats that can be converted.
    const OLDER: [u64; 3];
    /// Can this machine run it? If not, the test is reported as skipped.
    fn available() -> bool {
        true
    }
    fn fresh() -> Self;
    fn address(&self) -> StoreAddress;
    /// Makes it one of an older format.
    fn age(&self, format: u64) -> impl Future<Output = ()>;
}

struct Redb(TempDir);

impl Place for Redb {
    const OLDER: [u64; 3] = [1, 2, 3];
    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn address(&self) -> StoreAddress {
        StoreAddress::Redb(self.0.path().into())
    }
    async fn age(&self, format: u64) {
        older::as_format(self.0.path(), format);
    }
}

#[cfg(feature = "mongodb")]
struct Mongo(MongoAddress, #[expect(dead_code, reason = "it is to live as long")] Arc<Server>);

#[cfg(feature = "mongodb")]
impl Mongo {
    async fn database(&self) -> mongodb::Database {
        let client = mongodb::Client::with_uri_str(self.0.to_string()).await.unwrap();
        client.default_database().unwrap()
    }
}

#[cfg(feature = "mongodb")]
impl Place for Mongo {
    const OLDER: [u64; 3] = [2, 3, 4];
    fn available() -> bool {
        mongod::available()
    }
    fn fresh() -> Self {
        let server = mongod::server();
        Self(server.fresh_database(), server)
    }
    fn address(&self) -> StoreAddress {
        StoreAddress::Mongo(self.0.clone())
    }
    async fn age(&self, format: u64) {
        older::as_mongo_format(&self.database().await, format.cast_signed()).await;
    }
}

macro_rules! each_place {
    ($($store:ident: $place:ty;)*) => {$(
        mod $store {
            use super::*;
            each_place!(@tests $place:
                an_older_store_is_refused_until_it_is_migrated_and_then_holds_the_same
                a_migration_that_is_cut_off_anywhere_goes_on_when_it_is_run_again
                a_store_of_todays_format_is_not_migrated
            );
        }
    )*};
    (@tests $place:ty: $($name:ident)*) => {$(
        #[test]
        fn $name() {
            if <$place as Place>::available() {
                super::$name::<$place>();
            }
        }
    )*};
}

each_place! {
    on_redb: Redb;
}

#[cfg(feature = "mongodb")]
each_place! {
    on_mongo: Mongo;
}

/// Does it in a runtime of its own; when this returns, nothing of it is under way any more.
fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// The future until it has waited so many times; `None` when it was cut off there.
async fn cut_off_after<T>(mut waits: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if waits == 0 => Poll::Ready(None),
        Poll::Pending => {
            waits -= 1;
            Poll::Pending
        }
    })
    .await
}

/// A store with 5,000 messages.
fn filled<P: Place>(random: &mut fastrand::Rng) -> (P, Vec<Record>) {
    let place = P::fresh();
    let records = run(async {
        let store = Arc::new(place.address().open().await.unwrap());
        common::fill(random, store).await
    });
    (place, records)
}

async fn migrate(address: &StoreAddress) -> anyhow::Result<bool> {
    let Some(older) = address.open_to_migrate().await? else { return Ok(false) };
    intake::rebuild(older).await?;
    Ok(true)
}

async fn refusal(address: &StoreAddress) -> String {
    address.open().await.err().expect("it was opened").to_string()
}

/// Counts as the oracle does, knows all of the records, and takes new ones.
async fn assert_holds(random: &mut fastrand::Rng, address: &StoreAddress, records: &[Record]) {
    let store = Arc::new(address.open().await.unwrap());
    assert_counts(random, &store, records).await;
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let verdicts = ingest.commit(records, UnixMs(0)).await.unwrap();
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Duplicate));
    let next: Vec<_> = (0..50).map(|number| record(random, device(number), 100)).collect();
    assert_eq!(ingest.commit(&next, UnixMs(0)).await.unwrap(), vec![Verdict::Accepted; 50]);
    let all: Vec<_> = records.iter().chain(&next).copied().collect();
    assert_counts(random, &store, &all).await;
}

async fn assert_counts(random: &mut fastrand::Rng, store: &AnyStore, records: &[Record]) {
    let ranges = (0..100).map(|_| common::range(random)).chain(iter::once(0..4_000_000_000));
    for range in ranges.collect::<Vec<_>>() {
        let plan = Plan::new(range.clone());
        let counted = total(&plan, &store.view(&plan).await.unwrap());
        assert_eq!(counted, brute_force(records, &range), "{range:?}");
    }
}

fn an_older_store_is_refused_until_it_is_migrated_and_then_holds_the_same<P: Place>() {
    let mut random = common::random();
    for format in P::OLDER {
        let (place, records) = filled::<P>(&mut random);
        let address = place.address();
        run(place.age(format));
        run(async {
            let refused = refusal(&address).await;
            assert!(refused.contains(&format!("older format {format}")), "{refused}");
            assert!(refused.contains("rollcall migrate"), "{refused}");
            assert!(migrate(&address).await.unwrap(), "nothing to convert");
            assert!(!migrate(&address).await.unwrap(), "it is converted");
            assert_holds(&mut random, &address, &records).await;
        });
    }
}

fn a_migration_that_is_cut_off_anywhere_goes_on_when_it_is_run_again<P: Place>() {
    let mut random = common::random();
    for format in P::OLDER {
        let (place, records) = filled::<P>(&mut random);
        let address = place.address();
        run(place.age(format));
        let (mut waits, mut begun, mut cuts) = (0, false, 0);
        while run(cut_off_after(waits, migrate(&address))).map(Result::unwrap).is_none() {
            let refused = run(refusal(&address));
            begun |= refused.contains("which was cut off");
            assert_eq!(refused.contains("older format"), !begun, "{refused}");
            assert!(refused.contains("rollcall migrate"), "{refused}");
            waits += 1 + waits / 8;
            cuts += 1;
        }
        assert!(begun && cuts > 10, "{cuts}");
        run(assert_holds(&mut random, &address, &records));
    }
}

fn a_store_of_todays_format_is_not_migrated<P: Place>() {
    let mut random = common::random();
    let place = P::fresh();
    assert!(!run(migrate(&place.address())).unwrap(), "there is none");
    let (place, records) = filled::<P>(&mut random);
    assert!(!run(migrate(&place.address())).unwrap());
    run(assert_holds(&mut random, &place.address(), &records));
}

type Chunks = Vec<((u64, u16), Vec<u8>)>;

/// The rows of a table of packed entries.
fn packed(directory: &Path, table: &'static str) -> Chunks {
    let database = redb::Database::open(directory.join(FILE)).unwrap();
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(TableDefinition::<(u64, u16), &[u8]>::new(table)).unwrap();
    let rows = table.range::<(u64, u16)>(..).unwrap();
    rows.map(|row| row.unwrap()).map(|(key, value)| (key.value(), value.value().to_vec())).collect()
}

#[test]
fn packed_entries_stay_as_they_are_when_what_is_made_from_them_is_made_anew() {
    let mut random = common::random();
    for (format, table) in [(2, "packed"), (3, "chunks")] {
        let (place, _) = filled::<Redb>(&mut random);
        older::as_format(place.0.path(), format);
        let before = packed(place.0.path(), table);
        assert!(!before.is_empty());
        run(migrate(&place.address())).unwrap();
        assert_eq!(packed(place.0.path(), table), before);
        assert_eq!(packed(place.0.path(), "chunks").len(), if format == 3 { before.len() } else { 0 });
    }
}

/// The version that wrote a store goes on with it: one more entry in the log of a slot.
fn older_version_appends(directory: &Path) -> (Slot, u64) {
    use redb::ReadableTable;
    let mut appended = 0;
    older::change(directory, |transaction| {
        let mut entries = transaction.open_table(TableDefinition::<u64, &[u8]>::new("entries")).unwrap();
        let (last, bytes) = {
            let (key, bytes) = entries.last().unwrap().unwrap();
            (key.value(), bytes.value().to_vec())
        };
        appended = last + 1;
        entries.insert(appended, bytes.as_slice()).unwrap();
    });
    (Slot::new((appended >> 40) as u8).unwrap(), appended % (1 << 40))
}

#[test]
fn what_the_older_version_stored_after_a_migration_was_cut_off_is_there_after_the_next() {
    let mut random = common::random();
    let (place, _) = filled::<Redb>(&mut random);
    let address = place.address();
    older::as_format(place.0.path(), 2);
    drop(run(address.open_to_migrate()).unwrap().unwrap());
    // What a migration to format 3 left, which rolled up and packed what it had copied.
    older::change(place.0.path(), |transaction| {
        let mut chunks = transaction.open_table(TableDefinition::<(u64, u16), &[u8]>::new("chunks")).unwrap();
        chunks.insert((64, 0), &b"of a copy that is thrown away"[..]).unwrap();
        let mut copied =
            transaction.open_table(TableDefinition::<u8, (u64, u64)>::new("migration_copied")).unwrap();
        copied.insert(0, (64, 100)).unwrap();
    });
    let (slot, number) = older_version_appends(place.0.path());
    run(async {
        assert!(migrate(&address).await.unwrap());
        let entries = address.open().await.unwrap().read(slot, 0, usize::MAX).await.unwrap();
        assert_eq!(entries.last().unwrap().number, number);
    });
}

/// Kills a migration as soon as its log has this line; false when it had ended before.
fn killed_at(directory: &Path, line: &str) -> bool {
    let mut process = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .args(["migrate", "--store", &format!("redb:{}", directory.display())])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let found = log.any(|logged| logged.unwrap().contains(line));
    process.kill().unwrap();
    let status = process.wait().unwrap();
    assert!(found || status.success(), "{status}");
    found
}

#[test]
fn a_migration_that_is_killed_goes_on_when_it_is_run_again() {
    let mut random = common::random();
    let (place, records) = filled::<Redb>(&mut random);
    older::as_format(place.0.path(), 3);
    assert!(killed_at(place.0.path(), "looking whether the log is whole"));
    assert!(killed_at(place.0.path(), "making windows and rows anew"));
    assert!(!killed_at(place.0.path(), "never said"));
    run(assert_holds(&mut random, &place.address(), &records));
}
