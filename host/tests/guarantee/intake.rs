//! The property in memory: the real intake over a store that fails, in 10,000 random histories.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rollcall_host::intake::keep_storing;
use rollcall_host::log::LogStore;
use rollcall_host::model::{Ack, Clock, Entry, Message, Moment, Retain, Sender, UnixMs, Verdict, WriterId};
use rollcall_host::ops::GivenUp;
use rollcall_host::source::{self, Inbox};
use rollcall_wire::{BootId, DeviceId, Kind, SampleId, Sequence, Slot, Topic};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::history::{Connection, Content, History, Order, Step, history};
use super::oracle::{Held, Oracle, held};
use super::store::{UnsteadyStore, others_go_on};

/// Of the 10,000, so many have one worker and so many have two.
const HISTORIES: u32 = 5_000;

/// When the first message comes.
const START_MS: u64 = 1_721_900_000_000;

/// Rows of a small fleet are written after 5 s.
const ROWS_ARE_DUE: Duration = Duration::from_secs(6);

/// More failures in a row than a history has are not waited for.
const PATIENCE: Duration = Duration::from_secs(3600);

#[test]
fn what_was_acknowledged_is_counted_once_or_listed_as_undecided_whatever_one_worker_met() {
    live_through_histories(1);
}

#[test]
fn what_was_acknowledged_is_counted_once_or_listed_as_undecided_whatever_two_workers_of_a_slot_met() {
    live_through_histories(2);
}

fn live_through_histories(workers: usize) {
    let mut seed = [workers as u8; 32];
    seed[..8].copy_from_slice(&rollcall_harness::seed().to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let config = Config { cases: HISTORIES, failure_persistence: None, ..Config::default() };
    let sums = RefCell::new(Sums::default());
    let outcome = TestRunner::new_with_rng(config, random).run(&history(workers), |history| {
        let sum = live_through(history);
        sums.borrow_mut().add(&sum);
        Ok(())
    });
    if let Err(TestError::Fail(reason, history)) = outcome {
        panic!("{reason}\n{history:#?}");
    }
    outcome.unwrap();
    println!("{HISTORIES} histories of {workers} workers: {:?}", sums.borrow());
    let Sums { not_settled, undecided, refused, bare, chunks, .. } = sums.into_inner();
    let reached = [not_settled as u64, undecided as u64, refused as u64, bare, chunks];
    assert!(!reached.contains(&0), "this tests less than it is to: {reached:?}");
}

/// What all histories together came to, so that a test which tests nothing shows.
#[derive(Debug, Default)]
struct Sums {
    messages: usize,
    not_settled: usize,
    counted: usize,
    undecided: usize,
    refused: usize,
    bare: u64,
    /// Chunks that were added to the windows.
    chunks: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.not_settled += other.not_settled;
        self.counted += other.counted;
        self.undecided += other.undecided;
        self.refused += other.refused;
        self.bare += other.bare;
        self.chunks += other.chunks;
    }
}

fn live_through(history: History) -> Sums {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let mut world = World::new(&history).await;
        for step in history.steps {
            world.take(step).await;
            world.go_on().await;
        }
        world.end().await
    })
}

/// A process that takes messages.
struct Worker {
    inbox: Inbox,
    running: JoinHandle<Result<(), GivenUp>>,
}

/// A message, to be sent as often as one likes.
#[derive(Clone, Debug)]
struct Letter {
    device: DeviceId,
    sender: Sender,
    text: Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Sample(SampleId),
    Bare,
    Presence,
    Retained,
    Garbage,
}

struct World {
    random: fastrand::Rng,
    store: Arc<UnsteadyStore>,
    flush_interval: &'static str,
    workers: Vec<Worker>,
    sent: Vec<Letter>,
    waiting: Vec<(Letter, oneshot::Receiver<Verdict>)>,
    /// Of these nobody knows what became.
    not_settled: Vec<Letter>,
    lost: usize,
    oracle: Oracle,
    now: u64,
}

