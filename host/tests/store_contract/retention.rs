//! Messages that are removed: what was counted of them stays.

use std::collections::BTreeSet;

use rollcall_host::intake::{KeepMessages, remove_old_once};
use rollcall_host::log::devices;
use rollcall_host::log::messages::{Messages, NotAll};
use rollcall_host::log::start::{Cut, Start, identities};
use rollcall_host::model::TimeError;

use super::*;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const EVERYTHING: Range<u64> = 0..4_000_000_000;

fn keep() -> KeepMessages {
    "31d".parse().unwrap()
}

/// The cut that removes these entries, which were received before `before`.
fn cut_of(from: &Start, gone: &[Entry], before: UnixMs) -> Cut {
    let mut start = from.clone();
    gone.iter().for_each(|entry| start.remove(entry, before));
    Cut { slot: gone[0].slot, from: from.first, start, imported: gone.iter().flat_map(identities).collect() }
}

pub(crate) async fn a_cut_log_starts_later_and_its_windows_stay<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let store = fixture.store();
    let (mut entries, chunks) = chunks(&mut random, store, 9, 4).await;
    let slot = entries[0].slot;
    let document = Record { kind: RecordKind::Imported, ..entries[3].records[0] };
    entries[3].records.push(document);
    let before = UnixMs((common::START_S + common::SPAN_S) * 1000);
    let cut = cut_of(&Start::default(), &entries[..128], before);
    let known = (document.device, document.id.unwrap());
    assert_eq!(store.start(slot).await.unwrap(), Start::default());
    // Below both checkpoints only.
    assert!(matches!(store.cut(&cut).await, Err(StoreError::Corrupt(_))));
    store.apply(&chunks[..3]).await.unwrap();
    let rows = |checkpoint| RowWrite { slot, rows: Vec::new(), checkpoint: Some(checkpoint) };
    store.write_rows(&[rows(128)]).await.unwrap();
    assert!(matches!(store.cut(&cut).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.start(slot).await.unwrap(), Start::default(), "it was refused");
    store.write_rows(&[rows(129)]).await.unwrap();
    let expected = count(store, EVERYTHING).await;
    assert_eq!(store.imported(&[known]).await.unwrap(), [false]);
    assert!(store.cut(&cut).await.unwrap());
    assert!(!store.cut(&cut).await.unwrap(), "somebody else was first");

    let fixture = fixture.reopened().await;
    let store = fixture.store();
    let left = &entries[128..];
    for released in [false, true] {
        if released {
            while store.release(slot, 128).await.unwrap() {}
        }
        assert_eq!(store.start(slot).await.unwrap(), cut.start);
        assert_eq!(store.read(slot, 0, 9999).await.unwrap(), left, "{released}");
        assert_eq!(store.read(slot, 70, 1).await.unwrap(), left[..1]);
        assert_eq!(store.read(slot, 200, 2).await.unwrap(), entries[200..202]);
        assert_eq!(count(store, EVERYTHING).await, expected);
        let other =
            Record { device: device_of(9), ..document }.id.map(|id| SampleId { boot: BootId(1), ..id });
        assert_eq!(store.imported(&[(known.0, other.unwrap()), known]).await.unwrap(), [false, true]);
        // Who has slept does not get the number of one that is gone.
        let stale = entry(&mut random, 9, 100, 9_000, 1);
        assert_eq!(store.append(&[stale]).await.unwrap(), [slot]);
    }
    assert_eq!(count(store, EVERYTHING).await, expected);
    store.apply(&chunks[3..]).await.unwrap();
    assert_eq!(count(store, EVERYTHING).await, expected);
    assert_eq!(store.start(Slot::new(4).unwrap()).await.unwrap(), Start::default());
}

pub(crate) async fn an_export_goes_on_when_messages_of_other_days_go<F: Fixture>() {
    let fixture = F::fresh().await;
    let store = fixture.store();
    let (entries, chunks) = chunks(&mut common::random(), store, 9, 4).await;
    let Record { device, .. } = entries[0].records[0];
    store.apply(&chunks).await.unwrap();
    let (slot, checkpoint) = (entries[0].slot, Some(entries.len() as u64));
    store.write_rows(&[RowWrite { slot, rows: Vec::new(), checkpoint }]).await.unwrap();
    let end = common::START_S + common::SPAN_S;
    let after = end + 2 * 86_400;
    let mut messages = Messages::open(store, after..after + 1, Some(device)).await.unwrap();
    assert!(store.cut(&cut_of(&Start::default(), &entries[..128], UnixMs(end * 1000))).await.unwrap());
    assert_eq!(messages.next(store).await.unwrap(), None);
}

/// A fleet over months, with what devices do: late samples, repetitions, new boots, bare messages, and imports.
struct Fleet {
    random: fastrand::Rng,
    now_ms: u64,
    /// What is counted.
    counted: Vec<Record>,
    next: u64,
}

impl Fleet {
    fn flush(&mut self) -> Vec<Record> {
        let random = &mut self.random;
        self.now_ms += random.u64(..6 * HOUR_MS);
        let mut records = Vec::new();
        for _ in 0..random.u64(1..8) {
            let late_ms = if random.u8(..4) == 0 { random.u64(..28 * DAY_MS) } else { random.u64(..2_000) };
            let device = common::device(random.u64(..4));
            let boot = BootId(self.now_ms / (9 * DAY_MS) + random.u64(..2));
            let seq = Sequence::new(self.next).unwrap();
            self.next += 1 + u64::from(random.u8(..9) == 0);
            let kind = random.u8(..30);
            let at = self.now_ms - late_ms;
            records.push(Record {
                device,
                id: (kind != 0).then_some(SampleId { boot, seq }),
                kind: if kind == 1 { RecordKind::Imported } else { RecordKind::Sample },
                // A device whose clock, or whose import, is far ahead.
                sampled_at: UnixMs(if random.u8(..200) == 0 { at + 400 * DAY_MS } else { at }),
                received_at: UnixMs(self.now_ms),
                time_error: TimeError::Exact,
                ..record(random, device, 0)
            });
        }
        self.counted.extend(&records);
        records
    }

