//! A store that takes its time and has mishaps: what stands between the ingest loop and the store that it uses.

use std::collections::VecDeque;
use std::future::pending;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rollcall_host::log::devices::DeviceView;
use rollcall_host::log::plan::{Plan, Upto, View};
use rollcall_host::log::rollup::Chunk;
use rollcall_host::log::row::Row;
use rollcall_host::log::start::{Cut, Identity, Start};
use rollcall_host::log::{Beyond, Checkpoint, LogStore, MemoryStore, RedbStore, RowWrite, StoreError};
use rollcall_host::model::Entry;
use rollcall_wire::{DeviceId, Slot};
use tokio::sync::Notify;

use crate::chance::Chance;
use crate::coverage::Kind;
use crate::disk::Disk;
use crate::oracle::Blind;
use crate::scene::Scene;
use crate::time::{now_ms, sleep};

/// So many of a thousand changes are followed by a look.
const LOOKS_PERMILLE: u64 = 1;

/// A store of one of the two kinds, as it is.
#[derive(Clone)]
pub(crate) enum Store {
    /// It outlives the host, as a database does.
    Memory(Arc<MemoryStore>),
    /// It is a part of the host.
    Redb(RedbStore),
}

/// What a mishap befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Append,
    Read,
    Roll,
    Rows,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Nothing is done.
    Refuse,
    /// All is done, and the answer is lost.
    LoseReply,
    /// One entry is appended, and the answer is lost.
    Tear,
    /// The process dies before it is done.
    DieBefore,
    /// The process dies when it is done.
    DieAfter,
    /// The caller panics.
    Panic,
}

/// How the stores of a run are, whoever uses them.
#[derive(Clone)]
pub(crate) struct Conditions(Arc<Mutex<State>>);

struct State {
    /// How long a call takes before and after its work, at most.
    delay_ms: u64,
    slow_until_ms: u64,
    slow_ms: u64,
    mishaps: VecDeque<(Call, Mishap)>,
    chance: Chance,
}

impl Conditions {
    pub(crate) fn new(delay_ms: u64, chance: Chance) -> Self {
        let (slow_until_ms, slow_ms, mishaps) = Default::default();
        Self(Arc::new(Mutex::new(State { delay_ms, slow_until_ms, slow_ms, mishaps, chance })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call of this kind goes wrong.
    pub(crate) fn expect(&self, call: Call, mishap: Mishap) {
        self.lock().mishaps.push_back((call, mishap));
    }

    /// Until then, calls take up to so much longer.
    pub(crate) fn slow(&self, until_ms: u64, more_ms: u64) {
        let mut state = self.lock();
        (state.slow_until_ms, state.slow_ms) = (until_ms, more_ms);
    }

    /// All goes well from now on.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        state.mishaps.clear();
        state.slow_until_ms = 0;
    }

    async fn delay(&self) {
        let ms = {
            let mut state = self.lock();
            let slow = if now_ms() < state.slow_until_ms { state.slow_ms } else { 0 };
            let most = state.delay_ms + slow;
            state.chance.below(most + 1)
        };
        if ms > 0 {
            sleep(ms).await;
        }
    }

    fn next(&self, call: Call) -> Option<Mishap> {
        let mut state = self.lock();
        let at = state.mishaps.iter().position(|(of, _)| *of == call)?;
        state.mishaps.remove(at).map(|(_, mishap)| mishap)
    }

    fn looks_now(&self) -> Option<Chance> {
        let mut state = self.lock();
        (state.chance.below(1_000) < LOOKS_PERMILLE).then(|| state.chance.fork())
    }
}

/// A store as one process uses it.
pub(crate) struct Faulty {
    pub(crate) store: Store,
    pub(crate) scene: Arc<Scene>,
    pub(crate) conditions: Conditions,
    /// Hears that the process is to die.
    pub(crate) doom: Arc<Notify>,
    /// The disk below it, if there is one.
    pub(crate) disk: Option<Disk>,
    /// How often its caller was made to panic.
    pub(crate) panics: Arc<AtomicU64>,
}

impl Faulty {
    /// What comes before the work of a call.
    async fn begin(&self, call: Call) -> Result<Option<Mishap>, StoreError> {
        self.conditions.delay().await;
        let mishap = self.conditions.next(call);
        if let Some(mishap) = mishap {
            self.scene.fired(kind(call, mishap));
        }
        match mishap {
            Some(Mishap::Refuse) => Err(lost("refused")),
            Some(Mishap::DieBefore) => self.die().await,
            Some(Mishap::Panic) => self.panic(),
            Some(Mishap::LoseReply | Mishap::Tear | Mishap::DieAfter) | None => Ok(mishap),
        }
    }

    /// What comes after it.
    async fn end<T>(
        &self,
        call: Call,
        mishap: Option<Mishap>,
        done: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.look(call);
        if let Err(StoreError::Corrupt(reason)) = &done
            && !self.disk.as_ref().is_some_and(Disk::has_flipped)
        {
            self.scene.fail("corrupt", reason.clone());
        }
        self.conditions.delay().await;
        match mishap {
            Some(Mishap::LoseReply | Mishap::Tear) => Err(lost("the answer is lost")),
            Some(Mishap::DieAfter) => self.die().await,
            _ => done,
        }
    }

    async fn call<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mishap = self.begin(call).await?;
        let done = work.await;
        self.end(call, mishap, done).await
    }

    async fn die(&self) -> ! {
        self.doom.notify_one();
        pending().await
    }

    #[expect(clippy::panic, reason = "the fault is a panic")]
    fn panic(&self) -> ! {
        self.panics.fetch_add(1, Ordering::Relaxed);
        panic!("injected")
    }

    /// Looks at the store now and then, in the middle of whatever the ingest loop does.
    fn look(&self, call: Call) {
        if call == Call::Read || !self.disk.as_ref().is_none_or(Disk::is_well) {
            return;
        }
        if let Some(mut chance) = self.conditions.looks_now() {
            let looked = self.scene.oracle().look(&self.store, &mut chance);
            if let Err(Blind::Failure(failure)) = looked {
                self.scene.expect(Err(failure));
            }
        }
    }

    fn note(&self, what: &str, done: &Result<impl std::fmt::Debug, StoreError>) {
        self.scene.note(format_args!("store {what}: {done:?}"));
    }
}

fn lost(what: &str) -> StoreError {
    StoreError::Unavailable(format!("injected: {what}"))
}

fn kind(call: Call, mishap: Mishap) -> Kind {
    match (mishap, call) {
        (Mishap::Refuse, Call::Append) => Kind::AppendRefused,
        (Mishap::Refuse, Call::Read) => Kind::ReadRefused,
        (Mishap::Refuse, Call::Roll) => Kind::RollRefused,
        (Mishap::Refuse, Call::Rows) => Kind::RowsRefused,
        (Mishap::LoseReply, _) => Kind::ReplyLost,
        (Mishap::Tear, _) => Kind::AppendTorn,
        (Mishap::DieBefore, _) => Kind::KilledBeforeStoring,
        (Mishap::DieAfter, _) => Kind::KilledAfterStoring,
        (Mishap::Panic, _) => Kind::IngestPanic,
    }
}

/// Does the same with a store of each kind.
macro_rules! each {
    ($any:expr, $store:ident => $work:expr) => {
        match $any {
            Store::Memory($store) => $work,
            Store::Redb($store) => $work,
        }
    };
}

impl LogStore for Store {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        each!(self, store => store.append(entries).await)
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        each!(self, store => store.read(slot, from, limit).await)
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        each!(self, store => store.checkpoint(slot).await)
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        each!(self, store => store.apply(chunks).await)
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        each!(self, store => store.rows(slot, after, limit).await)
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        each!(self, store => store.first_rows(after, limit).await)
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        each!(self, store => store.write_rows(writes).await)
    }

