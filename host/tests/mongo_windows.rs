//! Windows in MongoDB: the minutes that hours have are as good as those that stand alone, whoever wrote the hours.

#![cfg(feature = "mongodb")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Range;
use std::sync::Arc;

use common::place::cut_off_after;
use common::{START_S, brute_force, entry, mongod};
use mongodb::bson::{Bson, Document, doc};
use rollcall_host::intake::partition::Partition;
use rollcall_host::intake::recount;
use rollcall_host::log::mongo::MongoStore;
use rollcall_host::log::plan::{Plan, series, total};
use rollcall_host::log::rollup::{CHUNK_ENTRIES, Chunk};
use rollcall_host::log::{Checkpoint, LogStore, StoreError};
use rollcall_host::model::{Record, UnixMs};
use rollcall_wire::Slot;
use tokio::sync::mpsc;

/// Samples lie in some hours, so that a minute has several.
const SPAN_S: u64 = 4 * 3600;

const SLOTS: [u8; 2] = [2, 11];
const CHUNKS: u64 = 3;

struct Filled {
    store: Arc<MongoStore>,
    database: mongodb::Database,
    records: Vec<Record>,
    /// Slot by slot, and each slot's in order.
    chunks: Vec<Chunk>,
    _server: Arc<mongod::Server>,
}

/// Entries that are not rolled up yet; `None` where no mongod can run.
async fn filled(random: &mut fastrand::Rng) -> Option<Filled> {
    if !mongod::available() {
        return None;
    }
    let server = mongod::server();
    let address = server.fresh_database();
    let store = Arc::new(MongoStore::open(&address).await.unwrap());
    let database = mongod::database(&address).await;
    let (mut records, mut chunks) = (Vec::new(), Vec::new());
    for slot in SLOTS {
        let mut partition = Partition::restore(Slot::new(slot).unwrap(), Checkpoint::default());
        for number in 0..CHUNKS * CHUNK_ENTRIES {
            let mut entry = entry(random, slot, number, number * 6, 6);
            for record in &mut entry.records {
                record.sampled_at = UnixMs((START_S + random.u64(..SPAN_S)) * 1000);
            }
            store.append(std::slice::from_ref(&entry)).await.unwrap();
            chunks.extend(partition.apply(&entry).unwrap());
            records.extend(entry.records);
        }
    }
    assert_eq!(chunks.len() as u64, SLOTS.len() as u64 * CHUNKS);
    Some(Filled { store, database, records, chunks, _server: server })
}

impl Filled {
    fn hours(&self) -> mongodb::Collection<Document> {
        self.database.collection("hours")
    }

    async fn hour(&self, nth: u64) -> Document {
        self.hours().find_one(doc! {}).sort(doc! { "_id": 1 }).skip(nth).await.unwrap().unwrap()
    }

    async fn change(&self, hour: &Document, update: Document) {
        let one = doc! { "_id": hour.get_i64("_id").unwrap() };
        assert_eq!(self.hours().update_one(one, update).await.unwrap().modified_count, 1);
    }

    /// All of it by minute, and some sums with minutes at their ends.
    async fn assert_answers(&self, random: &mut fastrand::Rng) {
        assert_series(&self.store, &self.records, START_S - 77..START_S + SPAN_S + 77, 60).await;
        let (a, b) = (random.u64(..SPAN_S), random.u64(..SPAN_S));
        let range = START_S + a.min(b)..START_S + a.max(b);
        let plan = Plan::new(range.clone());
        let found = total(&plan, &self.store.view(&plan).await.unwrap());
        assert_eq!(found, brute_force(&self.records, &range), "{range:?}");
        assert_series(&self.store, &self.records, range, random.choice([120, 420, 900]).unwrap()).await;
    }

    async fn wrong(&self) -> Vec<String> {
        let (sender, reports) = mpsc::channel(1000);
        self.store.checks(recount, sender).await;
        common::failures(reports).await
    }
}

