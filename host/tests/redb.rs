//! The embedded store's directory and file: whose they are, and what becomes of damaged ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::iter;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use common::{brute_force, entry};
use rollcall_host::intake::{self, ingest::Ingest, recount};
use rollcall_host::log::plan::{self, Plan};
use rollcall_host::log::redb::RedbOpenError;
use rollcall_host::log::rollup::Resolution;
use rollcall_host::log::{LogStore, RedbStore, Snapshot, StoreAddress, StoreError};
use rollcall_host::model::{Record, UnixMs, Verdict};
use rollcall_host::ops::check::{Check, Outcome, Report, Reporter, Unheard};
use rollcall_wire::Slot;
use tokio::sync::mpsc::{self, Receiver};

const FILE: &str = "rollcall.redb";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_directory_and_its_file_are_their_owners_alone() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    let _store = RedbStore::open(&directory).unwrap();
    assert_eq!(mode(&directory), 0o700);
    for file in fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[test]
fn what_is_there_already_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    drop(RedbStore::open(directory.path()).unwrap());
    let file = directory.path().join(FILE);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let _store = RedbStore::open(directory.path()).unwrap();
    assert_eq!((mode(directory.path()), mode(&file)), (0o750, 0o640));
}

#[test]
fn an_empty_file_is_no_new_store() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    drop(RedbStore::open(directory.path()).unwrap());
    File::create(&file).unwrap();
    let error = RedbStore::open(directory.path()).err().expect("an empty file was taken for a store");
    assert!(matches!(error, RedbOpenError::Empty(_)), "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert_eq!(fs::metadata(&file).unwrap().len(), 0);
    fs::remove_file(&file).unwrap();
    RedbStore::open(directory.path()).unwrap();
}

#[test]
fn a_database_without_anything_of_a_store_is_not_made_into_one() {
    let directory = tempfile::tempdir().unwrap();
    drop(redb::Database::create(directory.path().join(FILE)).unwrap());
    let error =
        RedbStore::open(directory.path()).err().expect("a database without tables was taken for a store");
    assert!(matches!(error, RedbOpenError::Damaged(..)), "{error}");
}

#[test]
fn a_start_that_was_cut_off_while_it_made_the_store_is_made_good_by_the_next() {
    let whole = tempfile::tempdir().unwrap();
    drop(RedbStore::open(whole.path()).unwrap());
    let bytes = fs::read(whole.path().join(FILE)).unwrap();
    for length in [0, 1, 4096, bytes.len() / 2, bytes.len()] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("rollcall.redb.new"), &bytes[..length]).unwrap();
        RedbStore::open(directory.path()).unwrap();
        let names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "{length} bytes");
    }
}

#[test]
fn of_two_that_start_at_once_in_a_new_directory_one_gets_it() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let stores: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| RedbStore::open(directory.path()))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        // Each may meet another that is about to give way to a third; never may two have it.
        let open = stores.iter().filter(|store| store.is_ok()).count();
        assert!(open <= 1, "{open} have it");
        for error in stores.iter().filter_map(|store| store.as_ref().err()) {
            assert!(matches!(error, RedbOpenError::InUse(_)), "{error}");
        }
        drop(stores);
        RedbStore::open(directory.path()).unwrap();
    }
}

/// A store of 5,000 messages, some of them rolled up: the bytes of its file, and what is in it.
async fn stored(random: &mut fastrand::Rng) -> (Vec<u8>, Vec<Record>) {
    let directory = tempfile::tempdir().unwrap();
    let all = common::fill(random, Arc::new(RedbStore::open(directory.path()).unwrap())).await;
    (fs::read(directory.path().join(FILE)).unwrap(), all)
}

/// Turns over a byte, or fills up to a page, where there is something.
fn damage(random: &mut fastrand::Rng, bytes: &mut [u8]) {
    let reach = if random.u8(..4) == 0 { 4096 } else { bytes.len() };
    let mut place = random.usize(..reach);
    while bytes[place] == 0 {
        place = random.usize(..reach);
    }
    if random.bool() {
        bytes[place] ^= random.u8(1..);
    } else {
        let end = bytes.len().min(place + random.usize(1..=4096));
        let zeros = random.bool();
        bytes[place..end].fill_with(|| if zeros { 0 } else { random.u8(..) });
    }
}

