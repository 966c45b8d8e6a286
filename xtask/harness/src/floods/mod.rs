//! Clients that take what a host has: many connections that only wait, that ask without end or send without end, and a
//! device among them that goes on as always. For tests of what a host withstands, and for measuring it.
//!
//! Guarantees: a flood has as many clients as it was told, sends a bounded number of bytes, and is over by itself.

mod answer;
mod device;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use self::answer::Answer;
pub use self::device::{Served, percentile_ms};
use crate::mqtt::{ConnectPacket, PINGREQ, Version};

/// A host that takes no connection for so long has stopped.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// How long what was asked last may take to be answered.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How long to sleep when nothing happens.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// So many bytes of pings does a client send at most: some 30,000, and what is read of them in five minutes.
const PING_BYTES_MAX: usize = 64 * 1024;

/// What is sent of them at a time.
const PINGS: [u8; 2048] = {
    let mut pings = [0; 2048];
    let mut at = 0;
    while at < pings.len() {
        pings[at] = PINGREQ << 4;
        at += 2;
    }
    pings
};

/// What the clients of a flood do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Every other one says nothing at the door for HTTP, and the rest half a request.
    WaitingOverHttp,
    /// They ask over HTTP, and once they are answered ask again.
    Queries,
    /// They are let in at the door for MQTT, and ping as fast as it is taken from them.
    Pings,
    /// They say nothing at the door for MQTT.
    Silent,
    /// They try passwords there.
    Guesses,
}

/// The host that they come to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its door for MQTT.
    pub mqtt: SocketAddr,
    /// Its door for HTTP.
    pub http: SocketAddr,
    /// The user name and password of those that are let in.
    pub login: (String, String),
    /// Where the device publishes.
    pub topic: String,
    /// What [`Flood::Queries`] ask for: a path.
    pub query: String,
}

/// What became of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Became {
    /// Clients whose connection the host ended.
    pub cut: usize,
    /// Queries that were answered.
    pub answered: usize,
    /// Queries that were put off: 503, with the time after which to ask again.
    pub put_off: usize,
}

/// Lets these floods of so many clients each come to `target` at once, each until the host has ended all of its connections
/// or `lasts` is over, and a device among them; without a flood, the device alone.
///
/// # Errors
/// When the host takes no connection or gives no answer, or does not serve the device as it should.
pub fn meet(target: &Target, floods: &[(Flood, usize)], lasts: Duration) -> Result<(Vec<Became>, Served)> {
    let over = &AtomicBool::new(false);
    let device = device::connect(target, "standing")?;
    thread::scope(|scope| {
        let (opened, all_open) = mpsc::channel();
        let run = |&(flood, clients): &(Flood, usize)| {
            let opened = opened.clone();
            scope.spawn(move || flood.run(target, clients, lasts, &opened))
        };
        let running: Vec<_> = floods.iter().map(run).collect();
        drop(opened);
        let publishing = scope.spawn(|| device::publish(device, target, over));
        let arriving = scope.spawn(move || {
            // Each is there, or has failed.
            all_open.iter().take(floods.len()).for_each(drop);
            device::arrive(target, over)
        });
        if floods.is_empty() {
            thread::sleep(lasts);
        }
        let became: Result<Vec<_>> = running.into_iter().map(join).collect();
        over.store(true, Ordering::Relaxed);
        let (publishes, connects) = (join(publishing), join(arriving));
        Ok((became?, Served { connects: connects?, publishes: publishes? }))
    })
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the flood panicked"))?
}

impl Flood {
    fn address(self, target: &Target) -> SocketAddr {
        match self {
            Self::WaitingOverHttp | Self::Queries => target.http,
            Self::Pings | Self::Silent | Self::Guesses => target.mqtt,
        }
    }

    /// What a client says first.
    fn opening(self, target: &Target, number: usize) -> Vec<u8> {
        let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", target.query);
        let (id, password) = (format!("flood-{number}"), format!("guess {number}"));
        let connect = |user: &str, password: &str| {
            let login = Some((user, password));
            ConnectPacket { login, ..ConnectPacket::new(Version::V5, &id) }.encode()
        };
        match self {
            Self::Silent => Vec::new(),
            Self::WaitingOverHttp if number.is_multiple_of(2) => Vec::new(),
            Self::WaitingOverHttp => request.as_bytes()[..request.len() / 2].to_vec(),
            Self::Queries => request.into_bytes(),
            Self::Pings => connect(&target.login.0, &target.login.1),
            Self::Guesses => connect("somebody", &password),
        }
    }

