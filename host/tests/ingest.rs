//! Ingest over stores that fail, and its counts against the plain oracle, through the API.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "common/host.rs"]
mod host;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use common::{brute_force, device, record};
use host::{ingest, logged};
use rollcall_host::api::{Api, router};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::{FlushInterval, keep_storing};
use rollcall_host::log::rollup::CHUNK_ENTRIES;
use rollcall_host::log::row::{DeviceState, OPEN_BOOTS_MAX};
use rollcall_host::log::{Fault, LogStore, MemoryStore, RedbStore};
use rollcall_host::model::{
    Ack, Clock, Counts, Message, Moment, Record, RecordKind, Retain, Sender, TimeError, UnixMs, Verdict,
    WriterId,
};
use rollcall_host::ops::Ops;
use rollcall_host::source;
use rollcall_wire::codec::Rejection;
use rollcall_wire::{BootId, Kind, SampleId, Sequence, Slot, Status, Topic};
use tokio::time::Instant;
use tower::ServiceExt;

const NOW: UnixMs = UnixMs(1_721_900_000_000);

fn sorted(records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    records.sort_by_key(|record| (record.device, record.id));
    records
}

#[tokio::test]
async fn a_record_is_logged_once_whatever_happens_to_the_append() {
    for fault in [Fault::Refuse, Fault::LoseReply, Fault::Tear] {
        let mut random = common::random();
        let store = Arc::new(MemoryStore::default());
        let mut ingest = Ingest::open(store.clone()).await.unwrap();
        let records: Vec<_> = (0..20).map(|n| record(&mut random, device(n), 0)).collect();
        store.inject(fault);
        assert!(ingest.commit(&records, NOW).await.is_err(), "{fault:?}");
        ingest.catch_up().await.unwrap();
        ingest.commit(&records, NOW).await.unwrap();
        assert_eq!(logged(&*store).await, sorted(&records), "{fault:?}");
        let again = ingest.commit(&records, NOW).await.unwrap();
        assert!(again.iter().all(|verdict| *verdict == Verdict::Duplicate), "{fault:?}");
    }
}

#[tokio::test]
async fn two_workers_on_the_same_slots_log_each_record_once() {
    let mut random = common::random();
    let store = Arc::new(MemoryStore::default());
    let mut workers =
        [Ingest::open(store.clone()).await.unwrap(), Ingest::open(store.clone()).await.unwrap()];
    let records: Vec<_> = (0..400).map(|n| record(&mut random, device(n % 20), n / 20)).collect();
    for batch in records.chunks(20) {
        // Each gets its part of the messages, and some get both, as when a broker hands one that was not
        // acknowledged to the other worker.
        let (first, second) = (random.usize(..=20), random.usize(..=20));
        workers[0].commit(&batch[..first.max(second)], NOW).await.unwrap();
        workers[1].commit(&batch[first.min(second)..], NOW).await.unwrap();
        workers.swap(0, random.usize(..2));
    }
    assert_eq!(logged(&*store).await, sorted(&records));
}

#[tokio::test]
async fn two_workers_log_a_bare_message_each_though_they_came_at_the_same_moment() {
    let store = Arc::new(MemoryStore::default());
    let mut workers =
        [Ingest::open(store.clone()).await.unwrap(), Ingest::open(store.clone()).await.unwrap()];
    let bare = Record { id: None, ..record(&mut common::random(), device(1), 0) };
    for worker in &mut workers {
        assert_eq!(worker.commit(&[bare], NOW).await.unwrap(), [Verdict::Accepted]);
    }
    assert_eq!(logged(&*store).await, [bare; 2]);
}

#[tokio::test]
async fn a_duplicate_within_one_flush_is_logged_once_and_a_bare_message_twice() {
    let mut random = common::random();
    let store = Arc::new(MemoryStore::default());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let one = record(&mut random, device(1), 4);
    let bare = Record { id: None, ..one };
    let verdicts = ingest.commit(&[one, bare, one, bare], NOW).await.unwrap();
    use Verdict::{Accepted, Duplicate};
    assert_eq!(verdicts, [Accepted, Accepted, Duplicate, Accepted]);
    assert_eq!(logged(&*store).await.len(), 3);
}

