//! A store in memory that fails as real ones do, at any of its calls, and lets others go on in between.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use rollcall_host::log::devices::DeviceView;
use rollcall_host::log::plan::{Plan, Upto, View};
use rollcall_host::log::rollup::Chunk;
use rollcall_host::log::row::Row;
use rollcall_host::log::start::{Cut, Identity, Start};
use rollcall_host::log::{Beyond, Checkpoint, LogStore, MemoryStore, RowWrite, StoreError};
use rollcall_host::model::Entry;
use rollcall_wire::{DeviceId, Slot};

/// What a call does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    FailBefore,
    /// All of it, and the answer is lost.
    FailAfter,
    /// So many of its entries, chunks, or rows of each slot, and no checkpoint.
    Tear(usize),
    /// Nothing, and of what was made from the log only so many writes are left, in percent: as the embedded store
    /// forgets, after an error of its disk, what needed no durability of its own.
    Forget(usize),
}

/// A kind of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Each call is.
    Any,
    Append,
    /// Rows are written.
    Rows,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct UnsteadyStore(Mutex<State>);

#[derive(Debug)]
struct State {
    store: Arc<MemoryStore>,
    made: Vec<Made>,
    /// After how many further calls of which kind the next one comes.
    faults: VecDeque<(u32, Call, Fault)>,
    /// How often others go on before and after a call: at most so often.
    pauses: (fastrand::Rng, u8),
}

/// A write of what is made from the log.
#[derive(Clone, Debug)]
enum Made {
    Windows(Vec<Chunk>),
    Rows(Vec<RowWrite>),
}

/// Every task that can go on does, once. As `yield_now`, without asking the driver for the time.
pub(crate) async fn others_go_on() {
    let mut is_second = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_second, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl UnsteadyStore {
    pub(crate) fn new(random: fastrand::Rng, pauses_max: u8) -> Self {
        Self(Mutex::new(State {
            store: Arc::default(),
            made: Vec::new(),
            faults: VecDeque::new(),
            pauses: (random, pauses_max),
        }))
    }

    /// The call of this kind after `calls` others of it fails; several faults queue up.
    pub(crate) fn inject(&self, calls: u32, of: Call, fault: Fault) {
        self.state().faults.push_back((calls, of, fault));
    }

    /// No call fails any more.
    pub(crate) fn recover(&self) {
        self.state().faults.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pause(&self) {
        let pauses = {
            let (random, most) = &mut self.state().pauses;
            random.u8(..=*most)
        };
        for _ in 0..pauses {
            others_go_on().await;
        }
    }

    async fn call<T>(
        &self,
        call: Call,
        work: impl AsyncFnOnce(&MemoryStore, Option<usize>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.pause().await;
        let (store, fault) = {
            let mut state = self.state();
            let next = state.faults.pop_front_if(|(calls, of, _)| {
                let concerns = *of == Call::Any || *of == call;
                let is_now = concerns && *calls == 0;
                *calls -= u32::from(concerns && !is_now);
                is_now
            });
            (state.store.clone(), next.map(|(.., fault)| fault))
        };
        let done = match fault {
            None => work(&store, None).await,
            Some(fault) => {
                match fault {
                    Fault::FailBefore => {}
                    Fault::FailAfter => drop(work(&store, None).await),
                    Fault::Tear(entries) => drop(work(&store, Some(entries)).await),
                    Fault::Forget(percent) => self.forget(percent).await,
                }
                Err(StoreError::Unavailable(format!("injected: {fault:?}")))
            }
        };
        self.pause().await;
        done
    }

    async fn forget(&self, percent: usize) {
        let (old, made) = {
            let mut state = self.state();
            let kept = state.made.len() * percent / 100;
            state.made.truncate(kept);
            (state.store.clone(), state.made.clone())
        };
        let store = MemoryStore::default();
        for slot in Slot::all() {
            for entry in old.read(slot, 0, usize::MAX).await.unwrap() {
                store.append(&[entry]).await.unwrap();
            }
        }
        for made in made {
            match made {
                Made::Windows(chunks) => store.apply(&chunks).await.unwrap(),
                Made::Rows(writes) => store.write_rows(&writes).await.unwrap(),
            }
        }
        self.state().store = Arc::new(store);
    }
}

impl LogStore for UnsteadyStore {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        let most = entries.len();
        self.call(Call::Any, async |store, torn| {
            store.append(&entries[..torn.map_or(most, |torn| torn.min(most))]).await
        })
        .await
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.call(Call::Any, async |store, _| store.read(slot, from, limit).await).await
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        self.call(Call::Any, async |store, _| store.checkpoint(slot).await).await
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        self.call(Call::Any, async |store, torn| {
            let chunks = &chunks[..torn.map_or(chunks.len(), |torn| torn.min(chunks.len()))];
            store.apply(chunks).await?;
            self.state().made.push(Made::Windows(chunks.to_vec()));
            Ok(())
        })
        .await
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.call(Call::Any, async |store, _| store.rows(slot, after, limit).await).await
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.call(Call::Any, async |store, _| store.first_rows(after, limit).await).await
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        self.call(Call::Rows, async |store, torn| {
            let mut writes = writes.to_vec();
            if let Some(torn) = torn {
                writes.iter_mut().for_each(|write| write.rows.truncate(torn));
                writes.iter_mut().for_each(|write| write.checkpoint = None);
            }
            store.write_rows(&writes).await?;
            self.state().made.push(Made::Rows(writes));
            Ok(())
        })
        .await
    }

    async fn beyond_rows(&self, slots: &[Slot], known: Option<&Upto>) -> Result<Beyond, StoreError> {
        let store = self.state().store.clone();
        store.beyond_rows(slots, known).await
    }

    async fn devices(&self, devices: &[DeviceId], hours: Range<u32>) -> Result<Vec<DeviceView>, StoreError> {
        let store = self.state().store.clone();
        store.devices(devices, hours).await
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        let store = self.state().store.clone();
        store.view(plan).await
    }

    async fn start(&self, slot: Slot) -> Result<Start, StoreError> {
        let store = self.state().store.clone();
        store.start(slot).await
    }

    async fn cut(&self, cut: &Cut) -> Result<bool, StoreError> {
        let store = self.state().store.clone();
        store.cut(cut).await
    }

    async fn release(&self, slot: Slot, below: u64) -> Result<bool, StoreError> {
        let store = self.state().store.clone();
        store.release(slot, below).await
    }

    async fn imported(&self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
        let store = self.state().store.clone();
        store.imported(identities).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
