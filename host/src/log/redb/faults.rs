//! The embedded store on a disk that fails at every one of its operations in turn, and then loses power.

use std::sync::{Arc, Mutex};

use redb::{Database, StorageBackend};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};

use super::RedbStore;
use crate::ingest::Ingest;
use crate::log::{LogStore, Record, TimeError};
use crate::source::Verdict;
use crate::time::UnixMs;

/// What a disk holds, and what of it survives a power cut.
#[derive(Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Writes and syncs until one fails; from then on all do, until the power is cut.
    left: Option<usize>,
}

impl Platter {
    fn operation(&mut self) -> std::io::Result<()> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(std::io::Error::other("injected")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    /// Opens a store on what is left after a power cut; the disk works again.
    fn open(&self) -> RedbStore {
        let disk = self.clone();
        let open = move || {
            let mut platter = disk.0.lock().unwrap();
            platter.bytes = platter.synced.clone();
            platter.left = None;
            drop(platter);
            Database::builder().create_with_backend(disk.clone())
        };
        RedbStore::open_with(open).unwrap().0
    }

    fn fail_after(&self, operations: usize) {
        self.0.lock().unwrap().left = Some(operations);
    }

    /// Did the injected failure come to pass?
    fn failed(&self) -> bool {
        self.0.lock().unwrap().left == Some(0)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap().bytes[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        platter.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        platter.synced = platter.bytes.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        let start = offset as usize;
        platter.bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn record(device: u64, seq: u64) -> Record {
    Record {
        device: DeviceId::new(&format!("device-{device}")).unwrap(),
        id: Some(SampleId { boot: BootId(1), seq: Sequence::new(seq).unwrap() }),
        status: Status::new((seq % 7) as u8).unwrap(),
        sampled_at: UnixMs(1_700_000_000_000 + seq * 1000),
        time_error: TimeError::Exact,
        received_at: UnixMs(1_700_000_000_000),
    }
}

async fn logged(store: &RedbStore) -> Vec<(DeviceId, Option<SampleId>)> {
    let mut all = Vec::new();
    for slot in Slot::all() {
        let entries = store.read(slot, 0, usize::MAX).await.unwrap();
        all.extend(entries.iter().flat_map(|entry| &entry.records).map(|record| (record.device, record.id)));
    }
    all.sort();
    all
}

#[tokio::test]
async fn whatever_operation_fails_every_acknowledged_record_is_there_once_after_the_power_cut() {
    let mut fails_at = 0;
    loop {
        let disk = Disk::default();
        let store = Arc::new(disk.open());
        let mut ingest = Ingest::open(store.clone()).await.unwrap();
        let before: Vec<_> = (0..5).map(|device| record(device, 0)).collect();
        ingest.commit(&before, UnixMs(0)).await.unwrap();

        disk.fail_after(fails_at);
        let records: Vec<_> = (0..5).map(|device| record(device, 1)).collect();
        let first = ingest.commit(&records, UnixMs(0)).await;
        let failed = disk.failed();
        // The store opens the disk anew by itself; the ingest loop looks what is there and tries again.
        if first.is_err() {
            ingest.catch_up().await.unwrap();
            ingest.commit(&records, UnixMs(0)).await.unwrap();
        }
        let again = ingest.commit(&records, UnixMs(0)).await.unwrap();
        assert!(again.iter().all(|verdict| *verdict == Verdict::Duplicate), "operation {fails_at}");
        drop((ingest, store));

        let mut expected: Vec<_> =
            before.iter().chain(&records).map(|record| (record.device, record.id)).collect();
        expected.sort();
        assert_eq!(logged(&disk.open()).await, expected, "operation {fails_at}");
        if !failed {
            assert!(first.is_ok() && fails_at > 3, "only {fails_at} operations in a commit");
            return;
        }
        fails_at += 1;
    }
}
