//! A broker: it acknowledges a publish once it holds it, keeps what it holds over a restart, and delivers until it is
//! told that a message is done with, in the order in which it came unless it has to deliver again.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use rollcall_harness::mqtt::{PING_RESPONSE, connack, disconnect, property, puback};
use rollcall_wire::codec::MESSAGE_EXPIRY_S;

use super::{FromClient, Publish, Reader};
use crate::chance::Chance;
use crate::coverage::Kind;
use crate::net::{Doors, Socket};
use crate::process::Process;
use crate::scene::Scene;
use crate::time::{now_ms, sleep, sleep_until};

/// Unacknowledged publishes of a connection at most.
const RECEIVE_MAX: u16 = 20;

/// How long it takes to make a publish durable, at most.
const CONFIRM_MS: u64 = 20;

/// Reason codes of MQTT 5, section 2.4.
const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
const QUOTA_EXCEEDED: u8 = 0x97;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;

/// Its door.
const NAME: u64 = u64::MAX;

/// See the module.
pub(crate) struct Broker {
    scene: Arc<Scene>,
    doors: Doors,
    prefetch: usize,
    rounds_up_waits: bool,
    process: RefCell<Process>,
    state: RefCell<State>,
}

struct State {
    chance: Chance,
    is_up: bool,
    is_frozen: bool,
    refuses_until_ms: u64,
    sessions: BTreeMap<u64, Session>,
}

/// What it holds for one subscriber.
#[derive(Default)]
struct Session {
    queue: VecDeque<Held>,
    unacknowledged: VecDeque<(u64, Held)>,
    /// What will be delivered again, but not yet.
    late: VecDeque<Held>,
    tags: u64,
    /// Counts connections.
    connection: u64,
    is_connected: bool,
    waker: Option<Waker>,
}

#[derive(Clone)]
struct Held {
    publish: Publish,
    since_ms: u64,
}

/// A message on its way to a subscriber.
pub(crate) struct Delivery {
    pub(crate) tag: u64,
    pub(crate) publish: Publish,
    pub(crate) waited_ms: u64,
}

/// The connection has ended.
pub(crate) struct Lost;

impl Broker {
    pub(crate) fn new(
        scene: Arc<Scene>,
        doors: Doors,
        prefetch: usize,
        rounds_up_waits: bool,
        chance: Chance,
    ) -> Rc<Self> {
        let (refuses_until_ms, sessions) = Default::default();
        let state = State { chance, is_up: false, is_frozen: false, refuses_until_ms, sessions };
        let (process, state) = (RefCell::default(), RefCell::new(state));
        Rc::new(Self { scene, doors, prefetch, rounds_up_waits, process, state })
    }

    /// Starts, with what it held, unless it runs.
    pub(crate) fn start(self: &Rc<Self>) {
        if self.state.borrow().is_up {
            return;
        }
        self.scene.note(format_args!("broker starts"));
        let process = Process::default();
        *self.process.borrow_mut() = process.clone();
        self.state.borrow_mut().is_up = true;
        let broker = self.clone();
        let door = move |socket| process.spawn(broker.clone().serve(socket));
        self.doors.open(NAME, Rc::new(door));
    }

    /// It is gone; what it holds stays. Says whether it ran.
    pub(crate) fn kill(&self) -> bool {
        self.doors.close(NAME);
        self.process.borrow().kill();
        let mut state = self.state.borrow_mut();
        state.is_frozen = false;
        state.sessions.values_mut().for_each(Session::disconnect);
        std::mem::take(&mut state.is_up)
    }

    /// It does nothing until [`Broker::thaw`].
    pub(crate) fn freeze(&self) {
        self.process.borrow().freeze();
        self.state.borrow_mut().is_frozen = true;
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.process.borrow().thaw();
        let mut state = self.state.borrow_mut();
        state.is_frozen = false;
        state.sessions.values_mut().for_each(Session::wake);
    }

    /// It refuses publishes until then.
    pub(crate) fn refuse(&self, until_ms: u64) {
        self.state.borrow_mut().refuses_until_ms = until_ms;
    }

    /// Connections of subscribers end, and what was not acknowledged is delivered again so much later, after what is
    /// newer; says whether there was anything.
    pub(crate) fn redeliver(self: &Rc<Self>, late_ms: u64) -> bool {
        let mut any = false;
        for session in self.state.borrow_mut().sessions.values_mut() {
            any |= !session.unacknowledged.is_empty();
            session.late.extend(session.unacknowledged.drain(..).map(|(_, held)| held));
            session.disconnect();
        }
        let broker = self.clone();
        tokio::task::spawn_local(async move {
            sleep(late_ms).await;
            for session in broker.state.borrow_mut().sessions.values_mut() {
                session.queue.append(&mut session.late);
                session.wake();
            }
        });
        any
    }

