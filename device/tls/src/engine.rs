//! The engine: the one future that holds embedded-tls. It waits for nothing but memory.
//!
//! Guarantees: each of embedded-tls's futures runs to its end in the poll that began it, except the handshake's,
//! which is dropped only together with its keys. So no record is half taken, and none is encrypted twice.

use core::convert::Infallible;
use core::future::poll_fn;
use core::task::Poll;

use embassy_futures::poll_once;
use embassy_futures::select::{Either, select};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_tls::{TlsConfig, TlsConnection, TlsContext, TlsError};
use rand_core::CryptoRng;

use crate::error::Failure;
use crate::pins::Pins;
use crate::suite::Suite;
use crate::tunnel::{Link, Tunnel};
use crate::verifier::{PinVerifier, Provider, Rng};

/// What was written goes to embedded-tls in pieces of so many bytes.
const PIECE_SIZE: usize = 64;

/// Does the TLS of one connection after the other. It is for [`TlsConnect`](crate::TlsConnect), which polls it.
///
/// `rng` makes the keys: its numbers have to be such that nobody can guess them.
pub async fn engine<R: CryptoRng, const IN: usize, const OUT: usize>(
    tunnel: &Tunnel<IN, OUT>,
    pins: Pins,
    mut rng: R,
) -> Infallible {
    // Where it decrypts and encrypts.
    let (mut opened, mut sealing) = ([0; IN], [0; OUT]);
    loop {
        tunnel.until(|tunnel| tunnel.link.get() == Link::Asked).await;
        tunnel.link.set(Link::Handshake);
        tunnel.is_sealing.set(false);
        tunnel.inward.borrow_mut().reset();
        tunnel.outward.borrow_mut().reset();
        let abandoned = tunnel.until(|tunnel| !matches!(tunnel.link.get(), Link::Handshake | Link::Open));
        let served = serve(tunnel, &mut opened, &mut sealing, &pins, &mut rng);
        if let Either::Second(Err(failure)) = select(abandoned, served).await {
            tunnel.fail(failure);
        }
    }
}

/// One connection, until it fails.
async fn serve<R: CryptoRng, const IN: usize, const OUT: usize>(
    tunnel: &Tunnel<IN, OUT>,
    opened: &mut [u8],
    sealing: &mut [u8],
    pins: &Pins,
    rng: &mut R,
) -> Result<Infallible, Failure> {
    let mut tls = TlsConnection::<_, Suite>::new(Memory(tunnel), opened, sealing);
    handshake(&mut tls, pins, rng).await?;
    tunnel.inward.borrow_mut().open();
    tunnel.link.set(Link::Open);
    loop {
        tunnel.until(|tunnel| tunnel.inward.borrow().has_record() || tunnel.is_sealing.get()).await;
        if tunnel.is_sealing.take() {
            seal(&mut tls, tunnel)?;
        }
        if tunnel.inward.borrow().has_record() {
            unseal(&mut tls, tunnel)?;
        }
    }
}

type Tls<'t, const IN: usize, const OUT: usize> = TlsConnection<'t, Memory<'t, IN, OUT>, Suite>;

async fn handshake<R: CryptoRng, const IN: usize, const OUT: usize>(
    tls: &mut Tls<'_, IN, OUT>,
    pins: &Pins,
    rng: &mut R,
) -> Result<(), Failure> {
    let mut provider = Provider { rng: Rng(rng), verifier: PinVerifier::new(pins) };
    let config = TlsConfig::new();
    let opened = tls.open(TlsContext::new(&config, &mut provider)).await;
    if let Some(failure) = provider.verifier.failure() {
        return Err(failure);
    }
    opened.map_err(|error| Failure::of(&error))?;
    // embedded-tls is content without a certificate and without a signature.
    if provider.verifier.is_proved() { Ok(()) } else { Err(Failure::Unproved) }
}

/// Makes a record of what was written.
fn seal<const IN: usize, const OUT: usize>(
    tls: &mut Tls<'_, IN, OUT>,
    tunnel: &Tunnel<IN, OUT>,
) -> Result<(), Failure> {
    let (mut piece, mut at) = ([0; PIECE_SIZE], 0);
    loop {
        let count = {
            let outward = tunnel.outward.borrow();
            let rest = &outward.plain()[at..];
            let count = rest.len().min(PIECE_SIZE);
            piece[..count].copy_from_slice(&rest[..count]);
            count
        };
        if count == 0 {
            break;
        }
        match at_once(tls.write(&piece[..count]))? {
            Some(written) if written == count => at += count,
            _ => return Err(Failure::Buffer),
        }
    }
    tunnel.outward.borrow_mut().begin_record()?;
    at_once(tls.flush())?.ok_or(Failure::Buffer)
}

/// Takes the record that has come.
fn unseal<const IN: usize, const OUT: usize>(
    tls: &mut Tls<'_, IN, OUT>,
    tunnel: &Tunnel<IN, OUT>,
) -> Result<(), Failure> {
    match poll_once(tls.read_buffered()) {
        Poll::Ready(Ok(mut plain)) => tunnel.inward.borrow_mut().deliver(plain.pop_all()),
        Poll::Ready(Err(TlsError::ConnectionClosed)) => {
            tunnel.inward.borrow_mut().close();
            Ok(())
        }
        Poll::Ready(Err(error)) => Err(Failure::of(&error)),
        // There was nothing in it. It waits for the header of the next, of which it has nothing yet.
        Poll::Pending => Ok(()),
    }
}

/// What a future says that has no reason to wait; `None` if it waits.
fn at_once<T>(future: impl Future<Output = Result<T, TlsError>>) -> Result<Option<T>, Failure> {
    match poll_once(future) {
        Poll::Ready(outcome) => outcome.map(Some).map_err(|error| Failure::of(&error)),
        Poll::Pending => Ok(None),
    }
}

/// The socket as embedded-tls sees it: the tunnel's two buffers.
struct Memory<'t, const IN: usize, const OUT: usize>(&'t Tunnel<IN, OUT>);

impl<const IN: usize, const OUT: usize> ErrorType for Memory<'_, IN, OUT> {
    type Error = ErrorKind;
}

impl<const IN: usize, const OUT: usize> Read for Memory<'_, IN, OUT> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| match self.0.inward.borrow_mut().take_record(out) {
            0 => Poll::Pending,
            count => Poll::Ready(Ok(count)),
        })
        .await
    }
}

impl<const IN: usize, const OUT: usize> Write for Memory<'_, IN, OUT> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.outward.borrow_mut().append_record(bytes).map_err(|_| ErrorKind::OutOfMemory)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
