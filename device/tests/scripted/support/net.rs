//! A network of scripted peers, in memory.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;
use rollcall_device::Clock;

use rollcall_harness::mqtt::{PING_RESPONSE, connack};

use super::mqtt::{DevicePacket, DevicePublish, puback, take_packet};
use super::time::{VirtualClock, now_ms};

/// What becomes of an attempt to connect.
pub(crate) enum Dial {
    Refuse,
    /// Never answered.
    Hang,
    Accept(Peer),
}

/// What a peer answers to a PUBLISH.
pub(crate) enum Reply {
    /// PUBACK with this reason code.
    Ack(u8),
    /// These bytes, then a PUBACK that says success.
    AckAfter(Vec<u8>),
    Nothing,
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
    /// The connection ends.
    Close,
}

/// A broker by script.
pub(crate) struct Peer {
    /// The answer to CONNECT, if any.
    pub(crate) connack: Option<Vec<u8>>,
    pub(crate) on_publish: Box<dyn FnMut(&DevicePublish) -> Reply>,
    pub(crate) answers_pings: bool,
    /// From a packet to its answer.
    pub(crate) delay_ms: u64,
    /// The most bytes that one read gives and one write takes.
    pub(crate) chunk: usize,
    /// The connection breaks once the device has sent this many bytes.
    pub(crate) cut_after: usize,
    /// Nothing more is taken once the device has sent this many bytes.
    pub(crate) stall_after: usize,
    /// Every read and write is pending once before it does anything.
    pub(crate) yields: bool,
}

impl Default for Peer {
    /// Takes everything at once and acknowledges it.
    fn default() -> Self {
        Self {
            connack: Some(connack(false, 0, &[])),
            on_publish: Box::new(|_| Reply::Ack(0)),
            answers_pings: true,
            delay_ms: 0,
            chunk: usize::MAX,
            cut_after: usize::MAX,
            stall_after: usize::MAX,
            yields: false,
        }
    }
}

/// A peer that acknowledges everything.
pub(crate) fn accept() -> Dial {
    Dial::Accept(Peer::default())
}

/// A peer that answers each publish as `on_publish` says.
pub(crate) fn answering(on_publish: impl FnMut(&DevicePublish) -> Reply + 'static) -> Peer {
    Peer { on_publish: Box::new(on_publish), ..Peer::default() }
}

/// A network that is away until `at_ms`.
pub(crate) fn away_until(at_ms: u64) -> impl FnMut(usize) -> Dial {
    move |_| if now_ms() < at_ms { Dial::Refuse } else { accept() }
}

/// A packet that reached a peer.
#[derive(Clone, Debug)]
pub(crate) struct SeenPacket {
    pub(crate) at_ms: u64,
    pub(crate) connection: usize,
    pub(crate) packet: DevicePacket,
}

#[derive(Clone)]
pub(crate) struct ScriptedNet {
    clock: VirtualClock,
    state: Rc<RefCell<State>>,
}

struct State {
    dial: Box<dyn FnMut(usize) -> Dial>,
    attempts_ms: Vec<u64>,
    seen: Vec<SeenPacket>,
    /// Sequence numbers that a peer acknowledged with success.
    granted: BTreeSet<u64>,
    /// Sequence numbers that a peer refused for good.
    refused: BTreeSet<u64>,
    /// The most acknowledgements that were on their way at once over one connection.
    in_flight_max: usize,
}

impl ScriptedNet {
    pub(crate) fn new(clock: VirtualClock, dial: impl FnMut(usize) -> Dial + 'static) -> Self {
        let (attempts_ms, seen, granted, refused) = Default::default();
        let state = State { dial: Box::new(dial), attempts_ms, seen, granted, refused, in_flight_max: 0 };
        Self { clock, state: Rc::new(RefCell::new(state)) }
    }

    /// When each attempt to connect was made.
    pub(crate) fn attempts_ms(&self) -> Vec<u64> {
        self.state.borrow().attempts_ms.clone()
    }

    /// How many samples a peer acknowledged with success.
    pub(crate) fn granted(&self) -> u64 {
        self.state.borrow().granted.len() as u64
    }

    /// How many samples a peer refused for good.
    pub(crate) fn refused(&self) -> u64 {
        self.state.borrow().refused.len() as u64
    }

    /// The most acknowledgements that were on their way at once over one connection.
    pub(crate) fn in_flight_max(&self) -> usize {
        self.state.borrow().in_flight_max
    }

    /// Everything that reached a peer.
    pub(crate) fn seen(&self) -> Vec<SeenPacket> {
        self.state.borrow().seen.clone()
    }

    /// The samples that reached a peer: when, over which connection, and what.
    pub(crate) fn samples(&self) -> Vec<(u64, usize, DevicePublish)> {
        let sample = |seen: SeenPacket| match seen.packet {
            DevicePacket::Publish(publish) if publish.is_status() => {
                Some((seen.at_ms, seen.connection, publish))
            }
            _ => None,
        };
        self.seen().into_iter().filter_map(sample).collect()
    }

    /// Their sequence numbers, in the order of arrival.
    pub(crate) fn sequence(&self) -> Vec<u64> {
        self.samples().iter().map(|(_, _, publish)| publish.seq()).collect()
    }
}

