//! The property over real sockets: the gateway, clients of both versions, and hosts that end and come again.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rollcall_host::ops::GivenUp;
use rollcall_host::source;
use rollcall_wire::DeviceId;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::client::{Host, Script};
use super::host::{Open, ingest, start};
use super::oracle::{Held, Oracle, held};
use super::store::{Call, Fault, UnsteadyStore};

/// How long cases are tried; `ROLLCALL_SOCKET_SECONDS` says otherwise.
const SECONDS: u64 = 60;

/// Fewer are no test.
const CASES_MIN: u64 = 100;

/// How often is looked whether it is time for a restart.
pub(crate) const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Cases at a time: most of each is waiting.
const LANES: usize = 4;

#[test]
fn what_was_acknowledged_over_sockets_is_counted_once_or_listed_as_undecided() {
    let seed = rollcall_harness::seed();
    let seconds = rollcall_harness::number_from_environment("ROLLCALL_SOCKET_SECONDS").unwrap_or(SECONDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let next = AtomicU64::new(0);
    let (cases, sums) = (AtomicU64::new(0), Mutex::new(Sums::default()));
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while Instant::now() < deadline || cases.load(Ordering::Relaxed) < CASES_MIN {
                    let case = Case { seed: seed.wrapping_add(next.fetch_add(1, Ordering::Relaxed)) };
                    let sum = case.run(runtime.handle());
                    sums.lock().unwrap().add(&sum);
                    cases.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap();
    println!("{} cases: {sums:?}", cases.into_inner());
    let Sums { answered, counted, undecided, refused, restarts } = sums;
    let reached = [answered, counted, undecided, refused, restarts];
    assert!(!reached.contains(&0), "this tests less than it is to: {reached:?}");
}

/// What all cases together came to, so that a test which tests nothing shows.
#[derive(Debug, Default)]
struct Sums {
    answered: u64,
    counted: u64,
    undecided: u64,
    refused: u64,
    restarts: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.counted += other.counted;
        self.undecided += other.undecided;
        self.refused += other.refused;
        self.restarts += other.restarts;
    }
}

/// One run of a few clients. If it fails, it says with which seed it is run again.
struct Case {
    seed: u64,
}

impl Drop for Case {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the case alone: ROLLCALL_SEED={}", self.seed);
        }
    }
}

/// Gateway and intake of one process, in this one.
struct Running {
    gateway: Open,
    ingest: JoinHandle<Result<(), GivenUp>>,
}

impl Running {
    fn start(store: &Arc<UnsteadyStore>, host: &Host) -> Self {
        let (inbox, messages) = source::inbox();
        let ingest = ingest(store.clone(), messages, Arc::default());
        let gateway = start(None, inbox);
        *host.address.lock().unwrap() = Some(gateway.address());
        Self { gateway, ingest }
    }

    async fn drain(self, host: &Host) {
        *host.address.lock().unwrap() = None;
        self.gateway.source.drain().await;
        self.ingest.await.expect("no panic").expect("it goes on whatever the store does");
    }

    /// As with `kill -9`: nothing is stored or answered any more.
    async fn crash(self, host: &Host) {
        *host.address.lock().unwrap() = None;
        self.ingest.abort();
        assert!(self.ingest.await.is_err_and(|error| error.is_cancelled()), "it ended by itself");
        drop(self.gateway);
    }
}

impl Case {
    fn run(&self, runtime: &Handle) -> Sums {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let store = Arc::new(UnsteadyStore::new(random.fork(), random.clone().u8(..4)));
        if random.u8(..8) == 0 {
            let fault = random.choice([Fault::FailBefore, Fault::FailAfter, Fault::Tear(1)]).unwrap();
            store.inject(random.u32(..20), Call::Append, fault);
        }
        let host = Host { address: Mutex::default(), answered: AtomicU64::new(0) };
        let devices = [0, 1].map(|number| DeviceId::new(&format!("device-{number}")).unwrap());
        let scripts: Vec<_> = (0..random.usize(2..6)).map(|_| Script::new(&mut random, &devices)).collect();
        let restarts = random.choice([0, 0, 1, 2]).unwrap();
        let mut oracle = Oracle::default();
        let _runtime = runtime.enter();
        let mut running = Running::start(&store, &host);
        let running = thread::scope(|scope| {
            let clients: Vec<_> = scripts
                .iter()
                .enumerate()
                .map(|(number, script)| {
                    let (script, host, random) = (script.clone(), &host, random.fork());
                    scope.spawn(move || script.run(host, &format!("client-{number}"), random))
                })
                .collect();
            for _ in 0..restarts {
                let goal = host.answered.load(Ordering::Relaxed) + random.u64(..60);
                while host.answered.load(Ordering::Relaxed) < goal
                    && !clients.iter().all(|client| client.is_finished())
                {
                    thread::sleep(LOOK_EVERY);
                }
                if random.bool() {
                    runtime.block_on(running.crash(&host));
                } else {
                    runtime.block_on(running.drain(&host));
                }
                running = Running::start(&store, &host);
            }
            clients.into_iter().for_each(|client| oracle.add(client.join().unwrap()));
            running
        });
        let held = runtime.block_on(async {
            running.drain(&host).await;
            store.recover();
            held(&*store).await
        });
        oracle.check(&held);
        if restarts == 0 {
            check_bursts(&scripts, &held);
        }
        Sums {
            answered: host.answered.into_inner(),
            counted: held.counted.len() as u64,
            undecided: held.undecided.len() as u64,
            refused: oracle.refused.len() as u64,
            restarts,
        }
    }
}

/// No acknowledgement of QoS 0 says so, but without a fault what arrived whole is there.
fn check_bursts(scripts: &[Script], held: &Held) {
    for script in scripts.iter().filter(|script| script.qos == 0) {
        for name in &script.names {
            assert!(held.counted.contains(name) || held.undecided.contains(name), "{name:?} is lost");
        }
    }
}