#[tokio::test]
async fn a_duplicate_within_one_flush_is_acknowledged_only_if_the_first_of_the_two_is() {
    let mut random = common::random();
    let store = Arc::new(MemoryStore::default());
    let of_boot = |boot, seq| Some(SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() });
    let mut other = Ingest::open(store.clone()).await.unwrap();
    let sample = record(&mut random, device(1), 0);
    let boots: Vec<_> = (0..=OPEN_BOOTS_MAX as u64).map(|boot| of_boot(boot, 0)).collect();
    other.commit(&[Record { id: boots[0], ..sample }], NOW).await.unwrap();
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    // Another worker takes the next entry of the slot, with so many boots that the first one is closed.
    let forged: Vec<_> = boots[1..].iter().map(|id| Record { id: *id, ..sample }).collect();
    other.commit(&forged, NOW).await.unwrap();
    let twice = [Record { id: of_boot(0, 1), ..sample }; 2];
    let verdicts = ingest.commit(&twice, NOW).await.unwrap();
    assert_eq!(verdicts, [Verdict::Rejected(Rejection::CannotTell); 2]);
    assert_eq!(logged(&*store).await.len(), boots.len());
}

#[tokio::test]
async fn a_redelivery_is_known_after_a_restart_and_a_day_of_other_messages() {
    let mut random = common::random();
    let directory = tempfile::tempdir().unwrap();
    let old = record(&mut random, device(0), 123);
    {
        let mut ingest = Ingest::open(Arc::new(RedbStore::open(directory.path()).unwrap())).await.unwrap();
        ingest.commit(&[old], NOW).await.unwrap();
        // A day at 1 Hz, of another device in the same slot, in flushes of ten minutes: over two chunks.
        let other = (1..).map(device).find(|other| Slot::of(other) == Slot::of(&old.device)).unwrap();
        for flush in 0..144 {
            let records: Vec<_> = (0..600).map(|n| record(&mut random, other, flush * 600 + n)).collect();
            ingest.commit(&records, NOW).await.unwrap();
            ingest.roll().await.unwrap();
        }
    }
    let store = Arc::new(RedbStore::open(directory.path()).unwrap());
    assert!(store.checkpoint(Slot::of(&old.device)).await.unwrap().windows > 0, "nothing was rolled up");
    let mut ingest = Ingest::open(store).await.unwrap();
    assert_eq!(ingest.commit(&[old], NOW).await.unwrap(), [Verdict::Duplicate]);
}

