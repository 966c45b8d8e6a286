//! Where a store of one kind is, for tests that are the same for each: they open it through the one door that commands
//! use, and change it while nobody has it open.

#![allow(unused_macros, unused_imports, reason = "each test binary uses its own part")]

use std::future::{Future, poll_fn};
use std::iter;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use rollcall_host::intake::{self, ingest::Ingest};
use rollcall_host::log::devices;
use rollcall_host::log::plan::{Plan, total};
use rollcall_host::log::{AnyStore, LogStore, Migration, RebuildError, StoreAddress};
use rollcall_host::model::{Record, UnixMs, Verdict};
use rollcall_wire::codec::Rejection;
use rollcall_wire::{BootId, SampleId, Sequence};
use tempfile::TempDir;

use super::damage::{self, Damage};
#[cfg(feature = "mongodb")]
use super::mongod::{self, Server};
use super::{SPAN_S, START_S, brute_force, device, older, record};
#[cfg(feature = "mongodb")]
use rollcall_host::log::mongo::MongoAddress;

/// See the module.
pub(crate) trait Place: Sized {
    /// The formats that can be converted.
    const OLDER: &[u64];
    /// Those after them, of which nothing is made anew; that of a store with removed messages is one more each.
    const ONLY_RENUMBERED: &[u64];
    /// What is made from the log, by its tables or collections.
    const MADE: &[&str];
    /// What may happen to each of them.
    const DAMAGES: &[Damage];
    /// Can this machine run it? If not, the test is reported as skipped.
    fn available() -> bool {
        true
    }
    fn fresh() -> Self;
    fn address(&self) -> StoreAddress;
    /// Makes it one of an older format.
    fn age(&self, format: u64) -> impl Future<Output = ()>;
    /// Damages something that is made from the log.
    fn damage(&self, random: &mut fastrand::Rng, made: &str, damage: Damage) -> impl Future<Output = ()>;
}

pub(crate) struct Redb(TempDir);

impl Redb {
    pub(crate) fn directory(&self) -> &Path {
        self.0.path()
    }
}

impl Place for Redb {
    const OLDER: &[u64] = &[1, 2, 3, 4, 5];
    const ONLY_RENUMBERED: &[u64] = &[6, 8];
    const MADE: &[&str] = &[
        "progress",
        "devices",
        "closed_boots",
        "device_hours",
        "window_minutes",
        "window_hours",
        "window_days",
    ];
    const DAMAGES: &[Damage] = &[Damage::Changed, Damage::OneGone, Damage::AllGone, Damage::TableGone];
    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn address(&self) -> StoreAddress {
        StoreAddress::Redb(self.0.path().into())
    }
    async fn age(&self, format: u64) {
        older::as_format(self.0.path(), format);
    }
    async fn damage(&self, random: &mut fastrand::Rng, made: &str, damage: Damage) {
        damage::redb(random, self.0.path(), made, damage);
    }
}

#[cfg(feature = "mongodb")]
pub(crate) struct Mongo(MongoAddress, #[expect(dead_code, reason = "it is to live as long")] Arc<Server>);

#[cfg(feature = "mongodb")]
impl Mongo {
    pub(crate) async fn database(&self) -> mongodb::Database {
        mongod::database(&self.0).await
    }
}

#[cfg(feature = "mongodb")]
impl Place for Mongo {
    const OLDER: &[u64] = &[2, 3, 4, 5, 6];
    const ONLY_RENUMBERED: &[u64] = &[7, 9, 11, 13];
    const MADE: &[&str] =
        &["checkpoints", "devices", "device_rows", "device_hours", "minutes", "hours", "days"];
    // A collection that has no document is as good as none.
    const DAMAGES: &[Damage] = &[Damage::Changed, Damage::OneGone, Damage::AllGone];
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
        older::mongo::as_format(&self.database().await, format.cast_signed()).await;
    }
    async fn damage(&self, random: &mut fastrand::Rng, made: &str, damage: Damage) {
        damage::mongo(random, &self.database().await, made, damage).await;
    }
}

/// The tests that are named, of each kind of store.
macro_rules! on_each_place {
    ($($name:ident)*) => {
        mod on_redb {
            $(#[test]
            fn $name() {
                super::$name::<$crate::common::place::Redb>();
            })*
        }
        #[cfg(feature = "mongodb")]
        mod on_mongo {
            use $crate::common::place::{Mongo, Place};
            $(#[test]
            fn $name() {
                if Mongo::available() {
                    super::$name::<Mongo>();
                }
            })*
        }
    };
}
pub(crate) use on_each_place;

