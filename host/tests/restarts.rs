//! Parts that die: readiness says so, they are started again, and nothing that was acknowledged is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/host.rs"]
mod host;

use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use host::{Open, bound_with, ingest, logged};
use rollcall_harness::mqtt::{Client, PUBACK, Version, publish};
use rollcall_host::log::devices::DeviceView;
use rollcall_host::log::plan::{Plan, Upto, View};
use rollcall_host::log::rollup::Chunk;
use rollcall_host::log::row::Row;
use rollcall_host::log::start::{Cut, Identity, Start};
use rollcall_host::log::{Beyond, Checkpoint, LogStore, MemoryStore, RowWrite, StoreError};
use rollcall_host::model::{Entry, Verdict};
use rollcall_host::ops::{GivenUp, Ops};
use rollcall_host::source::gateway::{Gateway, GatewayFault};
use rollcall_host::source::{self, Again, Inbox, LogState, Source, keep_running};
use rollcall_wire::{DeviceId, Kind, Slot, Topic};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What has not happened after this long does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn topic() -> String {
    Topic { device: DeviceId::new("sim-0").unwrap(), kind: Kind::Status }.name().to_string()
}

fn sample(seq: u64) -> Vec<u8> {
    format!(r#"{{"status":3,"seq":{seq},"boot":"9f3c5a0be1d24c77","age_ms":0}}"#).into_bytes()
}

fn good(seq: u16) -> Vec<u8> {
    publish(Version::V5, seq + 1, &topic(), &sample(seq.into()), None)
}

/// Lets others run until it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn shows(ops: &Ops, line: &str) -> bool {
    ops.metrics.text(true).lines().any(|is| is == line)
}

/// A gateway that is kept running, and what makes the present one fail.
struct Kept {
    address: SocketAddr,
    faults: Arc<Mutex<Vec<GatewayFault>>>,
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<(), GivenUp>>,
}

impl Kept {
    fn start(inbox: Inbox, ops: Arc<Ops>) -> Self {
        let first = bound_with(None, inbox.clone(), ops.clone());
        let (address, faults) = (first.address(), Arc::new(Mutex::new(vec![first.fault()])));
        let (again_ops, again_faults) = (ops.clone(), faults.clone());
        let again: Again = Box::new(move || {
            let listener = TcpListener::bind(address).map_err(|error| error.to_string())?;
            let gateway = Gateway::bind(listener, None, inbox.clone(), again_ops.clone());
            let gateway = gateway.map_err(|error| error.to_string())?;
            again_faults.lock().unwrap().push(gateway.fault());
            Ok(Box::new(gateway) as Box<dyn Source>)
        });
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(keep_running(Box::new(first), again, LogState::Empty, ops, stopped));
        Self { address, faults, stop, running }
    }

    fn fail(&self) {
        self.faults.lock().unwrap().pop().expect("there is a gateway").inject();
    }
}

