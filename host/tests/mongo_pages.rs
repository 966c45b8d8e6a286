//! Rows of devices in MongoDB, whose pages several processes write and split at once.

#![cfg(feature = "mongodb")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::place::cut_off_after;
use common::{device, mongod};
use futures_util::future::{Either, ready};
use mongodb::bson::{Document, doc};
use rollcall_host::log::devices::{self, AsOf};
use rollcall_host::log::mongo::{MongoAddress, MongoStore};
use rollcall_host::log::row::Row;
use rollcall_host::log::{LogStore, RowWrite, StoreError};
use rollcall_host::model::{Entry, Record, UnixMs, WriterId};
use rollcall_wire::{DeviceId, Slot};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

const DEVICES: u64 = 300;
const ROUNDS: u64 = 40;

/// After so many entries a device closes another boot.
const CLOSES: u64 = 30;

/// A row is a function of the log: of how far it is.
fn row(number: u64, upto: u64, closed: bool) -> Row {
    let mut random = fastrand::Rng::with_seed(number << 32 | upto);
    let length = if random.u8(..40) == 0 { random.usize(..40_000) } else { random.usize(10..300) };
    let state = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
    let closed = closed.then(|| vec![(upto / CLOSES) as u8]);
    Row { device: device(number), upto, state, sealed: Vec::new(), closed }
}

fn slot() -> Slot {
    Slot::new(3).unwrap()
}

/// The numbers of devices that belong to the slot.
fn numbers(count: u64) -> impl Iterator<Item = u64> {
    (0..).filter(|number| Slot::of(&device(*number)) == slot()).take(count as usize)
}

async fn write(store: &MongoStore, rows: &[Row]) {
    store.write_rows(&[RowWrite { slot: slot(), rows: rows.to_vec(), checkpoint: None }]).await.unwrap();
}

/// What was written of a device: how far it is in any case, and how far it may be.
#[derive(Default)]
struct Written {
    certain: u64,
    possible: BTreeSet<u64>,
}

async fn holds(store: &MongoStore, written: &BTreeMap<DeviceId, (u64, Written)>, limit: usize) {
    let rows = all_are_whole(store, written, limit).await;
    let listed = read_in_one_order(store, limit.max(LISTED)).await;
    assert!(
        listed.iter().map(|row| (row.device, row.upto)).eq(rows.iter().map(|row| (row.device, row.upto)))
    );
    let devices: Vec<_> = rows.iter().map(|row| row.device).collect();
    for (device, (_, written)) in written {
        assert!(written.certain == 0 || devices.binary_search(device).is_ok(), "{device} is gone");
    }
    for row in rows {
        let (_, written) = &written[&row.device];
        assert!(
            row.upto >= written.certain && written.possible.contains(&row.upto),
            "{}: {}",
            row.device,
            row.upto
        );
    }
}

/// All rows, read `limit` at a time.
async fn read(store: &MongoStore, limit: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let after = rows.last().map(|row: &Row| row.device);
        let some = store.rows(slot(), after, limit).await.unwrap();
        let read = some.len();
        rows.extend(some);
        if read < limit {
            return rows;
        }
    }
}

/// A list is read at least so many at a time: each time, all slots are asked.
const LISTED: usize = 70;

/// All rows of all slots, of which only one has some.
async fn read_in_one_order(store: &MongoStore, limit: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let after = rows.last().map(|row: &Row| row.device);
        let some = store.first_rows(after, limit).await.unwrap();
        let read = some.len();
        rows.extend(some);
        if read < limit {
            return rows;
        }
    }
}

/// Reads all rows, `limit` at a time; each is one that was written, with its closed boots.
async fn all_are_whole(
    store: &MongoStore,
    written: &BTreeMap<DeviceId, (u64, Written)>,
    limit: usize,
) -> Vec<Row> {
    let rows = read(store, limit).await;
    assert!(rows.is_sorted_by(|one, other| one.device < other.device), "not in order");
    for row in &rows {
        let (number, _) = &written[&row.device];
        assert_eq!(*row, self::row(*number, row.upto, row.upto >= CLOSES), "of {}", row.device);
    }
    let listed = read_in_one_order(store, limit.max(LISTED)).await;
    assert!(listed.is_sorted_by(|one, other| one.device < other.device), "not in order");
    for row in listed {
        let (number, _) = &written[&row.device];
        assert_eq!(Row { closed: None, ..row }, self::row(*number, row.upto, false), "of {}", row.device);
    }
    rows
}

