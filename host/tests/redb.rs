//! The embedded store's directory and file: whose they are, and what becomes of damaged ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rollcall_host::log::RedbStore;

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
    let file = directory.path().join("rollcall.redb");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let _store = RedbStore::open(directory.path()).unwrap();
    assert_eq!((mode(directory.path()), mode(&file)), (0o750, 0o640));
}
