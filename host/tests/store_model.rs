//! Every store against a plain model of what it promises, by steps that nobody thought of.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use common::place::Place;
use common::{SPAN_S, START_S, brute_force, device, entry};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use rollcall_host::log::plan::{Plan, total};
use rollcall_host::log::rollup::{CHUNK_ENTRIES, Chunk};
use rollcall_host::log::row::Row;
use rollcall_host::log::start::{Cut, Start};
use rollcall_host::log::{AnyStore, Checkpoint, LogStore, MemoryStore, RowWrite, StoreError};
use rollcall_host::model::{BySecond, Entry, RecordKind, UnixMs};
use rollcall_wire::{DeviceId, Slot};
use tokio::runtime::Runtime;

/// Slots that are used, and devices that have rows.
const SLOTS: usize = 3;
const DEVICES: u64 = 6;

/// What a store holds.
#[derive(Clone, Debug, Default)]
struct Model([Part; SLOTS]);

#[derive(Clone, Debug, Default)]
struct Part {
    log: Vec<Entry>,
    start: Start,
    stored: Checkpoint,
    rows: BTreeMap<DeviceId, Row>,
}

/// What is done with it. Random numbers stand for what is in an entry.
#[derive(Clone, Debug)]
enum Step {
    /// One entry for each of these slots, whose number is free or taken.
    Append(Vec<(usize, IsFree, u64)>),
    /// So many entries, one after the other.
    Fill(usize, u64, u64),
    Roll(usize, Which),
    WriteRows(usize, BTreeMap<u64, NewRow>, Option<u64>),
    /// Removes so many chunks, and says that the log started so many entries before where it does.
    Cut(usize, u64, u64),
    Count(u64, u64),
    Reopen,
}

type IsFree = bool;

/// A chunk of a log, by how far the windows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Before,
    Next,
    Beyond,
}

#[derive(Clone, Debug)]
struct NewRow {
    upto: u64,
    state: u8,
    closed: Option<u8>,
}

fn slot(place: usize) -> Slot {
    Slot::new(5 * place as u8).unwrap()
}

fn random_entry(place: usize, number: u64, seed: u64) -> Entry {
    let mut random = fastrand::Rng::with_seed(seed);
    let records = random.u64(1..4);
    let mut entry = entry(&mut random, 5 * place as u8, number, number * 4, records);
    for record in &mut entry.records {
        record.kind = random.choice([RecordKind::Sample, RecordKind::Sample, RecordKind::Undecided]).unwrap();
    }
    entry
}

impl Part {
    /// Where a chunk begins; `None` when there is no such chunk.
    fn start_of(&self, which: Which) -> Option<u64> {
        let start = match which {
            Which::Before => self.stored.windows.checked_sub(CHUNK_ENTRIES)?,
            Which::Next => self.stored.windows,
            Which::Beyond => self.stored.windows + CHUNK_ENTRIES,
        };
        (start + CHUNK_ENTRIES <= self.log.len() as u64).then_some(start)
    }

    /// The cut of so many chunks, by one that believes that the log starts at `from`; is it one that is done?
    fn cut(&self, place: usize, chunks: u64, from: u64) -> (Cut, bool) {
        let gone = (self.start.first + chunks * CHUNK_ENTRIES).min(self.log.len() as u64);
        let mut start = self.start.clone();
        let entries = self.log[self.start.first as usize..gone as usize].iter();
        entries.for_each(|entry| start.remove(entry, UnixMs((START_S + SPAN_S / 2) * 1000)));
        let is_below = start.first < self.stored.windows.min(self.stored.rows);
        (Cut { slot: slot(place), from, start, imported: Vec::new() }, is_below)
    }

    fn chunk(&self, place: usize, start: u64) -> Chunk {
        let entries = start..start + CHUNK_ENTRIES;
        let mut counts = BySecond::new();
        let log = &self.log[entries.start as usize..entries.end as usize];
        log.iter().for_each(|entry| entry.add_to(&mut counts));
        Chunk { slot: slot(place), entries, counts }
    }
}