/// Opens it, reads and writes; true if an error said that it is damaged. Whatever it answers is right.
async fn try_all(directory: &Path, random: &mut fastrand::Rng, stored: &[Record]) -> bool {
    let store = match RedbStore::open(directory) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(directory.to_str().unwrap()), "{error}");
            return error.contains("restore");
        }
    };
    let mut errors = Vec::new();
    let ranges = (0..40).map(|_| common::range(random)).chain(iter::once(0..4_000_000_000));
    for range in ranges.collect::<Vec<_>>() {
        let plan = Plan::new(range.clone());
        match store.view(&plan).await {
            Ok(view) => assert_eq!(plan::total(&plan, &view), brute_force(stored, &range), "{range:?}"),
            Err(error) => errors.push(error),
        }
    }
    match Ingest::open(store.clone()).await {
        Ok(mut ingest) => match ingest.commit(stored, UnixMs(0)).await {
            Ok(verdicts) => assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Duplicate)),
            Err(error) => errors.push(error),
        },
        Err(error) => errors.push(error),
    }
    for slot in Slot::all() {
        errors.extend(store.read(slot, 0, usize::MAX).await.err());
    }
    errors.extend(store.append(&[entry(random, 3, 1000, 0, 10)]).await.err());
    errors.iter().any(|error| error.to_string().contains("restore"))
}

/// Makes anew what is made from the log; true if that can be done. The store is whole then as far as anybody asks.
async fn try_repair(directory: &Path, random: &mut fastrand::Rng, stored: &[Record]) -> bool {
    let Ok(rebuild) = StoreAddress::Redb(directory.into()).open_to_repair().await else { return false };
    if intake::rebuild(rebuild).await.is_err() {
        return false;
    }
    assert!(!try_all(directory, random, stored).await, "it was repaired, and is damaged");
    true
}

/// 200 damages: an answer is right or an error, no panic leaves the store, and a repair makes no wrong answers.
#[tokio::test]
async fn a_damaged_file_is_an_error_or_makes_no_difference() {
    let mut random = rollcall_harness::random();
    let (whole, records) = stored(&mut random).await;
    let records: Arc<[Record]> = records.into();
    let (mut reported, mut repaired) = (0, 0);
    for round in 0..200 {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        damage(&mut random, &mut bytes);
        fs::write(directory.path().join(FILE), bytes).unwrap();
        let (mut random, records) = (random.fork(), records.clone());
        let tried = tokio::spawn(async move {
            let damaged = try_all(directory.path(), &mut random, &records).await;
            (damaged, damaged && try_repair(directory.path(), &mut random, &records).await)
        });
        let tried = tried.await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        reported += u32::from(tried.0);
        repaired += u32::from(tried.1);
    }
    println!("{reported} of 200 were reported as damaged, and {repaired} of these repaired");
    assert!(reported > 0 && repaired > 0);
}

/// What doctor says of a store: all findings with this outcome.
async fn said(
    checks: impl Future<Output = ()>,
    mut reports: Receiver<Report>,
    outcome: Outcome,
) -> Vec<String> {
    let mut said = Vec::new();
    let told = async {
        while let Some(report) = reports.recv().await {
            match report {
                Report::Check(check) if check.outcome == outcome => said.push(check.found),
                _ => {}
            }
        }
    };
    tokio::join!(checks, told);
    said
}

/// Says what a store holds instead of comparing it with the log.
fn dump(snapshot: &mut dyn Snapshot, reporter: &mut Reporter) -> Result<(), Unheard> {
    let mut held = String::new();
    let mut all = || {
        held += &format!("{:?}", snapshot.checkpoints()?);
        for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
            held += &format!("{:?}", snapshot.windows(resolution, 0, usize::MAX)?);
        }
        for slot in Slot::all() {
            held += &format!("{:?}", snapshot.rows(slot, None, usize::MAX)?);
            held += &format!("{:?}", snapshot.read(slot, 0, usize::MAX)?);
        }
        Ok::<_, StoreError>(())
    };
    let all = all();
    reporter.check(match all {
        Ok(()) => Check::warn("dump", held, ""),
        Err(error) => Check::warn("dump", error.to_string(), ""),
    })
}