    /// Does it hold nothing any more?
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state.borrow();
        let is_empty = |session: &Session| {
            session.queue.is_empty() && session.unacknowledged.is_empty() && session.late.is_empty()
        };
        state.sessions.values().all(is_empty)
    }

    /// A subscriber connects, to the session that it had; `None` while nobody answers.
    pub(crate) fn connect(&self, subscriber: u64) -> Option<u64> {
        let mut state = self.state.borrow_mut();
        if !state.is_up || state.is_frozen {
            return None;
        }
        let session = state.sessions.entry(subscriber).or_default();
        session.disconnect();
        session.is_connected = true;
        Some(session.connection)
    }

    /// A subscriber leaves for good, or is gone.
    pub(crate) fn leave(&self, subscriber: u64, for_good: bool) {
        let mut state = self.state.borrow_mut();
        if for_good {
            state.sessions.remove(&subscriber);
        } else if let Some(session) = state.sessions.get_mut(&subscriber) {
            session.disconnect();
        }
    }

    /// Was it ever here, so that messages are held for it?
    pub(crate) fn knows(&self, subscriber: u64) -> bool {
        self.state.borrow().sessions.contains_key(&subscriber)
    }

    /// The next message for a subscriber.
    pub(crate) async fn next(&self, subscriber: u64, connection: u64) -> Result<Delivery, Lost> {
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            let is_frozen = state.is_frozen;
            let Some(session) = state.sessions.get_mut(&subscriber) else { return Poll::Ready(Err(Lost)) };
            if !session.is_connected || session.connection != connection {
                return Poll::Ready(Err(Lost));
            }
            let is_full = session.unacknowledged.len() >= self.prefetch;
            if is_frozen || is_full || session.queue.is_empty() {
                session.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(session.queue.pop_front().map(|held| self.deliver(session, held)).ok_or(Lost))
        })
        .await
    }

    fn deliver(&self, session: &mut Session, held: Held) -> Delivery {
        let waited_ms = now_ms() - held.since_ms;
        // RabbitMQ rounds what is left of its life down; mosquitto looks at a clock of whole seconds.
        let waited_s = if self.rounds_up_waits {
            waited_ms.div_ceil(1000)
        } else {
            now_ms() / 1000 - held.since_ms / 1000
        };
        let mut publish = held.publish.clone();
        publish.expiry_s = publish
            .expiry_s
            .map(|seconds| seconds.saturating_sub(u32::try_from(waited_s).unwrap_or(seconds)));
        session.tags += 1;
        session.unacknowledged.push_back((session.tags, held));
        Delivery { tag: session.tags, publish, waited_ms }
    }

    /// A message is done with.
    pub(crate) fn acknowledge(&self, subscriber: u64, connection: u64, tag: u64) {
        let mut state = self.state.borrow_mut();
        let Some(session) = state.sessions.get_mut(&subscriber) else { return };
        if session.is_connected && session.connection == connection {
            session.unacknowledged.retain(|(unacknowledged, _)| *unacknowledged != tag);
            session.wake();
        }
    }

    /// Holds a message for every subscriber; the reason of the PUBACK.
    fn hold(&self, publish: &Publish) -> u8 {
        let mut state = self.state.borrow_mut();
        if now_ms() < state.refuses_until_ms {
            self.scene.fired(Kind::BrokerRefuses);
            return QUOTA_EXCEEDED;
        }
        if state.sessions.is_empty() {
            return NO_MATCHING_SUBSCRIBERS;
        }
        for session in state.sessions.values_mut() {
            let mut publish = publish.clone();
            publish.expiry_s = publish.expiry_s.map(|seconds| seconds.min(MESSAGE_EXPIRY_S));
            session.queue.push_back(Held { publish, since_ms: now_ms() });
            session.wake();
        }
        0
    }

    async fn serve(self: Rc<Self>, mut socket: Socket) {
        let mut reader = Reader::default();
        let FromClient::Connect { keep_alive_s } = reader.next(&mut socket).await else { return };
        socket.send(&connack(false, 0, &property::receive_maximum(RECEIVE_MAX)));
        let silence_ms = u64::from(keep_alive_s) * 1500;
        let mut answers = VecDeque::<(u64, Vec<u8>)>::new();
        let mut heard_ms = now_ms();
        loop {
            let next_answer_ms = answers.front().map_or(u64::MAX, |(at_ms, _)| *at_ms);
            tokio::select! {
                biased;
                () = sleep_until(next_answer_ms.min(heard_ms + silence_ms)) => match answers.pop_front() {
                    Some((at_ms, bytes)) if at_ms <= now_ms() => socket.send(&bytes),
                    _ => return socket.send(&disconnect(KEEP_ALIVE_TIMEOUT)),
                },
                packet = reader.next(&mut socket) => {
                    heard_ms = now_ms();
                    match packet {
                        FromClient::Publish(publish) => self.publish(&publish, &mut answers),
                        FromClient::Ping => answers.push_back((heard_ms, PING_RESPONSE.to_vec())),
                        FromClient::Connect { .. } | FromClient::Leave => return,
                    }
                }
            }
        }
    }

    fn publish(&self, publish: &Publish, answers: &mut VecDeque<(u64, Vec<u8>)>) {
        let reason = if publish.topic.ends_with("/status") { self.hold(publish) } else { 0 };
        self.scene.note(format_args!("broker takes {}: {reason:#x}", publish.topic));
        if let Some(packet_id) = publish.packet_id {
            let last_ms = answers.back().map_or(0, |(at_ms, _)| *at_ms);
            let at_ms = now_ms() + self.state.borrow_mut().chance.below(CONFIRM_MS);
            answers.push_back((at_ms.max(last_ms), puback(packet_id, reason, &[])));
        }
    }
}

impl Session {
    /// Its connection ends, and what was not acknowledged is the first to be delivered again.
    fn disconnect(&mut self) {
        while let Some((_, held)) = self.unacknowledged.pop_back() {
            self.queue.push_front(held);
        }
        self.is_connected = false;
        self.connection += 1;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