fn row((number, row): (&u64, &NewRow)) -> Row {
    let closed = row.closed.map(|byte| vec![byte]);
    Row { device: device(*number), upto: row.upto, state: vec![row.state], sealed: Vec::new(), closed }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_state: &Self) -> BoxedStrategy<Step> {
        let place = || 0..SLOTS;
        let row = (0..12_u64, any::<u8>(), prop::option::of(any::<u8>()))
            .prop_map(|(upto, state, closed)| NewRow { upto, state, closed });
        let rows = prop::collection::btree_map(0..DEVICES, row, 0..4);
        let which = prop::sample::select(vec![Which::Before, Which::Next, Which::Next, Which::Beyond]);
        let second = || START_S - 100..START_S + SPAN_S + 100;
        prop_oneof![
            4 => prop::collection::vec((place(), prop::bool::weighted(0.7), any::<u64>()), 1..4).prop_map(Step::Append),
            3 => (place(), 1..150_u64, any::<u64>()).prop_map(|(place, count, seed)| Step::Fill(place, count, seed)),
            4 => (place(), which).prop_map(|(place, which)| Step::Roll(place, which)),
            4 => (place(), rows, prop::option::of(prop_oneof![0..12_u64, 12..400_u64]))
                .prop_map(|(place, rows, checkpoint)| Step::WriteRows(place, rows, checkpoint)),
            3 => (place(), 1..3_u64, prop_oneof![4 => Just(0_u64), 1 => Just(64_u64)])
                .prop_map(|(place, chunks, before)| Step::Cut(place, chunks, before)),
            3 => (second(), second()).prop_map(|(one, other)| Step::Count(one.min(other), one.max(other))),
            1 => Just(Step::Reopen),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        match step {
            Step::Append(entries) => entries.iter().enumerate().all(|(at, (place, is_free, _))| {
                // One entry a slot.
                entries[..at].iter().all(|(before, ..)| before != place)
                    && (*is_free || !state.0[*place].log.is_empty())
            }),
            Step::Roll(place, which) => state.0[*place].start_of(*which).is_some(),
            Step::Cut(place, chunks, _) => {
                let part = &state.0[*place];
                part.start.first + chunks * CHUNK_ENTRIES <= part.log.len() as u64
            }
            _ => true,
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        match step {
            Step::Append(entries) => {
                for (place, _, seed) in entries.iter().filter(|(_, is_free, _)| *is_free) {
                    let log = &mut state.0[*place].log;
                    log.push(random_entry(*place, log.len() as u64, *seed));
                }
            }
            Step::Fill(place, count, seed) => {
                let log = &mut state.0[*place].log;
                for more in 0..*count {
                    log.push(random_entry(*place, log.len() as u64, seed.wrapping_add(more)));
                }
            }
            Step::Roll(place, Which::Next) => state.0[*place].stored.windows += CHUNK_ENTRIES,
            Step::WriteRows(place, rows, checkpoint) => {
                let part = &mut state.0[*place];
                part.stored.rows = part.stored.rows.max(checkpoint.unwrap_or(0));
                for new in rows.iter().map(row) {
                    let before = part.rows.get(&new.device);
                    if before.is_none_or(|before| before.upto < new.upto) {
                        let closed = new.closed.clone().or_else(|| before?.closed.clone());
                        part.rows.insert(new.device, Row { closed, ..new });
                    }
                }
            }
            Step::Cut(place, chunks, 0) => {
                let part = &mut state.0[*place];
                let (cut, is_below) = part.cut(*place, *chunks, part.start.first);
                if is_below {
                    part.start = cut.start;
                }
            }
            Step::Roll(..) | Step::Cut(..) | Step::Count(..) | Step::Reopen => {}
        }
        state
    }
}

/// Where a store of one kind is.
trait Kept: Sized + 'static {
    type Store: LogStore;
    fn fresh() -> Self;
    fn open(&self) -> impl Future<Output = Arc<Self::Store>>;
}

struct Memory(Arc<MemoryStore>);

impl Kept for Memory {
    type Store = MemoryStore;
    fn fresh() -> Self {
        Self(Arc::default())
    }
    async fn open(&self) -> Arc<MemoryStore> {
        self.0.clone()
    }
}

impl<P: Place + 'static> Kept for P {
    type Store = AnyStore;
    fn fresh() -> Self {
        Place::fresh()
    }
    async fn open(&self) -> Arc<AnyStore> {
        Arc::new(self.address().open().await.unwrap())
    }
}

struct Opened<K: Kept> {
    runtime: Runtime,
    store: Arc<K::Store>,
    kept: K,
}

struct Against<K>(PhantomData<K>);

impl<K: Kept> StateMachineTest for Against<K> {
    type SystemUnderTest = Opened<K>;
    type Reference = Model;

    fn init_test(_model: &Model) -> Opened<K> {
        let (runtime, kept) = (Runtime::new().unwrap(), K::fresh());
        let store = runtime.block_on(kept.open());
        Opened { runtime, store, kept }
    }

    fn apply(opened: Opened<K>, model: &Model, step: Step) -> Opened<K> {
        let Opened { runtime, store, kept } = opened;
        if let Step::Reopen = step {
            drop(store);
            let store = runtime.block_on(kept.open());
            return Opened { runtime, store, kept };
        }
        runtime.block_on(does(&*store, model, step));
        Opened { runtime, store, kept }
    }