#[tokio::test]
async fn whoever_writes_pages_at_once_and_wherever_a_write_is_cut_off_each_row_is_as_far_as_was_said() {
    if !mongod::available() {
        return;
    }
    let server = mongod::server();
    let address: MongoAddress = server.fresh_database();
    let mut random = common::random();
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(MongoStore::open(&address).await.unwrap());
    }
    let mut written: BTreeMap<_, _> =
        numbers(DEVICES).map(|number| (device(number), (number, Written::default()))).collect();
    for round in 1..=ROUNDS {
        let mut writes = Vec::new();
        for _ in 0..3 {
            let mut rows = Vec::new();
            let share = random.choice([0.03, 0.3, 0.9]).unwrap();
            for (number, written) in written.values_mut() {
                if random.f64() < share {
                    let upto = random.u64(1..=2 * round);
                    // Closed boots that are stored are those of `certain`.
                    let closed =
                        upto >= CLOSES && (upto / CLOSES != written.certain / CLOSES || random.u8(..8) == 0);
                    written.possible.insert(upto);
                    rows.push(row(*number, upto, closed));
                }
            }
            rows.sort_unstable_by_key(|row| row.device);
            let waits = if random.bool() { usize::MAX } else { random.usize(..12) };
            writes.push((rows, waits));
        }
        let one = async |place: usize| {
            cut_off_after(writes[place].1, write(&stores[place], &writes[place].0)).await
        };
        // Another process reads meanwhile, as one does that starts.
        let reader = &stores[3];
        let limit = random.usize(1..400);
        let done = tokio::join!(one(0), one(1), one(2), all_are_whole(reader, &written, limit));
        for ((rows, _), done) in writes.iter().zip([done.0, done.1, done.2]) {
            for row in rows.iter().filter(|_| done.is_some()) {
                let (_, written) = written.get_mut(&row.device).unwrap();
                written.certain = written.certain.max(row.upto);
            }
        }
        // One page at a time, and all of them.
        for limit in [40, usize::MAX] {
            holds(&stores[round as usize % 3], &written, limit).await;
        }
    }
    for store in [&stores[0], &MongoStore::open(&address).await.unwrap()] {
        holds(store, &written, usize::MAX).await;
        let devices: Vec<_> = written.keys().copied().collect();
        let views = store.devices(&devices, 0..0).await.unwrap();
        for (device, view) in devices.iter().zip(views) {
            let (number, written) = &written[device];
            if written.certain > 0 {
                let row = view.row.unwrap();
                assert_eq!(row, Row { closed: None, ..self::row(*number, row.upto, false) });
            }
        }
    }
}

#[tokio::test]
async fn what_a_page_has_split_off_is_read_where_it_stands_now() {
    if !mongod::available() {
        return;
    }
    let server = mongod::server();
    let address = server.fresh_database();
    let [early, store] =
        [MongoStore::open(&address).await.unwrap(), MongoStore::open(&address).await.unwrap()];
    assert_eq!(early.rows(slot(), None, 1).await.unwrap(), [], "and it knows of one page");
    let mut rows: Vec<_> = numbers(DEVICES).map(|number| row(number, 1, false)).collect();
    rows.sort_unstable_by_key(|row| row.device);
    write(&store, &rows).await;
    // As they are before a split is at its end, when its second page is there.
    let pages = mongod::database(&address).await.collection::<Document>("device_rows");
    let mut all = pages.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    let mut next = async || all.advance().await.unwrap().then(|| all.deserialize_current().unwrap()).unwrap();
    let (first, second) = (next().await, next().await);
    let part = |name| (name, second.get(name).unwrap().clone());
    let split: Document =
        ["_id", "end", "ids", "rows"].map(part).into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
    let id = doc! { "_id": first.get_str("_id").unwrap() };
    pages.update_one(id, doc! { "$set": { "split": [split] } }).await.unwrap();
    // And somebody goes on there.
    let end = first.get_str("end").unwrap();
    let moved = rows.iter_mut().find(|row| row.device.as_str() >= end).unwrap();
    *moved = Row { upto: 2, state: vec![2], ..moved.clone() };
    let moved = moved.clone();
    write(&store, std::slice::from_ref(&moved)).await;

    for store in [&early, &store] {
        assert_eq!(store.devices(&[moved.device], 0..0).await.unwrap()[0].row, Some(moved.clone()));
        for limit in [1, 40, usize::MAX] {
            assert!(read(store, limit).await == rows, "{limit} at a time");
            assert!(read_in_one_order(store, limit).await == rows, "{limit} at a time");
        }
    }
}

