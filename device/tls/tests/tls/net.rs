//! A TCP in memory, whose server is a value: bytes come and go in pieces of random sizes, with pauses.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use embedded_io_async::{ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;

/// Who is at the other end.
pub(crate) trait Server {
    /// A new connection.
    fn accept(&mut self) {}
    /// The device sent these.
    fn hear(&mut self, bytes: &[u8]);
    /// What it sends now.
    fn say(&mut self) -> Vec<u8>;
    /// It sends nothing more, ever.
    fn is_closed(&self) -> bool {
        false
    }
}

/// The way to it.
pub(crate) struct Net<S> {
    pub(crate) server: RefCell<S>,
    /// All that the device sent in this connection.
    pub(crate) sent: RefCell<Vec<u8>>,
    /// On its way to the device.
    coming: RefCell<VecDeque<u8>>,
    /// Pieces are of as many bytes at most.
    pub(crate) piece: usize,
    /// After as many bytes to the device nothing more comes, or the connection is closed.
    pub(crate) cut: Cell<Option<(usize, Cut)>>,
    pauses: Cell<bool>,
    random: RefCell<fastrand::Rng>,
}

/// What happens where it is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Stalls,
    Closes,
}

impl<S: Server> Net<S> {
    pub(crate) fn new(server: S, seed: u64) -> Self {
        Self {
            server: RefCell::new(server),
            sent: RefCell::default(),
            coming: RefCell::default(),
            piece: usize::MAX,
            cut: Cell::new(None),
            pauses: Cell::new(false),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// In pieces of up to so many bytes, with pauses between them.
    pub(crate) fn in_pieces(mut self, of: usize) -> Self {
        self.piece = of;
        self.pauses.set(true);
        self
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    fn piece(&self, most: usize) -> usize {
        let most = most.min(self.piece);
        if most < 2 || !self.pauses.get() { most } else { self.random.borrow_mut().usize(1..=most) }
    }

    /// Sometimes lets others go first.
    async fn pause(&self) {
        if self.pauses.get() && self.random.borrow_mut().bool() {
            let mut is_over = false;
            poll_fn(|context| {
                if std::mem::replace(&mut is_over, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }
}

impl<S: Server> TcpConnect for Net<S> {
    type Error = Infallible;
    type Connection<'a>
        = Socket<'a, S>
    where
        Self: 'a;

    async fn connect<'a>(&'a self, _: SocketAddr) -> Result<Socket<'a, S>, Infallible> {
        self.pause().await;
        self.sent.borrow_mut().clear();
        self.coming.borrow_mut().clear();
        self.server.borrow_mut().accept();
        Ok(Socket { net: self, taken: 0 })
    }
}

pub(crate) struct Socket<'a, S> {
    net: &'a Net<S>,
    taken: usize,
}

impl<S> ErrorType for Socket<'_, S> {
    type Error = Infallible;
}

impl<S: Server> Read for Socket<'_, S> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Infallible> {
        self.net.pause().await;
        poll_fn(|_| {
            let mut coming = self.net.coming.borrow_mut();
            coming.extend(self.net.server.borrow_mut().say());
            let (mut most, mut closes) = (out.len(), self.net.server.borrow().is_closed());
            if let Some((at, cut)) = self.net.cut.get() {
                most = most.min(at - self.taken);
                closes |= most == 0 && matches!(cut, Cut::Closes);
            }
            let count = self.net.piece(most.min(coming.len()));
            out.iter_mut().zip(coming.drain(..count)).for_each(|(place, byte)| *place = byte);
            self.taken += count;
            if count > 0 || closes { Poll::Ready(Ok(count)) } else { Poll::Pending }
        })
        .await
    }
}

impl<S: Server> Write for Socket<'_, S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.net.pause().await;
        let count = self.net.piece(bytes.len());
        self.net.sent.borrow_mut().extend(&bytes[..count]);
        self.net.server.borrow_mut().hear(&bytes[..count]);
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        self.net.pause().await;
        Ok(())
    }
}

/// Notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs it to its end; `None` where it waits for what never comes.
pub(crate) fn run<O>(future: impl Future<Output = O>) -> Option<O> {
    run_for(usize::MAX, future)
}

/// Polls it up to so many times, and drops it then.
pub(crate) fn run_for<O>(polls: usize, future: impl Future<Output = O>) -> Option<O> {
    let (woken, mut future) = (Arc::new(Woken::default()), pin!(future));
    let waker = Waker::from(Arc::clone(&woken));
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        if !woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
    }
    None
}

/// The records in what was sent, each with its header.
pub(crate) fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let [_, _, _, high, low, ..] = bytes {
        let length = 5 + usize::from(u16::from_be_bytes([*high, *low]));
        records.push(bytes[..length].to_vec());
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "a part of a record was sent");
    records
}
