//! What a real MongoDB's errors become on their way to people.

#![cfg(feature = "mongodb")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::mongod;
use rollcall_host::log::mongo::{MongoAddress, MongoStore};
use rollcall_host::log::plan::Plan;
use rollcall_host::log::{LogStore, StoreError};
use rollcall_wire::Slot;

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