#[tokio::test]
async fn rows_that_are_very_long_are_written_some_at_a_time() {
    if !mongod::available() {
        return;
    }
    let server = mongod::server();
    let store = MongoStore::open(&server.fresh_database()).await.unwrap();
    let mut rows: Vec<_> = numbers(100).map(|number| row(number, 1, false)).collect();
    rows.sort_unstable_by_key(|row| row.device);
    write(&store, &rows).await;
    for row in &mut rows {
        *row = Row { upto: 2, state: vec![7; 400_000], ..row.clone() };
    }
    write(&store, &rows).await;
    assert!(store.rows(slot(), None, usize::MAX).await.unwrap() == rows);
}

#[tokio::test]
async fn a_page_that_ends_before_it_begins_is_said_to_be_damaged_at_once() {
    if !mongod::available() {
        return;
    }
    let server = mongod::server();
    let address = server.fresh_database();
    let store = MongoStore::open(&address).await.unwrap();
    let mut rows: Vec<_> = numbers(DEVICES).map(|number| row(number, 1, false)).collect();
    rows.sort_unstable_by_key(|row| row.device);
    write(&store, &rows).await;
    let pages = mongod::database(&address).await.collection::<Document>("device_rows");
    let mut ids = Vec::new();
    let mut found = pages.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    while found.advance().await.unwrap() {
        ids.push(found.current().get_str("_id").unwrap().to_owned());
    }
    assert!(ids.len() > 2, "there are {ids:?}");
    let (id, end) = (ids.last().unwrap(), ids[1].split_once('/').unwrap().1);
    pages.update_one(doc! { "_id": id }, doc! { "$set": { "end": end } }).await.unwrap();
    let errors = async {
        [
            store.rows(slot(), None, usize::MAX).await.unwrap_err(),
            store.first_rows(None, usize::MAX).await.unwrap_err(),
        ]
    };
    for error in tokio::time::timeout(Duration::from_secs(10), errors).await.unwrap() {
        println!("{error}");
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    }
}

/// So many devices, of which one has a message in each entry.
const TURNS: u64 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn rows_hold_all_that_was_acknowledged_before_the_instant_that_is_told_of_them() {
    if !mongod::available() {
        return;
    }
    let server = mongod::server();
    let address: MongoAddress = server.fresh_database();
    let writer = MongoStore::open(&address).await.unwrap();
    let reader = MongoStore::open(&address).await.unwrap();
    assert!(reader.known_rows().is_some());
    let mut random = common::random();
    let numbers: Vec<_> = numbers(TURNS).collect();
    // An entry's time is its number.
    let appended = Arc::new(AtomicU64::new(0));
    let (numbers_too, appended_too) = (numbers.clone(), appended.clone());
    let write = tokio::spawn(async move {
        let (numbers, appended) = (numbers_too, appended_too);
        let mut changed = BTreeMap::new();
        for number in 0..2_000 {
            let turn = numbers[(number % TURNS) as usize];
            let at = UnixMs(number);
            let records =
                vec![Record { received_at: at, ..common::record(&mut random, device(turn), number) }];
            let (slot, writer_id) = (slot(), WriterId(7));
            let entry = Entry { slot, number, writer: writer_id, received_at: at, log_time: at, records };
            assert_eq!(writer.append(&[entry]).await.unwrap(), []);
            appended.store(number + 1, Ordering::SeqCst);
            changed.insert(device(turn), row(turn, number + 1, false));
            if random.u8(..4) == 0 {
                let rows = std::mem::take(&mut changed).into_values().collect();
                let write = RowWrite { slot, rows, checkpoint: Some(number + 1) };
                writer.write_rows(&[write]).await.unwrap();
            }
        }
    });
    let (mut reads, mut told) = (0, BTreeSet::new());
    while !write.is_finished() {
        let now = UnixMs(appended.load(Ordering::SeqCst));
        let rows = || {
            let rows = reader.first_rows(None, 2 * TURNS as usize);
            // The earliest is before it is asked how far they are.
            if reads % 2 == 0 {
                Either::Left(ready(block_in_place(|| Handle::current().block_on(rows))))
            } else {
                Either::Right(rows)
            }
        };
        let AsOf { value, as_of } = devices::at(&reader, &[slot()], now, rows).await.unwrap();
        let upto: BTreeMap<_, _> = value.iter().map(|row| (row.device, row.upto)).collect();
        for number in as_of.0.saturating_sub(TURNS)..as_of.0 {
            let device = device(numbers[(number % TURNS) as usize]);
            assert!(upto.get(&device) > Some(&number), "entry {number} as of {}: {upto:?}", as_of.0);
        }
        reads += 1;
        told.insert(as_of);
    }
    write.await.unwrap();
    assert!(told.len() > 20, "{reads} reads as of {} instants", told.len());
}