impl World {
    async fn new(history: &History) -> Self {
        let mut random = fastrand::Rng::with_seed(history.random);
        let store = Arc::new(UnsteadyStore::new(random.fork(), history.pauses_max));
        let slots: BTreeSet<_> = (0..3).map(|number| Slot::of(&device_of(number))).collect();
        for (slot, number) in slots.iter().flat_map(|slot| (0..history.entries).map(|number| (*slot, number)))
        {
            let (received_at, log_time) = (UnixMs(START_MS), UnixMs(START_MS));
            store
                .append(&[Entry {
                    slot,
                    number,
                    writer: WriterId::NOBODY,
                    received_at,
                    log_time,
                    records: Vec::new(),
                }])
                .await
                .unwrap();
        }
        let flush_interval = history.flush_interval;
        let workers = (0..history.workers).map(|_| Worker::start(&store, flush_interval)).collect();
        Self {
            random,
            store,
            flush_interval,
            workers,
            sent: Vec::new(),
            waiting: Vec::new(),
            not_settled: Vec::new(),
            lost: 0,
            oracle: Oracle::default(),
            now: START_MS,
        }
    }

    /// The workers run for a moment; how long decides what meets what.
    async fn go_on(&mut self) {
        for _ in 0..self.random.u8(..40) {
            others_go_on().await;
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send { worker, connections } => {
                let mut queues: Vec<_> =
                    connections.into_iter().map(|connection| self.letters(connection).into_iter()).collect();
                while !queues.is_empty() {
                    let turn = self.random.usize(..queues.len());
                    match queues[turn].next() {
                        Some(letter) => self.send(worker, letter).await,
                        None => drop(queues.swap_remove(turn)),
                    }
                }
            }
            Step::Again { worker, from, messages } if !self.sent.is_empty() => {
                let from = from.index(self.sent.len());
                let again: Vec<_> = self.sent[from..].iter().take(messages).cloned().collect();
                for mut letter in again {
                    if self.random.u8(..4) == 0 {
                        // As over a broker, whose host cannot refuse.
                        letter.sender = Sender::HearsNothing;
                    }
                    self.send(worker, letter).await;
                }
            }
            Step::Again { .. } => {}
            Step::Fault { calls, of, fault } => self.store.inject(calls, of, fault),
            Step::Crash { worker } => {
                let gone = self.workers.remove(worker);
                gone.running.abort();
                assert!(gone.running.await.is_err_and(|error| error.is_cancelled()), "it ended by itself");
                self.workers.insert(worker, Worker::start(&self.store, self.flush_interval));
            }
            Step::Drain { worker } => {
                self.workers.remove(worker).drain().await;
                self.workers.insert(worker, Worker::start(&self.store, self.flush_interval));
            }
            Step::Settle => self.settle().await,
            Step::Wait => tokio::time::sleep(ROWS_ARE_DUE).await,
        }
    }

    fn letters(&mut self, connection: Connection) -> Vec<Letter> {
        let Connection { sender, device, content } = connection;
        let device = device_of(device);
        let sample =
            |boot, seq| Text::Sample(SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() });
        let (mut texts, order): (Vec<_>, _) = match content {
            Content::Samples { boot, first, count, order } => {
                let last = first.saturating_add(count).min(Sequence::MAX.get() + 1);
                ((first..last).map(|seq| sample(boot, seq)).collect(), order)
            }
            Content::Boots { first, count, seq } => {
                ((first..first + count).map(|boot| sample(boot, seq)).collect(), Order::AsTaken)
            }
            Content::Gaps { boot, count, order } => {
                ((0..count).map(|n| sample(boot, 2 * n)).collect(), order)
            }
            Content::Bare { count } => (vec![Text::Bare; count as usize], Order::AsTaken),
            Content::Others => (vec![Text::Presence, Text::Retained, Text::Garbage], Order::Any),
        };
        match order {
            Order::AsTaken => {}
            Order::NewestFirst => texts.reverse(),
            Order::Any => self.random.shuffle(&mut texts),
        }
        texts.into_iter().map(|text| Letter { device, sender, text }).collect()
    }

    async fn send(&mut self, worker: usize, letter: Letter) {
        match letter.text {
            Text::Sample(id) => self.oracle.sends((letter.device, id)),
            Text::Bare => self.oracle.bare.0 += 1,
            Text::Presence | Text::Retained | Text::Garbage => {}
        }
        self.now += 1;
        let (message, verdict) = letter.message(self.now);
        self.workers[worker].inbox.send(message).await.expect("a worker takes messages");
        self.sent.push(letter.clone());
        self.waiting.push((letter, verdict));
    }

    /// Waits for all verdicts that are still to come.
    async fn settle(&mut self) {
        for (letter, verdict) in std::mem::take(&mut self.waiting) {
            let verdict = tokio::time::timeout(PATIENCE, verdict).await.expect("every message is settled");
            let Ok(verdict) = verdict else {
                self.lost += 1;
                self.not_settled.push(letter);
                continue;
            };
            match letter.text {
                Text::Sample(id) => self.oracle.hears((letter.device, id), letter.sender, verdict),
                Text::Bare => {
                    assert_eq!(verdict, Verdict::Accepted);
                    self.oracle.bare.1 += 1;
                }
                Text::Presence => assert_eq!(verdict, Verdict::Accepted),
                Text::Retained | Text::Garbage => assert!(matches!(verdict, Verdict::Rejected(_))),
            }
        }
    }

    /// Faults end; what nobody acknowledged is sent again, and then all that was ever sent.
    async fn end(mut self) -> Sums {
        self.store.recover();
        self.settle().await;
        while !self.not_settled.is_empty() {
            for letter in std::mem::take(&mut self.not_settled) {
                let worker = self.random.usize(..self.workers.len());
                self.send(worker, letter).await;
            }
            self.settle().await;
        }
        let before = self.stop().await;
        self.oracle.check(&before);

        self.workers = vec![Worker::start(&self.store, self.flush_interval)];
        let names: Vec<_> = self.oracle.sent.iter().copied().collect();
        for (device, id) in names {
            self.send(0, Letter { device, sender: Sender::HearsRefusal, text: Text::Sample(id) }).await;
        }
        self.settle().await;
        let after = self.stop().await;
        self.oracle.check(&after);
        assert_eq!(after.undecided, before.undecided);
        Sums {
            messages: self.sent.len(),
            not_settled: self.lost,
            counted: after.counted.len(),
            undecided: after.undecided.len(),
            refused: self.oracle.refused.len(),
            bare: after.bare,
            chunks: after.chunks,
        }
    }

    async fn stop(&mut self) -> Held {
        for worker in std::mem::take(&mut self.workers) {
            worker.drain().await;
        }
        // One that drained first has not seen what another stored after it.
        Worker::start(&self.store, self.flush_interval).drain().await;
        held(&*self.store).await
    }
}