async fn assert_series(store: &MongoStore, records: &[Record], range: Range<u64>, step: u64) {
    let plan = Plan::stepwise(range.clone(), step);
    let found = series(&plan, &store.view(&plan).await.unwrap());
    for (at, found) in (plan.first()..range.end).step_by(step as usize).zip(found) {
        let part = at.max(range.start)..range.end.min(at + step);
        assert_eq!(found, brute_force(records, &part), "{part:?} of {range:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_by_minute_are_right_whatever_an_earlier_version_wrote_and_wherever_a_rollup_is_cut_off() {
    let mut random = common::random();
    let Some(filled) = filled(&mut random).await else { return };
    filled.assert_answers(&mut random).await;
    for chunk in &filled.chunks {
        let mut waits = 0;
        while cut_off_after(waits, filled.store.apply(std::slice::from_ref(chunk))).await.is_none() {
            waits += 1 + random.usize(..3);
            filled.assert_answers(&mut random).await;
        }
        filled.assert_answers(&mut random).await;
        // So an hour stands there that an earlier version has begun, or has gone on with.
        let hour = filled.hour(random.u64(..4)).await;
        let minutes = hour.get_document("minutes").unwrap();
        let minute = random.choice(minutes.keys().collect::<Vec<_>>()).unwrap();
        let gone = if random.bool() { "minutes".to_owned() } else { format!("minutes.{minute}") };
        filled.change(&hour, doc! { "$unset": { gone: "" } }).await;
        filled.assert_answers(&mut random).await;
    }
    assert_eq!(filled.wrong().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_by_minute_are_right_while_chunks_are_rolled_up() {
    let mut random = common::random();
    let Some(filled) = filled(&mut random).await else { return };
    let rollup = tokio::spawn({
        let (store, chunks) = (filled.store.clone(), filled.chunks.clone());
        async move {
            for chunk in chunks {
                store.apply(&[chunk]).await.unwrap();
            }
        }
    });
    let mut asked = 0;
    while !rollup.is_finished() {
        filled.assert_answers(&mut random).await;
        asked += 1;
    }
    rollup.await.unwrap();
    filled.assert_answers(&mut random).await;
    assert!(asked > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn minutes_of_an_hour_that_do_not_add_up_are_not_believed_and_what_is_none_is_named() {
    let mut random = common::random();
    let Some(filled) = filled(&mut random).await else { return };
    filled.store.apply(&filled.chunks).await.unwrap();
    let hour = filled.hour(0).await;
    filled.change(&hour, doc! { "$inc": { "minutes.7.3": 1_i64 } }).await;
    filled.assert_answers(&mut random).await;
    filled.change(&hour, doc! { "$set": { "minutes.7.what": 1_i64 } }).await;
    let start = hour.get_i64("_id").unwrap();
    let plan = Plan::stepwise(START_S..START_S + SPAN_S, 60);
    let refused = filled.store.view(&plan).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Corrupt(what) if *what == format!("hours {start}")), "{refused}");
    assert!(filled.wrong().await.iter().any(|wrong| wrong.contains(&format!("hours {start}"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_a_minute_that_an_hour_has_otherwise_than_the_log() {
    let mut random = common::random();
    let Some(filled) = filled(&mut random).await else { return };
    filled.store.apply(&filled.chunks).await.unwrap();
    assert_eq!(filled.wrong().await, Vec::<String>::new());
    let hour = filled.hour(0).await;
    // All that one minute has is in another one: the sum is the same.
    let minutes = hour.get_document("minutes").unwrap();
    let (minute, counts) = minutes.iter().next().unwrap();
    let mut moved = minutes.clone();
    moved.remove(minute);
    let free = (0..60).find(|minute: &i32| !minutes.contains_key(minute.to_string())).unwrap();
    moved.insert(free.to_string(), counts.clone());
    filled.change(&hour, doc! { "$set": { "minutes": Bson::from(moved) } }).await;
    let at = UnixMs((hour.get_i64("_id").unwrap() as u64 + minute.parse::<u64>().unwrap() * 60) * 1000);
    let named = format!("the minute at {}, in its hour", at.to_rfc3339());
    let wrong = filled.wrong().await;
    assert!(wrong.iter().any(|wrong| wrong.contains(&named)), "{named}: {wrong:?}");
}
