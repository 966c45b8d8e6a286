//! The network: a line from each device to whoever takes its connections, bytes in memory that arrive when they do.
//!
//! What a line carries keeps its order, as TCP does. It may be slow, cut with bytes on their way, half-open (nothing
//! arrives any more and nobody is told), or refuse connections.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;

use crate::chance::Chance;
use crate::time::{now_ms, sleep, sleep_until};

/// What one direction holds at most, in bytes; beyond it a writer waits.
const PIPE_MAX: usize = 16 * 1024;

/// Where connections arrive: takes one, or does not exist.
pub(crate) type Door = Rc<dyn Fn(Socket)>;

/// All doors that are open now.
#[derive(Clone, Default)]
pub(crate) struct Doors(Rc<RefCell<Vec<(u64, Door)>>>);

impl Doors {
    /// Opens one, under a name that closes it.
    pub(crate) fn open(&self, name: u64, door: Door) {
        self.0.borrow_mut().push((name, door));
    }

    /// Closes it: connections are refused.
    pub(crate) fn close(&self, name: u64) {
        self.0.borrow_mut().retain(|(open, _)| *open != name);
    }

    fn pick(&self, chance: &mut Chance) -> Option<Door> {
        let doors = self.0.borrow();
        let at = chance.below(doors.len() as u64) as usize;
        doors.get(at).map(|(_, door)| door.clone())
    }
}

/// How a line is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// From sending to arriving, in milliseconds, least and most.
    pub(crate) delay_ms: (u64, u64),
    /// Are writes cut into pieces that arrive apart?
    pub(crate) is_choppy: bool,
    /// Until when connections are refused.
    pub(crate) refused_until_ms: u64,
    /// Until when nobody answers.
    pub(crate) silent_until_ms: u64,
    /// Until when everything takes so much longer.
    pub(crate) slow: (u64, u64),
}

/// A device's way to the doors.
pub(crate) struct Line {
    doors: Doors,
    weather: Cell<Weather>,
    chance: RefCell<Chance>,
    /// Connections that were made over it.
    pipes: RefCell<Vec<Weak<RefCell<Pipe>>>>,
}

impl Line {
    pub(crate) fn new(doors: Doors, weather: Weather, chance: Chance) -> Rc<Self> {
        Rc::new(Self {
            doors,
            weather: Cell::new(weather),
            chance: RefCell::new(chance),
            pipes: RefCell::default(),
        })
    }

    pub(crate) fn weather(&self) -> Weather {
        self.weather.get()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Weather)) {
        let mut weather = self.weather.get();
        change(&mut weather);
        self.weather.set(weather);
    }

    /// Ends every connection with some of what was on its way; says whether there was one.
    pub(crate) fn cut(&self) -> bool {
        let pipes = self.live();
        for pipe in &pipes {
            let mut pipe = pipe.borrow_mut();
            let arrive = self.chance.borrow_mut().below(pipe.chunks.len() as u64 + 1) as usize;
            pipe.chunks.truncate(arrive);
            pipe.is_ended = true;
            pipe.wake();
        }
        !pipes.is_empty()
    }

    /// Nothing arrives any more over the connections of now, and neither side hears that.
    pub(crate) fn half_open(&self) -> bool {
        let pipes = self.live();
        for pipe in &pipes {
            let mut pipe = pipe.borrow_mut();
            pipe.chunks.clear();
            pipe.is_mute = true;
        }
        !pipes.is_empty()
    }

    fn live(&self) -> Vec<Rc<RefCell<Pipe>>> {
        let mut pipes = self.pipes.borrow_mut();
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.iter().filter_map(Weak::upgrade).filter(|pipe| !pipe.borrow().is_over()).collect()
    }

    fn delay_ms(&self) -> u64 {
        let Weather { delay_ms: (least, most), slow: (until, more), .. } = self.weather.get();
        let delay = self.chance.borrow_mut().within(least, most);
        if now_ms() < until { delay + self.chance.borrow_mut().below(more + 1) } else { delay }
    }

    /// A connection to one of the doors; the device's side of it.
    pub(crate) async fn connect(self: &Rc<Self>) -> Result<Socket, TransportError> {
        if now_ms() < self.weather().silent_until_ms {
            return pending().await;
        }
        sleep(self.delay_ms()).await;
        let refused = TransportError(ErrorKind::ConnectionRefused);
        if now_ms() < self.weather().refused_until_ms {
            return Err(refused);
        }
        let Some(door) = self.doors.pick(&mut self.chance.borrow_mut()) else { return Err(refused) };
        let (up, down) = (Pipe::new(self), Pipe::new(self));
        {
            let mut pipes = self.pipes.borrow_mut();
            pipes.retain(|pipe| pipe.strong_count() > 0);
            pipes.extend([Rc::downgrade(&up), Rc::downgrade(&down)]);
        }
        door(Socket { input: up.clone(), output: down.clone() });
        Ok(Socket { input: down, output: up })
    }
}

