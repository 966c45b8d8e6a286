//! Stores of older formats become ones of today's, wherever that is cut off.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::older;
use common::place::{
    Place, Redb, assert_holds, cut_off_after, fault_of_devices, filled, migrate, on_each_place, refusal, run,
};
use redb::{ReadableDatabase, TableDefinition};
use rollcall_host::log::LogStore;
use rollcall_wire::Slot;

const FILE: &str = "rollcall.redb";

on_each_place! {
    an_older_store_is_refused_until_it_is_migrated_and_then_holds_the_same
    a_migration_that_is_cut_off_anywhere_goes_on_when_it_is_run_again
    a_store_of_todays_format_is_not_migrated
}

fn an_older_store_is_refused_until_it_is_migrated_and_then_holds_the_same<P: Place>() {
    let mut random = common::random();
    for &format in P::OLDER.iter().chain(P::ONLY_RENUMBERED) {
        let (place, records) = filled::<P>(&mut random);
        let address = place.address();
        run(place.age(format));
        run(async {
            let refused = refusal(&address).await;
            assert!(refused.contains(&format!("older format {format}")), "{refused}");
            assert!(refused.contains("rollcall migrate"), "{refused}");
            assert!(migrate(&address).await.unwrap(), "nothing to convert");
            assert!(!migrate(&address).await.unwrap(), "it is converted");
            assert_eq!(fault_of_devices(&address.open().await.unwrap(), &records).await, None);
            assert_holds(&mut random, &address, &records).await;
        });
    }
}

fn a_migration_that_is_cut_off_anywhere_goes_on_when_it_is_run_again<P: Place>() {
    let mut random = common::random();
    for &format in P::OLDER {
        let (place, records) = filled::<P>(&mut random);
        let address = place.address();
        run(place.age(format));
        let (mut waits, mut begun, mut cuts) = (0, false, 0);
        while run(cut_off_after(waits, migrate(&address))).map(Result::unwrap).is_none() {
            // The last step may be done though nobody waited for it.
            let Some(refused) = run(address.open()).err().map(|error| error.to_string()) else { continue };
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
        older::as_format(place.directory(), format);
        let before = packed(place.directory(), table);
        assert!(!before.is_empty());
        run(migrate(&place.address())).unwrap();
        assert_eq!(packed(place.directory(), table), before);
        assert_eq!(packed(place.directory(), "chunks").len(), if format == 3 { before.len() } else { 0 });
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
    older::as_format(place.directory(), 2);
    drop(run(address.open_to_migrate()).unwrap());
    // What a migration to format 3 left, which rolled up and packed what it had copied.
    older::change(place.directory(), |transaction| {
        let mut chunks = transaction.open_table(TableDefinition::<(u64, u16), &[u8]>::new("chunks")).unwrap();
        chunks.insert((64, 0), &b"of a copy that is thrown away"[..]).unwrap();
        let mut copied =
            transaction.open_table(TableDefinition::<u8, (u64, u64)>::new("migration_copied")).unwrap();
        copied.insert(0, (64, 100)).unwrap();
    });
    let (slot, number) = older_version_appends(place.directory());
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
    older::as_format(place.directory(), 3);
    assert!(killed_at(place.directory(), "looking whether the log is whole"));
    assert!(killed_at(place.directory(), "making windows and rows anew"));
    assert!(!killed_at(place.directory(), "never said"));
    run(assert_holds(&mut random, &place.address(), &records));
}
