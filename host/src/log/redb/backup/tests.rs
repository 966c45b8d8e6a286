//! Copies of stores of every format, and what keeps one from being made.

use super::super::{
    checkpoints, device_windows, migrate, packed, rows as device_rows, starts, tail, windows,
};
use super::*;
use crate::log::rollup::Resolution;

/// A file with a row in every table that a store can have.
fn fill(directory: &Path) {
    let database = builder().create(directory.join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(super::super::open::META).unwrap().insert("format", 2).unwrap();
    for table in [tail::TAIL, migrate::ENTRIES, migrate::MINUTES] {
        transaction.open_table(table).unwrap().insert(7, &b"entry or minute"[..]).unwrap();
    }
    for table in [packed::CHUNKS, packed::OLDER_CHUNKS] {
        transaction.open_table(table).unwrap().insert((7, 1), &b"piece"[..]).unwrap();
    }
    for table in [checkpoints::CHECKPOINTS, migrate::DEDUPE] {
        transaction.open_table(table).unwrap().insert(7, &b"state"[..]).unwrap();
    }
    for table in [device_rows::DEVICES, device_rows::CLOSED] {
        transaction.open_table(table).unwrap().insert((7, "porch"), &b"row"[..]).unwrap();
    }
    for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
        transaction.open_table(windows::table(resolution)).unwrap().insert(60, &b"window"[..]).unwrap();
    }
    transaction.open_table(starts::STARTS).unwrap().insert(7, &b"start"[..]).unwrap();
    transaction.open_table(starts::IMPORTED).unwrap().insert(("d", 7, 7), &b""[..]).unwrap();
    transaction.open_table(device_windows::TABLE).unwrap().insert((3, "d", 7), &b"hour"[..]).unwrap();
    for table in [migrate::HOURS, migrate::DAYS] {
        transaction.open_table(table).unwrap().insert(60, [1, 2, 3, 4, 5, 6, 7]).unwrap();
    }
    transaction.open_table(migrate::CHECKPOINTS).unwrap().insert(7, 64).unwrap();
    transaction.open_table(migrate::COPIED).unwrap().insert(3, (64, 70)).unwrap();
    transaction.commit().unwrap();
}

async fn backed_up(directory: &Path, to: &Path) -> Result<Progress, BackupError> {
    let (progress, _seen) = watch::channel(Progress::default());
    backup(directory, to, progress).await
}

/// Every row of two stores, as bytes.
struct Comparing(ReadTransaction, ReadTransaction);

impl EachTable for Comparing {
    type Error = BackupError;

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), BackupError> {
        let rows = |transaction: &ReadTransaction| {
            let table = transaction.open_table(table).unwrap();
            let rows = table.iter().unwrap();
            let bytes = rows.map(|row| {
                let (key, value) = row.unwrap();
                let (key, value) = (key.value(), value.value());
                (K::as_bytes(&key).as_ref().to_vec(), V::as_bytes(&value).as_ref().to_vec())
            });
            bytes.collect::<Vec<_>>()
        };
        let (original, copied) = (rows(&self.0), rows(&self.1));
        assert!(!original.is_empty(), "{} has no row", table.name());
        assert_eq!(original, copied, "{}", table.name());
        Ok(())
    }
}

#[tokio::test]
async fn a_copy_has_every_table_and_every_row() {
    let (directory, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(directory.path());
    let to = parent.path().join("new").join("copy");
    let made = backed_up(directory.path(), &to).await.unwrap();
    let open = |directory: &Path| builder().open(directory.join(FILE)).unwrap();
    let (original, copied) = (open(directory.path()), open(&to));
    let (original, copied) = (original.begin_read().unwrap(), copied.begin_read().unwrap());
    assert_eq!(rows(&original).unwrap(), rows(&copied).unwrap());
    assert_eq!(made.rows, rows(&original).unwrap().values().sum::<u64>());
    each_table(&mut Comparing(original, copied)).unwrap();
}

#[tokio::test]
async fn a_table_that_is_not_known_is_not_left_out_silently() {
    let (directory, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(directory.path());
    let database = builder().open(directory.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("of tomorrow")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = backed_up(directory.path(), to.path()).await.unwrap_err().to_string();
    assert!(error.contains("of tomorrow"), "{error}");
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn no_store_is_overwritten_and_none_is_made_of_nothing() {
    let (directory, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let error = backed_up(directory.path(), to.path()).await.unwrap_err();
    assert!(matches!(error, BackupError::NoStore(_)), "{error}");
    fill(directory.path());
    std::fs::write(to.path().join(FILE), "").unwrap();
    for there in [to.path(), directory.path()] {
        let error = backed_up(directory.path(), there).await.unwrap_err();
        assert!(matches!(error, BackupError::Exists(_)), "{error}");
    }
    let error = backed_up(directory.path(), Path::new("/dev/null/copy")).await.unwrap_err();
    assert!(matches!(error, BackupError::Destination(..)), "{error}");
}

#[tokio::test]
async fn a_copy_that_nobody_waits_for_is_given_up() {
    let (directory, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(directory.path());
    // Rows that fill a batch.
    let database = builder().open(directory.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    let large = vec![0; BATCH_BYTES];
    transaction.open_table(packed::CHUNKS).unwrap().insert((u64::MAX, 0), large.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (progress, _) = watch::channel(Progress::default());
    let error = backup(directory.path(), to.path(), progress).await.unwrap_err();
    assert!(matches!(error, BackupError::Abandoned), "{error}");
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
}
