//! From a start of the process to its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rollcall_host::intake::keep_storing;
use rollcall_host::model::WriterId;
use rollcall_host::ops::{GivenUp, Ops, Part};
use rollcall_host::source;
use tokio::sync::{Notify, oneshot};

use super::{Host, Source};
use crate::peer::{Taking, consumer, gateway};
use crate::process::Process;
use crate::scene;
use crate::store::Faulty;
use crate::time::{now_ms, sleep};

/// How often is looked whether a drain is done.
const POLL_MS: u64 = 5;

/// A drain that takes longer is given up.
const DRAIN_MS: u64 = 20_000;

/// Why a drain came to nothing.
const KILLED: &str = "it is killed meanwhile";

/// See the module.
pub(super) struct Life {
    pub(super) process: Process,
    pub(super) ops: Arc<Ops>,
    pub(super) faulty: Arc<Faulty>,
    taking: RefCell<Option<Rc<Taking>>>,
    /// How the ingest loop has ended, once it has.
    ended: RefCell<Option<Result<(), GivenUp>>>,
    /// Hears that the process is to die at once, or that it cannot go on.
    pub(super) doom: Arc<Notify>,
}

impl Life {
    pub(super) fn start(host: &Rc<Host>, faulty: Arc<Faulty>) -> Rc<Self> {
        let ops = Arc::new(Ops::starting(&[Part::Store, Part::Source, Part::Ingest]));
        let (process, taking, ended) = Default::default();
        let doom = faulty.doom.clone();
        let life = Rc::new(Self { process, ops: ops.clone(), faulty: faulty.clone(), taking, ended, doom });
        let clock = scene::clock(&host.scene);
        let (inbox, messages) = source::inbox();
        let (opened, is_open) = oneshot::channel();
        // As it would be drawn: each host has another one, and none has 0.
        let (writer, interval) = (WriterId(host.name as u32 + 1), host.interval);
        let storing = keep_storing(faulty, messages, interval, writer, clock.clone(), ops.clone(), opened);
        let (ending, scene) = (Rc::downgrade(&life), host.scene.clone());
        life.process.spawn(async move {
            let outcome = storing.await;
            scene.note(format_args!("the ingest loop ends: {outcome:?}"));
            if let Some(life) = ending.upgrade() {
                if outcome.is_err() {
                    life.doom.notify_one();
                }
                *life.ended.borrow_mut() = Some(outcome);
            }
        });
        let taking = Taking {
            scene: host.scene.clone(),
            clock,
            inbox,
            ops,
            echoes: host.echoes.clone(),
            life: host.scene.next_life(),
            is_draining: Cell::new(false),
            drains: Notify::new(),
            unsettled: Cell::new(0),
        };
        let (taker, host) = (Rc::downgrade(&life), host.clone());
        life.process.spawn(async move {
            if is_open.await.is_ok()
                && let Some(life) = taker.upgrade()
            {
                life.take(&host, Rc::new(taking));
            }
        });
        life
    }

    /// Takes messages from now on.
    fn take(&self, host: &Host, taking: Rc<Taking>) {
        *self.taking.borrow_mut() = Some(taking.clone());
        host.echoes.reach(&taking);
        let process = self.process.clone();
        match &host.source {
            Source::Gateway(doors) => {
                self.ops.healthy(Part::Source);
                let door = move |socket| process.spawn(gateway::serve(socket, taking.clone()));
                doors.open(host.name, Rc::new(door));
            }
            Source::Broker(broker, delay_ms) => {
                let chance = host.chance.borrow_mut().fork();
                process.spawn(consumer::consume(broker.clone(), host.name, taking, *delay_ms, chance));
            }
        }
    }

    /// Takes nothing more, and stores what it has.
    ///
    /// # Errors
    /// Why that did not end well.
    pub(super) async fn drain(&self, host: &Host) -> Result<(), String> {
        if let Source::Gateway(doors) = &host.source {
            doors.close(host.name);
        }
        let deadline_ms = now_ms() + DRAIN_MS;
        let taking = self.taking.borrow().clone();
        if let Some(taking) = taking {
            taking.is_draining.set(true);
            taking.drains.notify_one();
            while taking.unsettled.get() > 0 {
                if now_ms() > deadline_ms {
                    return Err("messages are not settled in time".to_owned());
                }
                sleep(POLL_MS).await;
            }
        }
        // Acknowledgements that are on their way leave; then the inbox closes, and with it the ingest loop.
        sleep(POLL_MS).await;
        self.taking.borrow_mut().take();
        if self.process.is_dead() {
            return Err(KILLED.to_owned());
        }
        self.process.end_all_but_first();
        while self.ended.borrow().is_none() {
            if self.process.is_dead() {
                return Err(KILLED.to_owned());
            }
            if now_ms() > deadline_ms {
                return Err("the ingest loop does not end".to_owned());
            }
            sleep(POLL_MS).await;
        }
        match &*self.ended.borrow() {
            Some(Err(error)) => Err(error.to_string()),
            _ => self.check_counters(),
        }
    }

    /// How often the ingest loop was started again.
    fn restarts(&self) -> u64 {
        self.sum(r#"rollcall_restarts_total{part="ingest"}"#)
    }

    /// Everything that was received is in exactly one counter, once nothing waits any more.
    fn check_counters(&self) -> Result<(), String> {
        let received = self.sum("rollcall_messages_received_total");
        let became = ["accepted", "duplicate", "undecided", "presence", "rejected", "dropped"];
        let sums = became.map(|name| self.sum(&format!("rollcall_messages_{name}_total")));
        if received == sums.iter().sum::<u64>() {
            Ok(())
        } else {
            Err(format!("{received} messages were received, and {became:?} are {sums:?}"))
        }
    }

    /// The sum of the metrics that begin so.
    fn sum(&self, name: &str) -> u64 {
        let text = self.ops.metrics.text(true);
        let values = text.lines().filter(|line| line.starts_with(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// It is gone; what is wrong with how it lived is told.
    pub(super) fn kill(&self, host: &Host) {
        match &host.source {
            Source::Gateway(doors) => doors.close(host.name),
            Source::Broker(broker, _) => broker.leave(host.name, false),
        }
        self.process.kill();
        self.doom.notify_one();
        self.taking.borrow_mut().take();
        if let Some(panic) = self.process.panic() {
            host.scene.fail("panic", panic);
        }
        let panics = self.faulty.panics.load(Ordering::Relaxed);
        match &*self.ended.borrow() {
            Some(Err(GivenUp::Final { reason, .. })) => {
                if self.faulty.disk.as_ref().is_some_and(|disk| disk.has_flipped()) {
                    host.scene.damaged();
                } else {
                    host.scene.fail("given up", reason.clone());
                }
            }
            Some(Err(GivenUp::TooOften { reason, .. })) if panics < 5 => {
                host.scene.fail("given up", reason.clone());
            }
            _ => {}
        }
        let given_up = matches!(&*self.ended.borrow(), Some(Err(_)));
        let restarts = self.restarts();
        if !given_up && restarts != panics {
            host.scene.fail("panic", format!("{panics} were injected, and the ingest loop had {restarts}"));
        }
    }
}
