//! The messages of a range, against a look at all of them.

use rollcall_host::log::messages::Messages;
use rollcall_host::model::TimeError;

use super::*;

const HOUR_MS: u64 = 3_600_000;

/// What tells records apart; bare messages may be alike.
fn key(record: &Record) -> (DeviceId, Option<(u64, u64)>, u64, u64, usize) {
    let id = record.id.map(|id| (id.boot.0, id.seq.get()));
    (record.device, id, record.sampled_at.0, record.received_at.0, record.status.index())
}

async fn found<S: LogStore>(store: &S, range: &Range<u64>, device: Option<DeviceId>) -> Vec<Record> {
    let mut messages = Messages::open(store, range.clone(), device).await.unwrap();
    let mut found = Vec::new();
    while let Some(some) = messages.next(store).await.unwrap() {
        assert!(!some.is_empty());
        found.extend(some);
    }
    found
}

pub(crate) async fn messages_of_a_range_are_found_each_once_however_late_they_came_and_however_the_clock_was_set<
    F: Fixture,
>() {
    let mut random = common::random();
    let fixture = Arc::new(F::fresh().await);
    let mut ingest = Ingest::open(Arc::new(Link(fixture.clone()))).await.unwrap();
    let (mut all, mut now_ms) = (Vec::<Record>::new(), common::START_S * 1000);
    for flush in 0..300 {
        now_ms += random.u64(..20_000);
        if random.u8(..50) == 0 {
            now_ms -= random.u64(..2 * HOUR_MS);
        }
        let records: Vec<_> = (0..random.u64(1..12))
            .map(|nth| {
                let before_ms = if random.u8(..5) == 0 { random.u64(..HOUR_MS) } else { random.u64(..5_000) };
                let sample = record(&mut random, common::device(nth), flush);
                Record {
                    id: sample.id.filter(|_| random.u8(..10) > 0),
                    kind: if random.u8(..20) == 0 { RecordKind::Undecided } else { RecordKind::Sample },
                    sampled_at: UnixMs(now_ms - before_ms),
                    received_at: UnixMs(now_ms),
                    time_error: TimeError::Exact,
                    ..sample
                }
            })
            .collect();
        ingest.commit(&records, UnixMs(now_ms)).await.unwrap();
        if random.u8(..4) == 0 {
            ingest.roll().await.unwrap();
        }
        all.extend(records);
    }
    let span = all.iter().map(|record| record.sampled_at.second());
    let (first, last) = (span.clone().min().unwrap(), span.max().unwrap());
    for turn in 0..40 {
        let mut bound = || random.u64(first - 100..last + 100);
        let (a, b) = (bound(), bound());
        let range = if turn == 0 { 0..last + 1 } else { a.min(b)..a.max(b) };
        let device = (random.u8(..3) == 0).then(|| common::device(random.u64(..12)));
        let wanted = |record: &&Record| {
            range.contains(&record.sampled_at.second()) && device.is_none_or(|device| record.device == device)
        };
        let mut expected: Vec<_> = all.iter().filter(wanted).map(key).collect();
        let mut found: Vec<_> = found(fixture.store(), &range, device).await.iter().map(key).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{range:?} {device:?}");
    }
}
