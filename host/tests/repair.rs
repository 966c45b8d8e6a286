//! Damaged stores: what is made from the log is made anew, and the log itself has to be whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use common::damage::{self, Damage};
#[cfg(feature = "mongodb")]
use common::place::Mongo;
use common::place::{
    Place, Redb, assert_counts, assert_holds, assert_known, cut_off_after, fault_of_devices, filled,
    on_each_place, refusal, repair, run,
};
use common::{SPAN_S, START_S, brute_force, older};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::plan::{Plan, total};
use rollcall_host::log::{LogStore, StoreAddress};
use rollcall_host::model::Record;

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 86_400;

on_each_place! {
    whatever_is_damaged_of_what_is_made_from_the_log_is_made_anew
    a_repair_that_is_cut_off_anywhere_can_be_run_again
    there_is_nothing_to_repair_where_there_is_no_store
}

/// What is wrong with a store: why it cannot be opened, or what answers it gives. Asks for days, for hours and for minutes.
async fn fault(address: &StoreAddress, records: &[Record]) -> Option<String> {
    let store = match address.open().await {
        Ok(store) => store,
        Err(error) => return Some(error.to_string()),
    };
    let days = (START_S / DAY_S..(START_S + SPAN_S) / DAY_S + 1).map(|day| day * DAY_S);
    let hours = days.clone().flat_map(|day| (day..day + DAY_S).step_by(HOUR_S as usize));
    // Whole windows: all of a day but one of its hours, and all of an hour but one of its minutes.
    let but_one = |start, whole, one| [start..start + whole - one, start + one..start + whole];
    let ranges = days.clone().map(|day| day..day + DAY_S);
    let ranges = ranges.chain(days.flat_map(|day| but_one(day, DAY_S, HOUR_S)));
    let ranges = ranges.chain(hours.flat_map(|hour| but_one(hour, HOUR_S, 60)));
    for range in ranges.collect::<Vec<_>>() {
        let plan = Plan::new(range.clone());
        match store.view(&plan).await {
            Ok(view) if total(&plan, &view) == brute_force(records, &range) => {}
            Ok(_) => return Some(format!("wrong counts in {range:?}")),
            Err(error) => return Some(error.to_string()),
        }
    }
    if let Some(fault) = fault_of_devices(&store, records).await {
        return Some(fault);
    }
    Ingest::open(Arc::new(store)).await.err().map(|error| error.to_string())
}

fn whatever_is_damaged_of_what_is_made_from_the_log_is_made_anew<P: Place>() {
    let mut random = common::random();
    let (place, records) = filled::<P>(&mut random);
    let address = place.address();
    run(async {
        assert_eq!(fault(&address, &records).await, None);
        let each = P::MADE.iter().flat_map(|made| P::DAMAGES.iter().map(|damage| (vec![*made], *damage)));
        let all = [Damage::Changed, Damage::AllGone].map(|damage| (P::MADE.to_vec(), damage));
        for (made, damage) in each.chain(all) {
            for made in &made {
                place.damage(&mut random, made, damage).await;
            }
            let fault = fault(&address, &records).await;
            place_says(&address, &made, damage, fault.as_deref());
            repair(&address).await.unwrap();
            assert_eq!(self::fault(&address, &records).await, None, "{made:?} {damage:?}");
            assert_known(Arc::new(address.open().await.unwrap()), &records).await;
        }
        assert_holds(&mut random, &address, &records).await;
    });
}

/// In redb every damage has a name. MongoDB's windows have no checksum, and whole minutes are read out of hours; what is gone of
/// its checkpoints is made again, and devices that are gone are not missed before one of their samples comes again, and a row may
/// still have what is gone of its hours.
fn place_says(address: &StoreAddress, made: &[&str], damage: Damage, fault: Option<&str>) {
    let what = format!("{made:?} {damage:?}: {fault:?}");
    if matches!(address, StoreAddress::Redb(_)) {
        let fault = fault.expect(&what);
        assert!(fault.contains("is damaged") && fault.contains("rollcall doctor --repair"), "{what}");
    } else if made != ["minutes"]
        && (damage == Damage::Changed
            || !["checkpoints", "devices", "device_rows", "device_hours"].contains(&made[0]))
    {
        assert!(fault.is_some(), "{what}");
    }
}

fn a_repair_that_is_cut_off_anywhere_can_be_run_again<P: Place>() {
    let mut random = common::random();
    let (place, records) = filled::<P>(&mut random);
    let address = place.address();
    run(place.damage(&mut random, P::MADE[P::MADE.len() - 1], Damage::AllGone));
    let (mut waits, mut cuts) = (0, 0);
    while run(cut_off_after(waits, repair(&address))).map(Result::unwrap).is_none() {
        waits += 1 + waits / 4;
        cuts += 1;
    }
    assert!(cuts > 5, "{cuts}");
    run(assert_holds(&mut random, &address, &records));
}