/// Runs what blocks beside the parts.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Connects, as often as it takes.
async fn connect(address: SocketAddr) -> Client {
    let deadline = Instant::now() + PATIENCE;
    blocking(move || {
        loop {
            if let Some(client) = Client::try_connect(address, Version::V5) {
                return client;
            }
            assert!(Instant::now() < deadline, "nobody takes connections");
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_panics_is_started_again_at_the_same_port_and_what_it_took_is_stored() {
    let (store, ops) = (Arc::new(MemoryStore::default()), Arc::new(Ops::default()));
    let (inbox, mut messages) = source::inbox();
    let kept = Kept::start(inbox, ops.clone());
    let mut client = connect(kept.address).await;
    client.send(&good(0));
    // Held here for as long as there is no gateway that could acknowledge it.
    let taken = messages.recv().await.unwrap();
    kept.fail();
    until("readiness says so", || ops.reason().is_some()).await;
    let reason = ops.reason().unwrap();
    assert!(reason.contains("source of messages failed and is started again"), "{reason}");
    assert!(blocking(move || client.receive()).await.is_none(), "its connection outlived the gateway");
    until("it is ready again", || ops.reason().is_none()).await;
    assert!(shows(&ops, "rollcall_restarts_total{part=\"source\"} 1"));
    until("its connections are gone", || shows(&ops, "rollcall_connections_open 0")).await;
    taken.ack.settle(Verdict::Accepted);

    let ingest = ingest(store.clone(), messages, ops.clone());
    let mut client = connect(kept.address).await;
    for seq in 0..10 {
        let puback;
        (client, puback) = blocking(move || {
            client.send(&good(seq));
            let puback = client.receive().unwrap();
            (client, puback)
        })
        .await;
        assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0));
    }
    kept.stop.send_replace(true);
    kept.running.await.unwrap().unwrap();
    ingest.await.unwrap().unwrap();
    assert_eq!(logged(&*store).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_panics_again_and_again_is_given_up_with_its_reason() {
    let ops = Arc::new(Ops::default());
    let (inbox, _messages) = source::inbox();
    let kept = Kept::start(inbox, ops.clone());
    let faults = kept.faults.clone();
    let failing = tokio::spawn(async move {
        loop {
            if let Some(fault) = faults.lock().unwrap().pop() {
                fault.inject();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let error = kept.running.await.unwrap().unwrap_err().to_string();
    failing.abort();
    assert!(error.contains("the source of messages failed 5 times within 60 s"), "{error}");
    assert!(shows(&ops, "rollcall_restarts_total{part=\"source\"} 4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_taken_meanwhile_makes_the_process_end_with_that_reason() {
    let ops = Arc::new(Ops::default());
    let (inbox, _messages) = source::inbox();
    let first = bound_with(None, inbox, ops.clone());
    let fault = first.fault();
    let again: Again = Box::new(|| Err("cannot listen on 127.0.0.1:1883".to_owned()));
    let (_stop, stopped) = watch::channel(false);
    let running = tokio::spawn(keep_running(Box::new(first), again, LogState::Empty, ops, stopped));
    fault.inject();
    let error = running.await.unwrap().unwrap_err().to_string();
    assert!(error.ends_with("at last: cannot listen on 127.0.0.1:1883"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_works_while_a_source_waits_to_be_started_again() {
    let ops = Arc::new(Ops::default());
    let (inbox, mut messages) = source::inbox();
    let kept = Kept::start(inbox, ops.clone());
    kept.fail();
    until("it waits", || shows(&ops, "rollcall_restarts_total{part=\"source\"} 1")).await;
    kept.stop.send_replace(true);
    kept.running.await.unwrap().unwrap();
    assert!(messages.recv().await.is_none(), "the inbox is still open");
}

/// A store that panics while it should append, so many times.
struct Panicking {
    panics: AtomicUsize,
    store: MemoryStore,
}

impl Panicking {
    fn new(panics: usize) -> Arc<Self> {
        Arc::new(Self { panics: AtomicUsize::new(panics), store: MemoryStore::default() })
    }
}

impl LogStore for Panicking {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        let left = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "injected into the ingest loop");
        self.store.append(entries).await
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.read(slot, from, limit).await
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        self.store.checkpoint(slot).await
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        self.store.apply(chunks).await
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.rows(slot, after, limit).await
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.first_rows(after, limit).await
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        self.store.write_rows(writes).await
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

#[tokio::test(flavor = "multi_thread")]
async fn when_the_ingest_loop_panics_what_it_held_is_not_acknowledged_and_what_waited_is_stored() {
    let (store, ops) = (Panicking::new(1), Arc::new(Ops::default()));
    let (inbox, messages) = source::inbox();
    let gateway = Open::new(bound_with(None, inbox.clone(), ops.clone()));
    let ingest = ingest(store.clone(), messages, ops.clone());
    let mut held = connect(gateway.address()).await;
    held.send(&good(0));
    until("readiness says so", || ops.reason().is_some()).await;
    assert!(ops.reason().unwrap().contains("injected into the ingest loop"));
    // What comes meanwhile waits in the inbox.
    let mut waiting = connect(gateway.address()).await;
    waiting.send(&good(1));
    let puback = blocking(move || waiting.receive().unwrap()).await;
    assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0));
    assert_eq!(ops.reason(), None);
    blocking(move || {
        while let Some(packet) = held.receive() {
            assert_ne!(packet.kind(), PUBACK)
        }
    })
    .await;
    assert!(shows(&ops, "rollcall_restarts_total{part=\"ingest\"} 1"));
    assert!(shows(&ops, "rollcall_messages_dropped_total{reason=\"ingest_failed\"} 1"));

    // As a device does, which has no acknowledgement.
    let mut again = connect(gateway.address()).await;
    again.send(&good(0));
    assert_eq!(blocking(move || again.receive().unwrap()).await.reason(), 0);
    gateway.source.drain().await;
    drop(inbox);
    ingest.await.unwrap().unwrap();
    assert_eq!(logged(&*store).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_an_ingest_loop_that_is_started_again() {
    let (store, ops) = (Panicking::new(1), Arc::new(Ops::default()));
    let (inbox, messages) = source::inbox();
    let gateway = Open::new(bound_with(None, inbox, ops.clone()));
    let ingest = ingest(store.clone(), messages, ops.clone());
    let mut held = connect(gateway.address()).await;
    held.send(&good(0));
    until("the loop has failed", || shows(&ops, "rollcall_restarts_total{part=\"ingest\"} 1")).await;
    let mut waiting = connect(gateway.address()).await;
    waiting.send(&good(1));
    until("a message waits", || shows(&ops, "rollcall_messages_received_total 2")).await;
    gateway.source.drain().await;
    ingest.await.unwrap().unwrap();
    assert_eq!(blocking(move || waiting.receive().unwrap()).await.kind(), PUBACK);
    assert_eq!(logged(&*store).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_loop_that_panics_at_each_message_is_given_up_with_its_reason() {
    let (store, ops) = (Panicking::new(usize::MAX), Arc::new(Ops::default()));
    let (inbox, messages) = source::inbox();
    let gateway = Open::new(bound_with(None, inbox, ops.clone()));
    let ingest = ingest(store, messages, ops.clone());
    // A device goes on to send what nobody acknowledges.
    let address = gateway.address();
    let sending = tokio::spawn(async move {
        loop {
            let mut client = connect(address).await;
            client.send(&good(0));
            blocking(move || while client.receive().is_some() {}).await;
        }
    });
    let error = ingest.await.unwrap().unwrap_err().to_string();
    sending.abort();
    assert!(error.contains("the ingest loop failed 5 times within 60 s"), "{error}");
    assert!(error.contains("injected into the ingest loop"), "{error}");
    assert!(ops.reason().unwrap().contains("ingest loop"));
}