impl Worker {
    fn start(store: &Arc<UnsteadyStore>, flush_interval: &str) -> Self {
        let (inbox, messages) = source::inbox();
        let interval = flush_interval.parse().unwrap();
        let (store, opened) = (store.clone(), oneshot::channel().0);
        let running = tokio::spawn(keep_storing(
            store,
            messages,
            interval,
            WriterId::draw(),
            Clock::system(),
            Arc::default(),
            opened,
        ));
        Self { inbox, running }
    }

    async fn drain(self) {
        drop(self.inbox);
        self.running.await.expect("no panic").expect("it goes on whatever the store does");
    }
}

impl Letter {
    fn message(&self, now: u64) -> (Message, oneshot::Receiver<Verdict>) {
        let kind = if self.text == Text::Presence { Kind::Presence } else { Kind::Status };
        let payload = match self.text {
            Text::Sample(id) => {
                let (status, seq, boot) = (id.seq.get() % 7, id.seq.get(), id.boot);
                format!(r#"{{"status":{status},"seq":{seq},"boot":"{boot}","age_ms":{}}}"#, now % 100_000)
            }
            Text::Bare => r#"{"status":3}"#.to_owned(),
            Text::Presence => "online".to_owned(),
            Text::Retained => r#"{"status":4}"#.to_owned(),
            Text::Garbage => "status".to_owned(),
        };
        let (ack, verdict) = Ack::new();
        let message = Message {
            topic: Topic { device: self.device, kind }.name().as_str().into(),
            payload: payload.into_bytes().into(),
            retain: if self.text == Text::Retained { Retain::Yes } else { Retain::No },
            expiry_left_s: None,
            received: Moment { at: UnixMs(now), instant: Instant::now() },
            sender: self.sender,
            ack,
        };
        (message, verdict)
    }
}

/// Devices 0 and 1 share a slot.
fn device_of(number: u64) -> DeviceId {
    let mut by_slot = BTreeMap::<Slot, Vec<DeviceId>>::new();
    for n in 0.. {
        let device = DeviceId::new(&format!("device-{n}")).unwrap();
        let of_slot = by_slot.entry(Slot::of(&device)).or_default();
        of_slot.push(device);
        if of_slot.len() == 2 {
            let pair = of_slot.clone();
            let other = by_slot.values().find(|devices| **devices != pair).map(|devices| devices[0]);
            return [pair[0], pair[1], other.unwrap()][number as usize];
        }
    }
    unreachable!("sixteen slots have two of seventeen devices")
}