fn there_is_nothing_to_repair_where_there_is_no_store<P: Place>() {
    let place = P::fresh();
    let refused = run(place.address().open_to_repair()).err().expect("it was opened").to_string();
    assert!(refused.contains("there is no store in"), "{refused}");
}

#[test]
fn nobody_else_can_open_a_redb_store_while_it_is_repaired() {
    let mut random = common::random();
    let (place, _) = filled::<Redb>(&mut random);
    let address = place.address();
    run(async {
        let rebuild = address.open_to_repair().await.unwrap();
        rebuild.begin().await.unwrap();
        assert!(refusal(&address).await.contains("another process uses"));
        let second = address.open_to_repair().await.err().expect("two repair it").to_string();
        assert!(second.contains("another process uses"), "{second}");
    });
}

/// A window of a store that was not closed, as a process leaves it that is killed, with one wrong bit.
#[test]
fn a_redb_file_that_redb_refuses_as_a_whole_is_repaired_when_its_log_is_whole() {
    let mut random = common::random();
    let place = Redb::fresh();
    let (address, file) = (place.address(), place.directory().join("rollcall.redb"));
    let (bytes, records) = run(async {
        let store = Arc::new(address.open().await.unwrap());
        let records = common::fill(&mut random, store.clone()).await;
        (fs::read(&file).unwrap(), records)
    });
    fs::write(&file, &bytes).unwrap();
    let window = {
        let database = redb::Database::open(&file).unwrap();
        let transaction = database.begin_read().unwrap();
        let days = transaction.open_table(TableDefinition::<u64, &[u8]>::new("window_days")).unwrap();
        days.iter().unwrap().next().unwrap().unwrap().1.value().to_vec()
    };
    let mut damaged = bytes;
    let places: Vec<_> =
        (0..damaged.len() - window.len()).filter(|at| damaged[*at..].starts_with(&window)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| damaged[*at] ^= 1);
    fs::write(&file, &damaged).unwrap();
    assert!(redb::Database::open(&file).is_err(), "redb opens it");
    fs::write(&file, &damaged).unwrap();
    run(async {
        assert!(refusal(&address).await.contains("rollcall doctor --repair"));
        repair(&address).await.unwrap();
        let store = Arc::new(address.open().await.unwrap());
        assert_counts(&mut random, &store, &records).await;
    });
}

/// Damages the log of a store, and gives the place.
fn damage_log(directory: &Path, change: impl FnOnce(&mut Log<'_>)) {
    older::change(directory, |transaction| {
        change(&mut Log {
            tail: transaction.open_table(TableDefinition::new("tail")).unwrap(),
            chunks: transaction.open_table(TableDefinition::new("chunks")).unwrap(),
        });
    });
}

struct Log<'a> {
    tail: redb::Table<'a, u64, &'static [u8]>,
    chunks: redb::Table<'a, (u64, u16), &'static [u8]>,
}

impl Log<'_> {
    /// The keys of a slot's entries that are not packed, and the key of its length.
    fn tail_of(&self, slot: u64) -> (Vec<u64>, u64) {
        let rows = self.tail.range(slot << 40..(slot + 1) << 40).unwrap();
        let mut keys: Vec<_> = rows.map(|row| row.unwrap().0.value()).collect();
        let length = keys.pop().unwrap();
        (keys, length)
    }

    fn flip(&mut self, key: u64) {
        let mut value = self.tail.get(key).unwrap().unwrap().value().to_vec();
        value[0] ^= 1;
        self.tail.insert(key, value.as_slice()).unwrap();
    }
}

