//! A gateway over real sockets, alone or with all that follows it over a store in memory.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_host::intake::{FlushInterval, keep_storing};
use rollcall_host::log::{LogStore, MemoryStore};
use rollcall_host::model::{Clock, Message, Record, WriterId};
use rollcall_host::ops::{GivenUp, Ops};
use rollcall_host::source::gateway::Gateway;
use rollcall_host::source::{self, Credentials, Inbox, LogState, RunningSource, Source};
use rollcall_wire::Slot;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A number that is not there after this long does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway that takes messages.
pub(crate) struct Open {
    address: SocketAddr,
    pub(crate) source: Box<dyn RunningSource>,
}

impl Open {
    pub(crate) fn new(gateway: Gateway) -> Self {
        let address = gateway.address();
        Self { address, source: Box::new(gateway).start(LogState::Empty) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

pub(crate) fn start(credentials: Option<Credentials>, inbox: Inbox) -> Open {
    Open::new(bound(credentials, inbox))
}

pub(crate) fn bound(credentials: Option<Credentials>, inbox: Inbox) -> Gateway {
    bound_with(credentials, inbox, Arc::default())
}

pub(crate) fn bound_with(credentials: Option<Credentials>, inbox: Inbox, ops: Arc<Ops>) -> Gateway {
    Gateway::bind(TcpListener::bind("127.0.0.1:0").unwrap(), credentials, inbox, ops).unwrap()
}

/// A gateway whose messages the test settles itself.
pub(crate) fn gateway() -> (Open, mpsc::Receiver<Message>) {
    let (inbox, messages) = source::inbox();
    (start(None, inbox), messages)
}

/// Takes messages to a store from now on.
pub(crate) fn ingest<S: LogStore>(
    store: Arc<S>,
    messages: mpsc::Receiver<Message>,
    ops: Arc<Ops>,
) -> JoinHandle<Result<(), GivenUp>> {
    tokio::spawn(keep_storing(
        store,
        messages,
        FlushInterval::default(),
        WriterId::draw(),
        Clock::system(),
        ops,
        oneshot::channel().0,
    ))
}

/// A gateway with all that follows it, over a store in memory.
pub(crate) struct Host {
    runtime: tokio::runtime::Runtime,
    gateway: Open,
    ingest: JoinHandle<Result<(), GivenUp>>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) ops: Arc<Ops>,
}

impl Host {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (store, ops) = (Arc::new(MemoryStore::default()), Arc::new(Ops::default()));
        let (inbox, messages) = source::inbox();
        let gateway = Open::new(bound_with(None, inbox, ops.clone()));
        let ingest = runtime.spawn(keep_storing(
            store.clone(),
            messages,
            FlushInterval::default(),
            WriterId::draw(),
            Clock::system(),
            ops.clone(),
            oneshot::channel().0,
        ));
        Self { runtime, gateway, ingest, store, ops }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Drains, and tells what is in the store.
    pub(crate) fn finish(self) -> Vec<Record> {
        self.runtime.block_on(async {
            self.gateway.source.drain().await;
            self.ingest.await.unwrap().unwrap();
            logged(&*self.store).await
        })
    }
}

/// Every record in the log of every slot.
pub(crate) async fn logged<S: LogStore>(store: &S) -> Vec<Record> {
    let mut records = Vec::new();
    for slot in Slot::all() {
        let entries = store.read(slot, 0, usize::MAX).await.unwrap();
        records.extend(entries.into_iter().flat_map(|entry| entry.records));
    }
    records.sort_by_key(|record| (record.device, record.id));
    records
}

/// Waits until the process shows a number.
pub(crate) fn wait(ops: &Ops, line: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !ops.metrics.text(true).lines().any(|is| is == line) {
        assert!(Instant::now() < deadline, "waited in vain for {line}:\n{}", ops.metrics.text(true));
        std::thread::yield_now();
    }
}
