//! Log time, by which boots are forgotten: whose clock it follows, and how fast.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{device, record};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::rollup::CHUNK_ENTRIES;
use rollcall_host::log::{LogStore, MemoryStore};
use rollcall_host::model::{Record, UnixMs, Verdict};
use rollcall_wire::{BootId, SampleId, Slot};

#[tokio::test]
async fn log_time_does_not_follow_a_clock_that_steps() {
    let mut random = common::random();
    let store = Arc::new(MemoryStore::default());
    let slot = Slot::of(&device(1));
    let mut log_times = Vec::new();
    let now = UnixMs::now();
    for (seq, at) in [(0, now.0), (1, now.0 + 365 * 86_400_000), (2, 5), (3, now.0 + 10)] {
        let mut ingest = Ingest::open(store.clone()).await.unwrap();
        ingest.commit(&[record(&mut random, device(1), seq)], UnixMs(at)).await.unwrap();
        log_times.push(store.read(slot, seq, 1).await.unwrap()[0].log_time);
    }
    assert!(log_times.is_sorted(), "{log_times:?}");
    assert!(log_times[3].0 - now.0 < 60_000, "{log_times:?} from {now:?}");
}

#[tokio::test]
async fn a_log_that_was_empty_has_its_time_of_who_wrote_it_first_and_no_boot_is_forgotten_by_another_clock() {
    let mut random = common::random();
    let store = Arc::new(MemoryStore::default());
    let mut first = Ingest::open(store.clone()).await.unwrap();
    let mut second = Ingest::open(store.clone()).await.unwrap();
    let now = UnixMs::now();
    let ahead = UnixMs(now.0 + 40 * 86_400_000);
    let old = record(&mut random, device(1), 0);
    let id = Some(SampleId { boot: BootId(8), ..old.id.unwrap() });
    first.commit(&[old], now).await.unwrap();
    // A new boot is the occasion on which boots are forgotten that were silent for thirty days.
    second.commit(&[Record { id, ..old }], ahead).await.unwrap();
    let log_times: Vec<_> = store.read(Slot::of(&device(1)), 0, 9).await.unwrap();
    assert!(log_times[1].log_time.0 - now.0 < 60_000, "{log_times:?}");
    let verdicts = second.commit(&[old], ahead).await.unwrap();
    assert_eq!(verdicts, [Verdict::Duplicate]);
}

#[tokio::test]
async fn log_time_goes_on_after_a_restart_that_has_nothing_to_read() {
    let mut random = common::random();
    let store = Arc::new(MemoryStore::default());
    let slot = Slot::of(&device(1));
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    for seq in 0..=CHUNK_ENTRIES {
        if seq == CHUNK_ENTRIES {
            // All of the log is in the windows and in the rows.
            ingest.roll().await.unwrap();
            ingest.write_all_rows().await.unwrap();
            ingest = Ingest::open(store.clone()).await.unwrap();
        }
        ingest.commit(&[record(&mut random, device(1), seq)], UnixMs::now()).await.unwrap();
    }
    let log_times: Vec<_> =
        store.read(slot, 0, usize::MAX).await.unwrap().iter().map(|entry| entry.log_time).collect();
    assert!(log_times.is_sorted(), "{log_times:?}");
}