#[test]
fn a_damaged_entry_of_a_redb_log_is_named_and_nothing_is_changed() {
    let mut random = common::random();
    let (place, records) = filled::<Redb>(&mut random);
    let (address, file) = (place.address(), place.directory().join("rollcall.redb"));
    let whole = fs::read(&file).unwrap();
    let first_of = |keys: &[u64]| format!("entry {} of slot 3", keys[0] % (1 << 40));
    type Change<'a> = Box<dyn FnOnce(&mut Log<'_>) -> String + 'a>;
    let packed: [Change<'_>; 2] = [
        Box::new(|log| {
            let mut piece = log.chunks.get((3 << 40, 0)).unwrap().unwrap().value().to_vec();
            piece[100] ^= 1;
            log.chunks.insert((3 << 40, 0), piece.as_slice()).unwrap();
            "entries 0 to 63 of slot 3".to_owned()
        }),
        Box::new(|log| {
            log.chunks.retain_in((3 << 40, 0)..(4 << 40, 0), |_, _| false).unwrap();
            "entries 0 to 63 of slot 3".to_owned()
        }),
    ];
    let tail: [Change<'_>; 6] = [
        Box::new(|log| {
            let (keys, _) = log.tail_of(3);
            log.flip(keys[0]);
            first_of(&keys)
        }),
        Box::new(|log| {
            let (keys, _) = log.tail_of(3);
            log.tail.remove(keys[0]).unwrap();
            first_of(&keys)
        }),
        Box::new(|log| {
            let (keys, _) = log.tail_of(3);
            log.tail.remove(keys[5]).unwrap();
            first_of(&keys[5..])
        }),
        Box::new(|log| {
            let (keys, _) = log.tail_of(3);
            log.tail.remove(keys[keys.len() - 1]).unwrap();
            first_of(&keys[keys.len() - 1..])
        }),
        Box::new(|log| {
            let (keys, _) = log.tail_of(3);
            keys.iter().for_each(|key| drop(log.tail.remove(key).unwrap()));
            first_of(&keys)
        }),
        Box::new(|log| {
            let (_, length) = log.tail_of(3);
            log.tail.remove(length).unwrap();
            "the length of the log of slot 3".to_owned()
        }),
    ];
    let packed = packed.into_iter().map(|change| (change, true));
    for (change, opens) in packed.chain(tail.into_iter().map(|change| (change, false))) {
        let mut named = String::new();
        damage_log(place.directory(), |log| named = change(log));
        let failed = run(repair(&address)).unwrap_err().to_string();
        assert!(failed.contains(&named) && failed.contains("nothing was changed"), "{named}: {failed}");
        if opens {
            // Nobody asks for what is packed.
            run(async { assert_counts(&mut random, &address.open().await.unwrap(), &records).await });
        } else {
            let refused = run(refusal(&address));
            assert!(refused.contains(&named), "{named}: {refused}");
        }
        fs::write(&file, &whole).unwrap();
    }
    run(assert_holds(&mut random, &address, &records));
}

#[test]
fn a_page_of_a_redb_log_that_went_back_is_noticed_without_a_checkpoint() {
    let mut random = common::random();
    let (place, _) = filled::<Redb>(&mut random);
    damage_log(place.directory(), |log| {
        let (keys, _) = log.tail_of(3);
        // As if these were packed, and the tail is of before.
        let piece = log.chunks.get((3 << 40, 0)).unwrap().unwrap().value().to_vec();
        log.chunks.insert((keys[0], 0), piece.as_slice()).unwrap();
    });
    let failed = run(repair(&place.address())).unwrap_err().to_string();
    assert!(failed.contains("the end of the log of slot 3"), "{failed}");
}

#[cfg(feature = "mongodb")]
#[test]
fn a_damaged_entry_of_a_mongodb_log_is_named_and_nothing_is_changed() {
    use mongodb::bson::{Document, doc};
    if !Mongo::available() {
        return;
    }
    let mut random = common::random();
    let (place, records) = filled::<Mongo>(&mut random);
    let address = place.address();
    run(async {
        let entries = place.database().await.collection::<Document>("entries");
        let id = doc! { "_id": (3_i64 << 40) + 10 };
        let whole = entries.find_one(id.clone()).await.unwrap().unwrap();
        for damaged in [None, Some(doc! { "$set": { "messages": "damaged" } })] {
            match damaged {
                None => drop(entries.delete_one(id.clone()).await.unwrap()),
                Some(change) => drop(entries.update_one(id.clone(), change).await.unwrap()),
            }
            let failed = repair(&address).await.unwrap_err().to_string();
            assert!(failed.contains("entry 10 of slot 3"), "{failed}");
            assert!(failed.contains("nothing was changed"), "{failed}");
            assert_counts(&mut random, &address.open().await.unwrap(), &records).await;
            entries.replace_one(id.clone(), &whole).upsert(true).await.unwrap();
        }
        assert_holds(&mut random, &address, &records).await;
    });
}

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rollcall")).arg("doctor").args(arguments).output().unwrap()
}

#[test]
fn the_command_repairs_a_store_that_nobody_uses_and_leaves_the_file_its_mode() {
    let mut random = common::random();
    let (place, records) = filled::<Redb>(&mut random);
    let store = format!("redb:{}", place.directory().display());
    let file = place.directory().join("rollcall.redb");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    damage::redb(&mut random, place.directory(), "window_days", Damage::Changed);
    let found = doctor(&["--store", &store]);
    assert!(!found.status.success());
    assert!(String::from_utf8_lossy(&found.stdout).contains("doctor --repair"), "{found:?}");

    let open = redb::Database::open(&file).unwrap();
    let refused = doctor(&["--repair", "--store", &store]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another process uses"), "{refused:?}");
    drop(open);

    let before = fs::metadata(&file).unwrap();
    let repaired = doctor(&["--repair", "--store", &store]);
    assert!(repaired.status.success(), "{repaired:?}");
    assert!(String::from_utf8_lossy(&repaired.stdout).contains("were made anew"), "{repaired:?}");
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.mode(), before.uid(), before.gid()), (after.mode(), after.uid(), after.gid()));
    assert_eq!(fs::read_dir(place.directory()).unwrap().count(), 1, "something is left beside the store");
    run(assert_holds(&mut random, &place.address(), &records));
    assert!(!doctor(&["--repair"]).status.success(), "which store?");
}
