//! What is MongoDB's alone: its errors on their way to people, runtimes, and messages as people find them in the database.

#![cfg(feature = "mongodb")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::mongod;
use mongodb::bson::{Bson, Document, doc};
use rollcall_host::log::mongo::{MongoAddress, MongoStore};
use rollcall_host::log::plan::Plan;
use rollcall_host::log::{LogStore, StoreError};
use rollcall_host::model::RecordKind;
use rollcall_wire::{BootId, SampleId, Slot};

fn assert_readable(said: &str) {
    let dumped = ['{', '}', '\n'].iter().any(|sign| said.contains(*sign));
    let raw = ["RawDocument", "labels", "Kind:", "secret"].iter().any(|word| said.contains(word));
    assert!(!dumped && !raw && said.len() < 400, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_server_that_dies_are_sentences_without_dumps() {
    if !mongod::available() {
        return;
    }
    let server = mongod::own_server();
    let url = server.mongod().url("words");
    let with_user = MongoAddress::new(&url.replace("mongodb://", "mongodb://me:secret@"));
    let error = MongoStore::open(&with_user).await.unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(error.to_string().contains("Authentication failed"), "{error}");
    assert_readable(&error.to_string());

    let quick = format!("{url}?serverSelectionTimeoutMS=500");
    let store = MongoStore::open(&MongoAddress::new(&quick)).await.unwrap();
    server.mongod().kill();
    let slot = Slot::new(0).unwrap();
    let errors = [
        store.ping().await.unwrap_err(),
        store.view(&Plan::new(0..60)).await.unwrap_err(),
        store.read(slot, 0, 1).await.unwrap_err(),
    ];
    for error in errors {
        println!("{error}");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert_readable(&error.to_string());
    }
}

#[test]
fn a_store_goes_on_when_the_runtime_has_ended_in_which_it_was_opened() {
    if !mongod::available() {
        return;
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = mongod::server();
    let address = server.fresh_database();
    let store = runtime().block_on(MongoStore::open(&address)).unwrap();
    // As an HTTP server would that is started anew again and again.
    for _ in 0..20 {
        let runtime = runtime();
        for _ in 0..2 {
            runtime.block_on(store.view(&Plan::new(0..60))).unwrap();
        }
    }
}

#[tokio::test]
async fn the_view_has_each_message_with_its_boot_also_where_an_earlier_version_wrote_it() {
    if !mongod::available() {
        return;
    }
    let server = mongod::server();
    let address = server.fresh_database();
    let store = MongoStore::open(&address).await.unwrap();
    let database = mongod::database(&address).await;
    let (messages, entries) = (database.collection::<Document>("messages"), database.collection("entries"));
    let mut random = common::random();
    let mut log = Vec::new();
    for number in 0..3 {
        let mut entry = common::entry(&mut random, 3, number, 10 * number, 5);
        for record in &mut entry.records {
            record.id = record.id.map(|id| SampleId { boot: BootId(random.u64(..)), ..id });
        }
        // Some without a boot, and an entry of which none has one.
        for record in entry.records.iter_mut().skip(if number == 1 { 0 } else { 3 }) {
            (record.id, record.kind) = (None, RecordKind::Sample);
        }
        log.push(entry);
    }
    assert_eq!(store.append(&log).await.unwrap(), []);
    // The first is as a version before wrote it, and so is the view.
    common::older::mongo::boots_in_messages(&database, 1).await;
    let older = doc! { "$replaceWith": { "$mergeObjects": [{ "_id": { "entry": "$_id", "index": "$index" } }, "$messages"] } };
    let unwind = doc! { "$unwind": { "path": "$messages", "includeArrayIndex": "index" } };
    let view = doc! { "collMod": "messages", "viewOn": "entries", "pipeline": [unwind, older] };
    database.run_command(view).await.unwrap();
    let first: Document = entries.find_one(doc! {}).sort(doc! { "_id": 1 }).await.unwrap().unwrap();
    assert!(!first.contains_key("boots"));

    let store = MongoStore::open(&address).await.unwrap();
    assert_eq!(store.read(log[0].slot, 0, 10).await.unwrap(), log);
    let mut found = messages.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    for record in log.iter().flat_map(|entry| &entry.records) {
        assert!(found.advance().await.unwrap());
        let message = found.deserialize_current().unwrap();
        let boot = record.id.map(|id| Bson::from(id.boot.to_string()));
        let seq = record.id.map(|id| Bson::from(id.seq.get().cast_signed()));
        assert_eq!(message.get_str("device").unwrap(), record.device.as_str());
        assert_eq!((message.get("boot").cloned(), message.get("seq").cloned()), (boot, seq), "{message}");
    }
    assert!(!found.advance().await.unwrap());

    // Boots that are not those of all messages are damage.
    let cut = vec![doc! { "$set": { "boots": { "$substrBytes": ["$boots", 0, 64] } } }];
    entries.update_one(doc! { "boots": { "$exists": true } }, cut).await.unwrap();
    let error = store.read(log[0].slot, 0, 10).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(place) if place == "entry 2 of slot 3"), "{error}");
}

#[tokio::test]
async fn a_collection_of_somebody_elses_that_is_called_messages_is_left_alone() {
    if !mongod::available() {
        return;
    }
    let server = mongod::server();
    let address = server.fresh_database();
    let theirs = mongod::database(&address).await.collection::<Document>("messages");
    theirs.insert_one(doc! { "status": 3 }).await.unwrap();
    for _ in 0..2 {
        MongoStore::open(&address).await.unwrap();
    }
    assert_eq!(theirs.count_documents(doc! {}).await.unwrap(), 1);
}