    async fn beyond_rows(&self, slots: &[Slot], known: Option<&Upto>) -> Result<Beyond, StoreError> {
        each!(self, store => store.beyond_rows(slots, known).await)
    }

    async fn devices(&self, devices: &[DeviceId], hours: Range<u32>) -> Result<Vec<DeviceView>, StoreError> {
        each!(self, store => store.devices(devices, hours).await)
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        each!(self, store => store.view(plan).await)
    }

    async fn start(&self, slot: Slot) -> Result<Start, StoreError> {
        each!(self, store => store.start(slot).await)
    }

    async fn cut(&self, cut: &Cut) -> Result<bool, StoreError> {
        each!(self, store => store.cut(cut).await)
    }

    async fn release(&self, slot: Slot, below: u64) -> Result<bool, StoreError> {
        each!(self, store => store.release(slot, below).await)
    }

    async fn imported(&self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
        each!(self, store => store.imported(identities).await)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        each!(self, store => store.ping().await)
    }
}

impl LogStore for Faulty {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        let mishap = self.begin(Call::Append).await?;
        let written = if mishap == Some(Mishap::Tear) { &entries[..entries.len().min(1)] } else { entries };
        let done = self.store.append(written).await;
        let done = self.end(Call::Append, mishap, done).await;
        self.scene.note(format_args!("store appends {}: {done:?}", Numbers(entries)));
        done
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.call(Call::Read, self.store.read(slot, from, limit)).await
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        let done = self.call(Call::Read, self.store.checkpoint(slot)).await;
        self.note("checkpoint", &done);
        done
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        let done = self.call(Call::Roll, self.store.apply(chunks)).await;
        self.note("rolls up", &done);
        done
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.call(Call::Read, self.store.rows(slot, after, limit)).await
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.call(Call::Read, self.store.first_rows(after, limit)).await
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        let done = self.call(Call::Rows, self.store.write_rows(writes)).await;
        self.note("writes rows", &done);
        done
    }

    async fn beyond_rows(&self, slots: &[Slot], known: Option<&Upto>) -> Result<Beyond, StoreError> {
        self.store.beyond_rows(slots, known).await
    }

    async fn devices(&self, devices: &[DeviceId], hours: Range<u32>) -> Result<Vec<DeviceView>, StoreError> {
        self.store.devices(devices, hours).await
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        self.store.view(plan).await
    }

    async fn start(&self, slot: Slot) -> Result<Start, StoreError> {
        self.store.start(slot).await
    }

    async fn cut(&self, cut: &Cut) -> Result<bool, StoreError> {
        self.store.cut(cut).await
    }

    async fn release(&self, slot: Slot, below: u64) -> Result<bool, StoreError> {
        self.store.release(slot, below).await
    }

    async fn imported(&self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
        self.store.imported(identities).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}

/// The entries by slot and number.
struct Numbers<'a>(&'a [Entry]);

impl std::fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|entry| write!(f, "{}/{}({}) ", entry.slot, entry.number, entry.records.len()))
    }
}