    fn run(self, target: &Target, clients: usize, lasts: Duration, opened: &Sender<()>) -> Result<Became> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let start = Instant::now();
        let open = |number| {
            self.open(target, number, &epoll).with_context(|| format!("client {number} of {self:?}"))
        };
        let mut clients = (0..clients).map(open).collect::<Result<Vec<_>>>()?;
        // A device that has failed listens no longer.
        let _ = opened.send(());
        let mut became = Became::default();
        let mut events = Vec::with_capacity(256);
        loop {
            let ends = start.elapsed() > lasts;
            let busy = clients.iter().flatten().filter(|client| client.asked).count();
            if became.cut == clients.len() || ends && busy == 0 {
                return Ok(became);
            }
            ensure!(start.elapsed() < lasts + ANSWER_LIMIT, "{busy} queries have no answer");
            events.clear();
            epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&NAP))?;
            for event in &events {
                let number = event.data.u64() as usize;
                let Some(client) = &mut clients[number] else { continue };
                let again = (!ends).then(|| self.opening(target, number));
                let go_on = client.go_on(&mut became, again.as_deref(), &epoll, number)?;
                became.cut += usize::from(go_on == GoOn::Cut);
                if go_on != GoOn::Stays {
                    clients[number] = None;
                }
            }
        }
    }

    fn open(self, target: &Target, number: usize, epoll: &OwnedFd) -> Result<Option<Client>> {
        let mut stream = TcpStream::connect_timeout(&self.address(target), CONNECT_LIMIT)?;
        // A host that has closed it already is seen when it is read.
        let _ = stream.write_all(&self.opening(target, number));
        stream.set_nonblocking(true)?;
        let pings = if self == Self::Pings { PING_BYTES_MAX } else { 0 };
        epoll::add(epoll, &stream, EventData::new_u64(number as u64), wanted(pings))?;
        Ok(Some(Client { stream, asked: self == Self::Queries, answer: Answer::default(), pings }))
    }
}

/// What becomes of a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GoOn {
    Stays,
    /// It has what it came for.
    Leaves,
    /// The host has ended its connection.
    Cut,
}

/// One of a flood's.
struct Client {
    stream: TcpStream,
    /// Does it wait for an answer?
    asked: bool,
    answer: Answer,
    /// Bytes of pings that it has yet to send.
    pings: usize,
}

fn wanted(pings: usize) -> EventFlags {
    if pings > 0 { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
}

impl Client {
    /// Sends and reads what can be sent and read at once. An answer is followed by the question `again`, if there is one.
    fn go_on(
        &mut self,
        became: &mut Became,
        again: Option<&[u8]>,
        epoll: &OwnedFd,
        number: usize,
    ) -> Result<GoOn> {
        if self.pings > 0 {
            let count = PINGS.len().min(self.pings);
            self.pings -= self.stream.write(&PINGS[..count]).unwrap_or(0);
            if self.pings == 0 {
                epoll::modify(epoll, &self.stream, EventData::new_u64(number as u64), wanted(0))?;
            }
        }
        let mut bytes = [0; 16 * 1024];
        let count = match self.stream.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(GoOn::Stays),
            Ok(0) | Err(_) => return Ok(GoOn::Cut),
            Ok(count) => count,
        };
        if !self.asked {
            return Ok(GoOn::Stays);
        }
        match self.answer.take(&bytes[..count])? {
            Some(200) => became.answered += 1,
            Some(503) => became.put_off += 1,
            Some(other) => bail!("a query was answered with {other}"),
            None => return Ok(GoOn::Stays),
        }
        let Some(again) = again else { return Ok(GoOn::Leaves) };
        // As when it was opened.
        let _ = self.stream.write_all(again);
        Ok(GoOn::Stays)
    }
}