    /// Some that came lately, as devices send again.
    fn repeated(&mut self) -> Vec<Record> {
        let (since, random) = (self.now_ms - 29 * DAY_MS, &mut self.random);
        let is_young = |record: &&Record| record.received_at.0 > since && record.kind == RecordKind::Sample;
        let young = self.counted.iter().filter(is_young).filter(|record| record.id.is_some());
        young.filter(|_| random.u8(..20) == 0).copied().collect()
    }
}

/// What the answers are, at any time.
async fn agrees<S: LogStore>(store: &S, fleet: &mut Fleet) {
    for turn in 0..10 {
        let mut bound = || fleet.random.u64(common::START_S..fleet.now_ms / 1000 + 1000);
        let (a, b) = (bound(), bound());
        let range = if turn == 0 { EVERYTHING } else { a.min(b)..a.max(b) };
        assert_eq!(count(store, range.clone()).await, brute_force(&fleet.counted, &range), "{range:?}");
        match Messages::open(store, range.clone(), None).await {
            Ok(mut messages) => {
                let mut found = 0;
                while let Some(some) = messages.next(store).await.unwrap() {
                    found += some.len();
                }
                let expected =
                    fleet.counted.iter().filter(|record| range.contains(&record.sampled_at.second()));
                assert_eq!(found, expected.count(), "{range:?}");
            }
            Err(NotAll::Removed(from)) => assert!(from > range.start, "{range:?} {from}"),
            Err(NotAll::Store(error)) => panic!("{range:?}: {error}"),
        }
    }
}

/// Of devices, when all rows are written.
async fn devices_agree<S: LogStore>(store: &S, fleet: &Fleet) {
    for device in (0..4).map(common::device) {
        let of_device = |record: &&Record| record.device == device && record.kind != RecordKind::Imported;
        let expected = brute_force(fleet.counted.iter().filter(of_device), &EVERYTHING);
        let read = devices::read(store, &[device], &(0..60_000_000), UnixMs(0)).await.unwrap();
        assert_eq!(read.value[0].counts(&(0..60_000_000)).unwrap(), expected, "{device}");
    }
}

pub(crate) async fn no_answer_changes_by_what_is_removed<F: Fixture>() {
    let random = common::random();
    let mut fixture = Arc::new(F::fresh().await);
    let mut fleet = Fleet { random, now_ms: common::START_S * 1000, counted: Vec::new(), next: 0 };
    let mut gone = 0;
    for life in 0..3 {
        // Two hosts write, who know nothing of one another.
        let link = Arc::new(Link(fixture.clone()));
        let mut ingests =
            [Ingest::open(link.clone()).await.unwrap(), Ingest::open(link.clone()).await.unwrap()];
        for _ in 0..270 {
            let ingest = &mut ingests[usize::from(fleet.random.bool())];
            let records = fleet.flush();
            let verdicts = ingest.commit(&records, UnixMs(fleet.now_ms)).await.unwrap();
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Accepted), "{verdicts:?}");
            let repeated = if fleet.random.u8(..20) == 0 { fleet.repeated() } else { Vec::new() };
            let ingest = &mut ingests[usize::from(fleet.random.bool())];
            let verdicts = ingest.commit(&repeated, UnixMs(fleet.now_ms)).await.unwrap();
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Duplicate), "{verdicts:?}");
            match fleet.random.u8(..40) {
                0..20 => ingest.roll().await.unwrap(),
                20..24 => ingest.write_all_rows().await.unwrap(),
                24 => gone += remove_old_once(fixture.store(), keep(), UnixMs(fleet.now_ms)).await.unwrap(),
                25 => {
                    for slot in Slot::all() {
                        let first = fixture.store().start(slot).await.unwrap().first;
                        while fixture.store().release(slot, first).await.unwrap() {}
                    }
                }
                26 => agrees(fixture.store(), &mut fleet).await,
                _ => {}
            }
        }
        for ingest in &mut ingests {
            ingest.roll().await.unwrap();
            ingest.write_all_rows().await.unwrap();
        }
        gone += remove_old_once(fixture.store(), keep(), UnixMs(fleet.now_ms)).await.unwrap();
        agrees(fixture.store(), &mut fleet).await;
        devices_agree(fixture.store(), &fleet).await;
        assert_eq!(wrong(&*fixture).await, Vec::<String>::new(), "life {life}");
        drop((ingests, link));
        let Ok(alone) = Arc::try_unwrap(fixture) else { panic!("the store is in use") };
        fixture = Arc::new(alone.reopened().await);
    }
    assert!(gone >= 64, "nothing was removed");
    agrees(fixture.store(), &mut fleet).await;
    let slots: BTreeSet<_> = (0..4).map(|number| Slot::of(&common::device(number))).collect();
    for slot in slots {
        let (start, store) = (fixture.store().start(slot).await.unwrap(), fixture.store());
        let first = store.read(slot, 0, 1).await.unwrap();
        assert_eq!(first.first().map(|entry| entry.number), Some(start.first));
    }
}
