//! The embedded store's directory and file: whose they are, and what becomes of damaged ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rollcall_host::log::{OpenError, RedbStore};

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
    assert!(matches!(error, OpenError::Empty(_)), "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert_eq!(fs::metadata(&file).unwrap().len(), 0);
    fs::remove_file(&file).unwrap();
    RedbStore::open(directory.path()).unwrap();
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
            assert!(matches!(error, OpenError::InUse(_)), "{error}");
        }
        drop(stores);
        RedbStore::open(directory.path()).unwrap();
    }
}