/// Asks the API, as a client does.
async fn ask<S: LogStore>(store: Arc<S>, range: &Range<u64>) -> Counts {
    let api = Api { store, ops: Arc::default(), issued: None };
    let uri = format!("/status_count?start={}&end={}", range.start, range.end);
    let response = router(api).oneshot(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let counts: BTreeMap<usize, u64> = serde_json::from_value(answer["counts"].clone()).unwrap();
    let statuses = std::array::from_fn(|status| counts[&status]);
    assert_eq!(answer["total"], statuses.iter().sum::<u64>());
    let uncertain = |of: &str| answer["time_uncertain"][of].as_u64().unwrap();
    let (one_second, unknown) = (uncertain("one_second"), uncertain("unknown"));
    Counts { statuses, one_second, unknown, ..Counts::default() }
}

/// Each number of counts that is in an answer.
fn numbers(counts: Counts) -> impl Iterator<Item = u64> {
    counts.statuses.into_iter().chain([counts.one_second, counts.unknown])
}

/// What was sent and what was acknowledged so far; a query sees all of the latter and none beyond the former.
#[derive(Default)]
struct Oracle {
    sent: Vec<Record>,
    acknowledged: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn status_count_equals_a_brute_force_count_while_ingest_runs_and_across_restarts() {
    const RESTARTS: usize = 5;
    const RANGES: usize = 10_000;
    let mut random = common::random();
    let directory = tempfile::tempdir().unwrap();
    let oracle = Arc::new(Mutex::new(Oracle::default()));
    let mut next_seq = [0_u64; 30];
    for _ in 0..RESTARTS {
        let store = Arc::new(RedbStore::open(directory.path()).unwrap());
        let mut ingest = Ingest::open(store.clone()).await.unwrap();
        let (mut batches, asking) = (random.fork(), Arc::new(std::sync::atomic::AtomicBool::new(true)));
        let (writer_oracle, writer_asking) = (oracle.clone(), asking.clone());
        let writer = tokio::spawn(async move {
            while writer_asking.load(std::sync::atomic::Ordering::Relaxed) {
                let batch = batch(&mut batches, &mut next_seq, &writer_oracle);
                ingest.commit(&batch, NOW).await.unwrap();
                ingest.roll().await.unwrap();
                let mut oracle = writer_oracle.lock().unwrap();
                oracle.acknowledged = oracle.sent.len();
            }
            next_seq
        });
        for _ in 0..RANGES / RESTARTS / 2 {
            let range = common::range(&mut random);
            let least = {
                let oracle = oracle.lock().unwrap();
                brute_force(&oracle.sent[..oracle.acknowledged], &range)
            };
            let counts = ask(store.clone(), &range).await;
            let most = brute_force(&oracle.lock().unwrap().sent, &range);
            for ((least, counted), most) in numbers(least).zip(numbers(counts)).zip(numbers(most)) {
                assert!((least..=most).contains(&counted), "{range:?}: {least} {counted} {most}");
            }
        }
        asking.store(false, std::sync::atomic::Ordering::Relaxed);
        next_seq = writer.await.unwrap();
        let sent = oracle.lock().unwrap().sent.clone();
        for _ in 0..RANGES / RESTARTS / 2 {
            let range = common::range(&mut random);
            let counted = numbers(ask(store.clone(), &range).await);
            assert!(counted.eq(numbers(brute_force(&sent, &range))), "{range:?}");
        }
    }
    println!("{} samples", oracle.lock().unwrap().sent.len());
}

/// New samples of all devices, shuffled a little, with some sent again; the new ones enter the oracle.
fn batch(random: &mut fastrand::Rng, next_seq: &mut [u64; 30], oracle: &Mutex<Oracle>) -> Vec<Record> {
    let mut oracle = oracle.lock().unwrap();
    let mut batch = Vec::new();
    for _ in 0..random.usize(1..20) {
        let number = random.usize(..next_seq.len());
        let new = record(random, device(number as u64), next_seq[number]);
        next_seq[number] += 1;
        oracle.sent.push(new);
        batch.push(new);
    }
    for _ in 0..random.usize(..5) {
        let recent = oracle.sent.len().saturating_sub(200);
        batch.push(oracle.sent[random.usize(recent..oracle.sent.len())]);
    }
    random.shuffle(&mut batch);
    batch
}

#[tokio::test]
async fn a_message_waits_for_a_store_that_is_away_and_readiness_says_so() {
    let store = Arc::new(MemoryStore::default());
    let ops = Arc::new(Ops::default());
    let (inbox, messages) = source::inbox();
    ingest(store.clone(), messages, ops.clone());
    for fault in [Fault::Refuse, Fault::LoseReply] {
        store.inject(fault);
    }
    let (message, verdict) = message(br#"{"status":3,"seq":0,"boot":"9f3c5a0be1d24c77","age_ms":0}"#);
    inbox.send(message).await.unwrap();
    while ops.reason().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(ops.reason().unwrap().contains("injected: Refuse"));
    // The second try was written, but its answer was lost: what is found in the log is recognised.
    assert_eq!(verdict.await, Ok(Verdict::Accepted));
    assert_eq!(ops.reason(), None);
    assert_eq!(logged(&*store).await.len(), 1);
}

#[tokio::test]
async fn a_bare_message_whose_append_had_no_answer_is_logged_once() {
    for fault in [Fault::Refuse, Fault::LoseReply, Fault::Tear] {
        let store = Arc::new(MemoryStore::default());
        let (inbox, messages) = source::inbox();
        store.inject(fault);
        let mut verdicts = Vec::new();
        for number in 0..20 {
            let (message, verdict) = message_of(number, br#"{"status":3}"#);
            inbox.send(message).await.unwrap();
            verdicts.push(verdict);
        }
        drop(inbox);
        ingest(store.clone(), messages, Arc::default()).await.unwrap().unwrap();
        for verdict in verdicts {
            assert_eq!(verdict.await, Ok(Verdict::Accepted), "{fault:?}");
        }
        assert_eq!(logged(&*store).await.len(), 20, "{fault:?}");
    }
}

/// The clock stands still, so that both take their message in the same millisecond.
#[tokio::test]
async fn what_another_worker_wrote_is_not_taken_for_a_bare_message_whose_append_failed() {
    let store = Arc::new(MemoryStore::default());
    let (ops, clock) = (Arc::new(Ops::default()), Clock::new(|| NOW));
    let (inbox, messages) = source::inbox();
    store.inject(Fault::Refuse);
    let (interval, opened) = (FlushInterval::default(), tokio::sync::oneshot::channel().0);
    let storing = keep_storing(store.clone(), messages, interval, WriterId(1), clock, ops.clone(), opened);
    let running = tokio::spawn(storing);
    let (message, verdict) = message(br#"{"status":3}"#);
    inbox.send(message).await.unwrap();
    while ops.reason().is_none() {
        tokio::task::yield_now().await;
    }
    let (time_error, sampled_at) = (TimeError::Exact, NOW);
    let bare = Record {
        id: None,
        status: Status::new(3).unwrap(),
        time_error,
        sampled_at,
        received_at: NOW,
        ..record(&mut common::random(), device(1), 0)
    };
    let mut other = Ingest::open(store.clone()).await.unwrap().writing_as(WriterId(2));
    assert_eq!(other.commit(&[bare], NOW).await.unwrap(), [Verdict::Accepted]);
    assert_eq!(verdict.await, Ok(Verdict::Accepted));
    assert_eq!(logged(&*store).await, [bare; 2]);
    drop(inbox);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_cannot_be_told_and_not_be_refused_is_stored_as_undecided_and_not_counted() {
    let store = Arc::new(MemoryStore::default());
    let (inbox, messages) = source::inbox();
    let running = ingest(store.clone(), messages, Arc::default());
    let send = async |boot: usize, sender| {
        let payload = format!(r#"{{"status":3,"seq":5,"boot":"{boot:016x}","age_ms":0}}"#);
        let (mut message, verdict) = message(payload.as_bytes());
        message.sender = sender;
        inbox.send(message).await.unwrap();
        verdict.await.unwrap()
    };
    for boot in 0..=OPEN_BOOTS_MAX {
        assert_eq!(send(boot, Sender::HearsNothing).await, Verdict::Accepted);
    }
    assert_eq!(send(0, Sender::HearsRefusal).await, Verdict::Rejected(Rejection::CannotTell));
    for _ in 0..2 {
        assert_eq!(send(0, Sender::HearsNothing).await, Verdict::Undecided);
    }
    assert_eq!(send(1, Sender::HearsNothing).await, Verdict::Duplicate);
    drop(inbox);
    running.await.unwrap().unwrap();
    let logged = logged(&*store).await;
    let undecided = logged.iter().filter(|record| record.kind == RecordKind::Undecided).count();
    assert_eq!((logged.len(), undecided), (OPEN_BOOTS_MAX + 3, 2));
    let counted = ask(store.clone(), &(0..u64::from(u32::MAX))).await;
    assert_eq!(counted.total(), OPEN_BOOTS_MAX as u64 + 1);
    let rows = store.rows(Slot::of(&device(1)), None, 10).await.unwrap();
    assert_eq!(DeviceState::from_bytes(&rows[0].state).unwrap().undecided, 2, "listed with its device");
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_a_few_devices_are_stored_within_seconds_without_further_messages() {
    let store = Arc::new(MemoryStore::default());
    let (inbox, messages) = source::inbox();
    let running = ingest(store.clone(), messages, Arc::default());
    let (message, verdict) = message(br#"{"status":3,"seq":5,"boot":"0000000000000001","age_ms":0}"#);
    inbox.send(message).await.unwrap();
    verdict.await.unwrap();
    let slot = Slot::of(&device(1));
    let start = tokio::time::Instant::now();
    while store.rows(slot, None, 10).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(start.elapsed() < Duration::from_secs(6), "not stored");
    }
    assert_eq!(store.checkpoint(slot).await.unwrap().rows, 1);
    drop(inbox);
    running.await.unwrap().unwrap();
}

/// A message of device 1, and where its verdict will be heard.
fn message(payload: &[u8]) -> (Message, tokio::sync::oneshot::Receiver<Verdict>) {
    message_of(1, payload)
}

fn message_of(number: u64, payload: &[u8]) -> (Message, tokio::sync::oneshot::Receiver<Verdict>) {
    let topic = Topic { device: device(number), kind: Kind::Status }.name();
    let (ack, verdict) = Ack::new();
    let message = Message {
        topic: topic.as_str().into(),
        payload: payload.into(),
        retain: Retain::No,
        expiry_left_s: None,
        received: Moment { at: NOW, instant: Instant::now() },
        sender: Sender::HearsRefusal,
        ack,
    };
    (message, verdict)
}

#[tokio::test]
async fn a_rollup_that_fails_is_done_again_without_storing_its_messages_twice() {
    let store = Arc::new(MemoryStore::default());
    let (inbox, messages) = source::inbox();
    let running = ingest(store.clone(), messages, Arc::default());
    store.inject(Fault::RefuseRollup);
    // Bare messages, since nothing would tell that one is there already; each is an entry of its own.
    for _ in 0..CHUNK_ENTRIES {
        let (message, verdict) = message(br#"{"status":3}"#);
        inbox.send(message).await.unwrap();
        assert_eq!(verdict.await, Ok(Verdict::Accepted));
    }
    drop(inbox);
    running.await.unwrap().unwrap();
    assert_eq!(logged(&*store).await.len() as u64, CHUNK_ENTRIES);
    assert_eq!(store.checkpoint(Slot::of(&device(1))).await.unwrap().windows, CHUNK_ENTRIES);
}