/// One direction of a connection.
pub(crate) struct Pipe {
    line: Rc<Line>,
    chunks: VecDeque<Chunk>,
    bytes: usize,
    last_at_ms: u64,
    /// No more is written.
    is_ended: bool,
    /// Nobody reads.
    is_closed: bool,
    /// What is written goes nowhere.
    is_mute: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Chunk {
    at_ms: u64,
    bytes: Vec<u8>,
    read: usize,
}

impl Pipe {
    fn new(line: &Rc<Line>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            line: line.clone(),
            chunks: VecDeque::new(),
            bytes: 0,
            last_at_ms: 0,
            is_ended: false,
            is_closed: false,
            is_mute: false,
            reader: None,
            writer: None,
        }))
    }

    fn is_over(&self) -> bool {
        self.is_ended || self.is_closed || self.is_mute
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        if self.is_mute {
            return;
        }
        let is_choppy = self.line.weather().is_choppy;
        while !bytes.is_empty() {
            let length = if is_choppy {
                1 + self.line.chance.borrow_mut().below(bytes.len() as u64) as usize
            } else {
                bytes.len()
            };
            let (now, later) = bytes.split_at(length);
            self.last_at_ms = self.last_at_ms.max(now_ms() + self.line.delay_ms());
            self.chunks.push_back(Chunk { at_ms: self.last_at_ms, bytes: now.to_vec(), read: 0 });
            bytes = later;
        }
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// What a read finds.
enum Found {
    Bytes(usize),
    End,
    Later(u64),
}

/// One end of a connection. Dropped, it says that nothing follows.
pub(crate) struct Socket {
    input: Rc<RefCell<Pipe>>,
    output: Rc<RefCell<Pipe>>,
}

/// A transport error.
#[derive(Clone, Copy, Debug)]
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

impl Drop for Socket {
    fn drop(&mut self) {
        let mut output = self.output.borrow_mut();
        output.is_ended = true;
        if !output.is_mute {
            output.wake();
        }
        drop(output);
        let mut input = self.input.borrow_mut();
        input.is_closed = true;
        if !input.is_mute {
            input.wake();
        }
    }
}

impl Socket {
    fn find(&self, buffer: &mut [u8], waker: &Waker) -> Poll<Found> {
        let mut pipe = self.input.borrow_mut();
        let now = now_ms();
        let is_ended = pipe.is_ended && !pipe.is_mute;
        let Some(chunk) = pipe.chunks.front_mut() else {
            if is_ended {
                return Poll::Ready(Found::End);
            }
            pipe.reader = Some(waker.clone());
            return Poll::Pending;
        };
        if chunk.at_ms > now {
            return Poll::Ready(Found::Later(chunk.at_ms));
        }
        let rest = &chunk.bytes[chunk.read..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        chunk.read += count;
        if chunk.read == chunk.bytes.len() {
            pipe.chunks.pop_front();
        }
        pipe.bytes -= count;
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        Poll::Ready(Found::Bytes(count))
    }

    /// Puts bytes on their way, however many: for a peer, whose answers are bounded by what it was asked.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut output = self.output.borrow_mut();
        if !output.is_closed && !output.is_ended {
            output.push(bytes);
        }
    }
}

impl ErrorType for Socket {
    type Error = TransportError;
}

impl Read for Socket {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        loop {
            match poll_fn(|context| self.find(buffer, context.waker())).await {
                Found::Bytes(count) => return Ok(count),
                Found::End => return Ok(0),
                Found::Later(at_ms) => sleep_until(at_ms).await,
            }
        }
    }
}

impl Write for Socket {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, TransportError> {
        poll_fn(|context| {
            let mut output = self.output.borrow_mut();
            if !output.is_mute && (output.is_closed || output.is_ended) {
                return Poll::Ready(Err(TransportError(ErrorKind::ConnectionReset)));
            }
            let room = PIPE_MAX.saturating_sub(output.bytes);
            if room == 0 {
                output.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            let count = room.min(bytes.len());
            output.push(&bytes[..count]);
            Poll::Ready(Ok(count))
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}

/// A device's network stack.
pub(crate) struct Stack(pub(crate) Rc<Line>);

impl TcpConnect for Stack {
    type Error = TransportError;
    type Connection<'a> = Socket;

    async fn connect(&self, _remote: SocketAddr) -> Result<Socket, TransportError> {
        self.0.connect().await
    }
}