/// What doctor finds wrong with a store that nobody uses.
async fn doctor(directory: &Path) -> Vec<String> {
    let (sender, reports) = mpsc::channel(9);
    said(rollcall_host::log::redb::checks(directory, recount, sender), reports, Outcome::Fail).await
}

/// The same of a store that this process has open.
async fn doctor_of(store: &RedbStore) -> Vec<String> {
    let (sender, reports) = mpsc::channel(9);
    said(store.checks(recount, sender), reports, Outcome::Fail).await
}

async fn held(store: &RedbStore) -> Vec<String> {
    let (sender, reports) = mpsc::channel(9);
    said(store.checks(dump, sender), reports, Outcome::Warn).await
}

#[tokio::test]
async fn doctor_names_every_damage_that_changes_anything_and_leaves_the_file_as_it_is() {
    let mut random = rollcall_harness::random();
    let (whole, _) = stored(&mut random).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    fs::write(&file, &whole).unwrap();
    assert_eq!(doctor(directory.path()).await, Vec::<String>::new());
    let store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(doctor_of(&store).await, Vec::<String>::new());
    let expected = held(&store).await;
    drop(store);
    let (mut changed, mut in_use) = (0, 0);
    for round in 0..200 {
        let mut bytes = whole.clone();
        damage(&mut random, &mut bytes);
        fs::write(&file, &bytes).unwrap();
        let wrong = doctor(directory.path()).await;
        assert!(fs::read(&file).unwrap() == bytes, "round {round}: doctor has changed the file");
        let differs = match RedbStore::open(directory.path()) {
            Ok(store) => {
                let differs = held(&store).await != expected;
                if differs {
                    in_use += 1;
                    assert_ne!(doctor_of(&store).await, Vec::<String>::new(), "round {round}: in use");
                }
                differs
            }
            Err(_) => true,
        };
        assert!(!differs || !wrong.is_empty(), "round {round}: not named");
        changed += u32::from(differs);
    }
    println!("{changed} of 200 changed something, {in_use} of them in a store that could be opened");
    assert!(changed > in_use && in_use > 0);
}

#[tokio::test]
async fn a_last_commit_that_is_not_whole_is_left_to_a_person_and_nothing_else_is_wrong() {
    const PAGE: usize = 4096;
    let mut random = rollcall_harness::random();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    let store = RedbStore::open(directory.path()).unwrap();
    store.append(&[entry(&mut random, 3, 0, 0, 10)]).await.unwrap();
    let before = fs::read(&file).unwrap();
    store.append(&[entry(&mut random, 3, 1, 10, 10)]).await.unwrap();
    let mut torn = fs::read(&file).unwrap();
    drop(store);
    // As when the power is cut: the header of the last commit is on the disk, and its pages are not.
    for (page, before) in torn.chunks_mut(PAGE).zip(before.chunks(PAGE)).skip(1) {
        page.copy_from_slice(before);
    }
    fs::write(&file, torn).unwrap();
    assert_eq!(doctor(directory.path()).await, Vec::<String>::new());
    let (sender, reports) = mpsc::channel(9);
    let checks = rollcall_host::log::redb::checks(directory.path(), recount, sender);
    let worth_a_look = said(checks, reports, Outcome::Warn).await;
    assert!(worth_a_look.len() == 1 && worth_a_look[0].contains("is not whole"), "{worth_a_look:?}");
    let entries = RedbStore::open(directory.path()).unwrap().read(Slot::new(3).unwrap(), 0, 9).await.unwrap();
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn an_entry_beyond_the_end_of_the_log_is_not_taken() {
    let mut random = rollcall_harness::random();
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    store.append(&[entry(&mut random, 3, 0, 0, 1)]).await.unwrap();
    let error = store.append(&[entry(&mut random, 3, 2, 1, 1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert_eq!(store.read(Slot::new(3).unwrap(), 0, 9).await.unwrap().len(), 1);
}