/// Does it in a runtime of its own; when this returns, nothing of it is under way any more.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// The future until it has waited so many times; `None` when it was cut off there.
pub(crate) async fn cut_off_after<T>(mut waits: usize, work: impl Future<Output = T>) -> Option<T> {
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

/// A store with 5,000 messages and more: one device has so many boots that some are closed.
pub(crate) fn filled<P: Place>(random: &mut fastrand::Rng) -> (P, Vec<Record>) {
    let place = P::fresh();
    let records = run(async {
        let store = Arc::new(place.address().open().await.unwrap());
        let mut records = super::fill(random, store.clone()).await;
        let mut ingest = Ingest::open(store).await.unwrap();
        for boot in 0..20 {
            let id = Some(SampleId { boot: BootId(boot), seq: Sequence::ZERO });
            let record = Record { id, ..record(random, device(99), 0) };
            ingest.commit(&[record], UnixMs((START_S + SPAN_S) * 1000)).await.unwrap();
            records.push(record);
        }
        ingest.write_all_rows().await.unwrap();
        records
    });
    (place, records)
}

pub(crate) async fn migrate(address: &StoreAddress) -> anyhow::Result<bool> {
    match address.open_to_migrate().await? {
        Migration::Nothing => return Ok(false),
        Migration::Done => {}
        Migration::Rebuild(older) => intake::rebuild(older).await?,
    }
    Ok(true)
}

pub(crate) async fn repair(address: &StoreAddress) -> Result<(), RebuildError> {
    intake::rebuild(address.open_to_repair().await.unwrap()).await
}

/// Why it cannot be opened.
pub(crate) async fn refusal(address: &StoreAddress) -> String {
    address.open().await.err().expect("it was opened").to_string()
}

/// Counts as the oracle does, knows all of the records, and takes new ones.
pub(crate) async fn assert_holds(random: &mut fastrand::Rng, address: &StoreAddress, records: &[Record]) {
    let store = Arc::new(address.open().await.unwrap());
    assert_counts(random, &store, records).await;
    assert_known(store.clone(), records).await;
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let next: Vec<_> = (0..50).map(|number| record(random, device(number), 100)).collect();
    assert_eq!(ingest.commit(&next, UnixMs(0)).await.unwrap(), vec![Verdict::Accepted; 50]);
    let all: Vec<_> = records.iter().chain(&next).copied().collect();
    assert_counts(random, &store, &all).await;
}

pub(crate) async fn assert_counts(random: &mut fastrand::Rng, store: &AnyStore, records: &[Record]) {
    let ranges = (0..100).map(|_| super::range(random)).chain(iter::once(0..4_000_000_000));
    for range in ranges.collect::<Vec<_>>() {
        let plan = Plan::new(range.clone());
        let counted = total(&plan, &store.view(&plan).await.unwrap());
        assert_eq!(counted, brute_force(records, &range), "{range:?}");
    }
}

/// What is wrong with the counts of devices. Their rows are written.
pub(crate) async fn fault_of_devices(store: &AnyStore, records: &[Record]) -> Option<String> {
    let minutes = (START_S / 60) as u32..((START_S + SPAN_S) / 60 + 1) as u32;
    let seconds = u64::from(minutes.start) * 60..u64::from(minutes.end) * 60;
    for device in (0..100).map(device) {
        let expected = brute_force(records.iter().filter(|record| record.device == device), &seconds);
        let read = devices::read(store, &[device], &minutes, UnixMs(0)).await;
        match read.and_then(|read| read.value[0].counts(&minutes)) {
            Ok(counts) if counts == expected => {}
            Ok(counts) => return Some(format!("{counts:?} of device {device}, and not {expected:?}")),
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

/// None of the records is taken again: they are counted, or of boots that are closed.
pub(crate) async fn assert_known(store: Arc<AnyStore>, records: &[Record]) {
    let mut ingest = Ingest::open(store).await.unwrap();
    let verdicts = ingest.commit(records, UnixMs(0)).await.unwrap();
    let count = |of| verdicts.iter().filter(|verdict| **verdict == of).count();
    let closed = count(Verdict::Rejected(Rejection::CannotTell));
    assert_eq!((count(Verdict::Duplicate), closed), (records.len() - 4, 4));
}