/// A transport error.
#[derive(Debug)]
pub(crate) struct TransportError(ErrorKind);

impl std::fmt::Display for TransportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for TransportError {}

impl embedded_io_async::Error for TransportError {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl TcpConnect for ScriptedNet {
    type Error = TransportError;
    type Connection<'a> = Link;

    async fn connect(&self, _remote: SocketAddr) -> Result<Link, TransportError> {
        let (connection, dialled) = {
            let mut state = self.state.borrow_mut();
            state.attempts_ms.push(self.clock.now_ms());
            let connection = state.attempts_ms.len() - 1;
            (connection, (state.dial)(connection))
        };
        match dialled {
            Dial::Refuse => Err(TransportError(ErrorKind::ConnectionRefused)),
            Dial::Hang => pending().await,
            Dial::Accept(peer) => {
                yield_if(peer.yields).await;
                let (received, answers) = Default::default();
                Ok(Link { net: self.clone(), connection, peer, received, sent: 0, answers, is_cut: false })
            }
        }
    }
}

async fn yield_if(yields: bool) {
    let mut pending = yields;
    poll_fn(|context| {
        if std::mem::take(&mut pending) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// One connection, seen from the device.
pub(crate) struct Link {
    net: ScriptedNet,
    connection: usize,
    peer: Peer,
    /// What the peer has not yet understood.
    received: Vec<u8>,
    sent: usize,
    /// What the peer says, and when it arrives; `None` is the end.
    answers: VecDeque<(u64, Option<VecDeque<u8>>)>,
    is_cut: bool,
}

impl Link {
    fn answer(&mut self, bytes: Option<Vec<u8>>) {
        let at_ms = self.net.clock.now_ms() + self.peer.delay_ms;
        self.answers.push_back((at_ms, bytes.map(VecDeque::from)));
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend(bytes);
        while let Some(packet) = take_packet(&mut self.received) {
            let seen = SeenPacket {
                at_ms: self.net.clock.now_ms(),
                connection: self.connection,
                packet: packet.clone(),
            };
            self.net.state.borrow_mut().seen.push(seen);
            self.react(packet);
        }
    }

    fn react(&mut self, packet: DevicePacket) {
        match packet {
            DevicePacket::Connect(_) => {
                if let Some(connack) = self.peer.connack.clone() {
                    self.answer(Some(connack));
                }
            }
            DevicePacket::Publish(publish) => match (self.peer.on_publish)(&publish) {
                Reply::Ack(reason) => self.acknowledge(&publish, reason),
                Reply::AckAfter(bytes) => {
                    self.answer(Some(bytes));
                    self.acknowledge(&publish, 0);
                }
                Reply::Raw(bytes) => self.answer(Some(bytes)),
                Reply::Close => self.answer(None),
                Reply::Nothing => {}
            },
            DevicePacket::PingRequest if self.peer.answers_pings => self.answer(Some(PING_RESPONSE.to_vec())),
            DevicePacket::PingRequest => {}
            DevicePacket::Disconnect(_) => self.answer(None),
        }
    }

    fn acknowledge(&mut self, publish: &DevicePublish, reason: u8) {
        self.answer(Some(puback(publish.packet_id, reason)));
        let mut state = self.net.state.borrow_mut();
        match reason {
            0 if publish.is_status() => drop(state.granted.insert(publish.seq())),
            0x90 | 0x99 if publish.is_status() => drop(state.refused.insert(publish.seq())),
            _ => {}
        }
        state.in_flight_max = state.in_flight_max.max(self.answers.len());
    }

    /// What a read gives now; `None` is to wait.
    fn next_bytes(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let (at_ms, bytes) = self.answers.front_mut()?;
        if *at_ms > self.net.clock.now_ms() {
            self.net.clock.wait_for(*at_ms);
            return None;
        }
        let Some(bytes) = bytes else { return Some(0) };
        let count = buffer.len().min(bytes.len()).min(self.peer.chunk);
        for (to, from) in buffer.iter_mut().zip(bytes.drain(..count)) {
            *to = from;
        }
        if bytes.is_empty() {
            self.answers.pop_front();
        }
        Some(count)
    }
}

impl ErrorType for Link {
    type Error = TransportError;
}

impl Read for Link {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        yield_if(self.peer.yields).await;
        poll_fn(|_| {
            if self.is_cut {
                return Poll::Ready(Err(TransportError(ErrorKind::ConnectionReset)));
            }
            self.next_bytes(buffer).map_or(Poll::Pending, |count| Poll::Ready(Ok(count)))
        })
        .await
    }
}

impl Write for Link {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, TransportError> {
        yield_if(self.peer.yields).await;
        if self.is_cut {
            return Err(TransportError(ErrorKind::ConnectionReset));
        }
        let room = self.peer.stall_after - self.sent;
        if room == 0 {
            pending::<()>().await;
        }
        let count = bytes.len().min(self.peer.chunk).min(room).min(self.peer.cut_after - self.sent);
        self.sent += count;
        self.receive(&bytes[..count]);
        // Broken, as TCP is, after the bytes that were taken.
        self.is_cut = self.sent == self.peer.cut_after;
        if count == 0 { Err(TransportError(ErrorKind::ConnectionReset)) } else { Ok(count) }
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        yield_if(self.peer.yields).await;
        Ok(())
    }
}
