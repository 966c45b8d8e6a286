//! The way into a host's inbox, for whatever brings it messages.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use rollcall_host::model::{Ack, Clock, Message, Moment, Retain, Sender, Verdict};
use rollcall_host::ops::Ops;
use rollcall_host::source::Inbox;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Publish;
use crate::chance::Chance;
use crate::coverage::Kind;
use crate::oracle::{Arrival, Subject, subject};
use crate::scene::Scene;
use crate::time::{now_ms, sleep};

/// So many of a hundred messages come twice while messages do.
const TWICE_PERCENT: u64 = 30;

/// The latest that a message comes again.
const LATE_MS: u64 = 60_000;

/// What a process takes messages with.
pub(crate) struct Taking {
    pub(crate) scene: Arc<Scene>,
    pub(crate) clock: Clock,
    pub(crate) inbox: Inbox,
    pub(crate) ops: Arc<Ops>,
    pub(crate) echoes: Echoes,
    /// Which process it is, of all that there are in a run.
    pub(crate) life: u64,
    /// It takes no more messages.
    pub(crate) is_draining: Cell<bool>,
    /// Says so.
    pub(crate) drains: Notify,
    /// Messages that are taken and not answered.
    pub(crate) unsettled: Cell<usize>,
}

/// A message that waits for its verdict.
pub(crate) struct Pending<T> {
    /// By what its sender knows it.
    pub(crate) tag: T,
    pub(crate) subject: Subject,
    /// Its place among all messages.
    order: u64,
    verdict: oneshot::Receiver<Verdict>,
    shared: Rc<Taking>,
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.shared.unsettled.set(self.shared.unsettled.get() - 1);
    }
}

impl Taking {
    /// Hands a message to the ingest loop, after so long in a broker; `None` when there is no loop any more.
    pub(crate) async fn take<T>(
        self: &Rc<Self>,
        publish: Publish,
        sender: Sender,
        waited_ms: u64,
        tag: T,
    ) -> Option<Pending<T>> {
        self.ops.metrics.received.inc();
        self.unsettled.set(self.unsettled.get() + 1);
        self.echoes.maybe(self, &publish);
        let subject = subject(&publish.topic, &publish.payload);
        let received = Moment { at: self.clock.now(), instant: Instant::now() };
        self.scene.note(format_args!("takes {subject}"));
        let (ack, verdict) = Ack::new();
        let (payload, expiry_left_s) = (publish.payload.clone(), publish.expiry_s);
        let message = Message {
            topic: publish.topic,
            payload: publish.payload,
            retain: if publish.is_retained { Retain::Yes } else { Retain::No },
            expiry_left_s: publish.expiry_s,
            received,
            sender,
            ack,
        };
        let arrival = Arrival { at: received.at, expiry_left_s, waited_ms, life: self.life };
        let order = self.scene.oracle().handed_on(subject, &payload, arrival);
        let pending = Pending { tag, subject, order, verdict, shared: self.clone() };
        self.inbox.send(message).await.ok()?;
        Some(pending)
    }
}

/// The first of the messages that wait, once it is settled, or dropped unsettled.
pub(crate) async fn settled<T>(waiting: &mut VecDeque<Pending<T>>) -> (Pending<T>, Option<Verdict>) {
    let verdict = match waiting.front_mut() {
        None => return pending().await,
        Some(first) => poll_fn(|context| Pin::new(&mut first.verdict).poll(context)).await.ok(),
    };
    match waiting.pop_front() {
        Some(first) => {
            let shared = &first.shared;
            shared.scene.note(format_args!("settled {}: {verdict:?}", first.subject));
            if let Some(verdict) = verdict {
                let outcome = shared.scene.oracle().settled(first.subject, first.order, verdict);
                shared.scene.expect(outcome);
            }
            (first, verdict)
        }
        None => pending().await,
    }
}

/// Messages that come again, as from a bridge that has lost count.
#[derive(Clone)]
pub(crate) struct Echoes(Rc<State>);

struct State {
    chance: RefCell<Chance>,
    until_ms: Cell<u64>,
    is_late: Cell<bool>,
    /// Who takes messages now.
    target: RefCell<Weak<Taking>>,
}

impl Echoes {
    pub(crate) fn new(chance: Chance) -> Self {
        let (until_ms, is_late, target) = Default::default();
        Self(Rc::new(State { chance: RefCell::new(chance), until_ms, is_late, target }))
    }

    /// Messages come twice until then, at once or much later.
    pub(crate) fn begin(&self, until_ms: u64, is_late: bool) {
        self.0.until_ms.set(until_ms);
        self.0.is_late.set(is_late);
    }

    /// Who takes messages from now on.
    pub(crate) fn reach(&self, target: &Rc<Taking>) {
        *self.0.target.borrow_mut() = Rc::downgrade(target);
    }

    fn maybe(&self, taking: &Taking, publish: &Publish) {
        let state = &self.0;
        let is_late = state.is_late.get();
        if now_ms() >= state.until_ms.get() || !state.chance.borrow_mut().percent(TWICE_PERCENT) {
            return;
        }
        taking.scene.fired(if is_late { Kind::ComesLate } else { Kind::ComesTwice });
        let delay_ms = if is_late { state.chance.borrow_mut().below(LATE_MS) } else { 0 };
        let (echoes, publish) = (self.clone(), publish.clone());
        tokio::task::spawn_local(async move {
            sleep(delay_ms).await;
            let target = echoes.0.target.borrow().upgrade();
            let Some(target) = target.filter(|target| !target.is_draining.get()) else { return };
            // Nobody waits for what becomes of it.
            drop(target.take(publish, Sender::HearsNothing, 0, ()).await);
        });
    }
}