    fn check_invariants(opened: &Opened<K>, model: &Model) {
        opened.runtime.block_on(holds(&*opened.store, model));
    }
}

/// `model` is as after the step.
async fn does<S: LogStore>(store: &S, model: &Model, step: Step) {
    match step {
        Step::Append(entries) => {
            let of = |(place, is_free, seed): &(usize, IsFree, u64)| {
                let last = model.0[*place].log.last().unwrap();
                if *is_free { last.clone() } else { random_entry(*place, last.number, !*seed) }
            };
            let mut taken = store.append(&entries.iter().map(of).collect::<Vec<_>>()).await.unwrap();
            taken.sort();
            let refused = entries.iter().filter(|(_, is_free, _)| !is_free);
            let mut expected: Vec<_> = refused.map(|(place, ..)| slot(*place)).collect();
            expected.sort();
            assert_eq!(taken, expected);
        }
        Step::Fill(place, count, _) => {
            let log = &model.0[place].log;
            for entry in &log[log.len() - count as usize..] {
                assert_eq!(store.append(std::slice::from_ref(entry)).await.unwrap(), []);
            }
        }
        Step::Roll(place, which) => {
            let part = &model.0[place];
            let windows = part.stored.windows;
            let start =
                if which == Which::Beyond { windows + CHUNK_ENTRIES } else { windows - CHUNK_ENTRIES };
            let rolled = store.apply(&[part.chunk(place, start)]).await;
            match which {
                Which::Beyond => assert!(matches!(rolled, Err(StoreError::Corrupt(_))), "{rolled:?}"),
                Which::Before | Which::Next => rolled.unwrap(),
            }
        }
        Step::WriteRows(place, rows, checkpoint) => {
            let mut rows: Vec<_> = rows.iter().map(row).collect();
            rows.sort_by_key(|row| row.device);
            store.write_rows(&[RowWrite { slot: slot(place), rows, checkpoint }]).await.unwrap();
        }
        Step::Cut(place, chunks, before) => {
            let part = &model.0[place];
            let start = store.start(slot(place)).await.unwrap();
            // The model is as after the step.
            let mut then = part.clone();
            then.start = start.clone();
            let (cut, is_below) = then.cut(place, chunks, start.first + before);
            let done = store.cut(&cut).await;
            match (before, is_below) {
                (0, false) => assert!(matches!(done, Err(StoreError::Corrupt(_))), "{done:?}"),
                (0, true) => assert!(done.unwrap()),
                // In which order that is looked at is not promised.
                _ => assert!(!matches!(done, Ok(true)), "{done:?}"),
            }
            while store.release(slot(place), part.start.first).await.unwrap() {}
        }
        Step::Count(start, end) => {
            let plan = Plan::new(start..end);
            let records = model.0.iter().flat_map(|part| &part.log).flat_map(|entry| &entry.records);
            let expected = brute_force(records, &(start..end));
            assert_eq!(total(&plan, &store.view(&plan).await.unwrap()), expected, "{start}..{end}");
        }
        Step::Reopen => unreachable!("the caller does it"),
    }
}

async fn holds<S: LogStore>(store: &S, model: &Model) {
    for (place, part) in model.0.iter().enumerate() {
        let slot = slot(place);
        assert_eq!(store.checkpoint(slot).await.unwrap(), part.stored);
        assert_eq!(store.start(slot).await.unwrap(), part.start);
        let first = part.start.first as usize;
        assert_eq!(store.read(slot, 0, usize::MAX).await.unwrap(), part.log[first..]);
        let middle = first + (part.log.len() - first) / 2;
        let three: Vec<_> = part.log.iter().skip(middle).take(3).cloned().collect();
        assert_eq!(store.read(slot, middle as u64, 3).await.unwrap(), three);
        let rows: Vec<_> = part.rows.values().cloned().collect();
        assert_eq!(store.rows(slot, None, usize::MAX).await.unwrap(), rows);
        if let Some(first) = rows.first() {
            let after: Vec<_> = rows.iter().skip(1).take(2).cloned().collect();
            assert_eq!(store.rows(slot, Some(first.device), 2).await.unwrap(), after);
        }
    }
}

type InMemory = Against<Memory>;
type InRedb = Against<common::place::Redb>;

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn the_store_in_memory_does_as_the_model(sequential 1..40 => InMemory);
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn redb_does_as_the_model(sequential 1..40 => InRedb);
}

#[cfg(feature = "mongodb")]
mod mongo {
    use super::*;

    type InMongo = Against<common::place::Mongo>;

    prop_state_machine! {
        #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]
        fn as_the_model(sequential 1..40 => InMongo);
    }

    #[test]
    fn mongodb_does_as_the_model() {
        if common::place::Mongo::available() {
            as_the_model();
        }
    }
}
