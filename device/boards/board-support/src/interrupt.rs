//! A future that is polled in an interrupt, so that it goes on while the program calculates: the sampler, during a
//! handshake of TLS.
//!
//! Guarantees: at most one at a time; it is polled by PendSV, the processor's exception for such work, at the lowest
//! priority, so that every driver's interrupt goes before it. It knows no executor: its timers must take any waker,
//! which embassy-time's do with one of its features `generic-queue-…`.
#![expect(unsafe_code, reason = "an exception borrows what a task holds, and a waker is made of raw parts")]

use core::cell::Cell;
use core::future::poll_fn;
use core::mem;
use core::pin::{Pin, pin};
use core::ptr;
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use cortex_m::Peripherals;
use cortex_m::peripheral::SCB;
use cortex_m::peripheral::scb::{SystemHandler, VectActive};
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_sync::waitqueue::AtomicWaker;

/// The lowest that a processor has, however many bits of it there are.
const LOWEST_PRIORITY: u8 = 0xff;

type Work<'a> = dyn Future<Output = ()> + Send + 'a;

/// The future that is polled, pinned by the [`run`] that waits for it.
struct Job(*mut Work<'static>);

// SAFETY: what it points to may be sent: `run` takes nothing else.
unsafe impl Send for Job {}

static JOB: Mutex<Cell<Option<Job>>> = Mutex::new(Cell::new(None));

/// Wakes the task that waits for the end.
static ENDED: AtomicWaker = AtomicWaker::new();

/// Polls `future` in an interrupt until it ends. It is there as long as what this gives is there: dropped, it is
/// polled no longer.
///
/// For the program itself, not for interrupts, and for one future at a time; anything else panics.
pub async fn run(future: impl Future<Output = ()> + Send) {
    let mut future = pin!(future);
    let _running = Running::start(future.as_mut());
    poll_fn(|context| {
        ENDED.register(context.waker());
        if is_there() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

fn is_there() -> bool {
    critical_section::with(|token| {
        let job = JOB.borrow(token).take();
        let is_there = job.is_some();
        JOB.borrow(token).set(job);
        is_there
    })
}

fn assert_no_interrupt() {
    assert!(SCB::vect_active() == VectActive::ThreadMode, "interrupts may not start or end it");
}

/// As long as it is there, the future is polled.
struct Running;

impl Running {
    fn start(future: Pin<&mut Work<'_>>) -> Self {
        assert_no_interrupt();
        // SAFETY: `run` pins the future and keeps this guard behind it. So the future stays where it is until it is
        // dropped, and before that, this guard is.
        let work = unsafe {
            mem::transmute::<*mut Work<'_>, *mut Work<'static>>(ptr::from_mut(future.get_unchecked_mut()))
        };
        critical_section::with(|token| {
            assert!(JOB.borrow(token).replace(Some(Job(work))).is_none(), "there is one already");
            // SAFETY: nobody else changes priorities, and critical sections mask all interrupts whatever theirs is.
            unsafe { Peripherals::steal().SCB.set_priority(SystemHandler::PendSV, LOWEST_PRIORITY) };
        });
        SCB::set_pendsv();
        Self
    }
}

impl Drop for Running {
    /// The program goes on only when the exception has returned, and what it polled is then in its place, or has ended.
    fn drop(&mut self) {
        assert_no_interrupt();
        critical_section::with(|token| JOB.borrow(token).take());
    }
}

#[exception]
fn PendSV() {
    let Some(job) = critical_section::with(|token| JOB.borrow(token).take()) else { return };
    // SAFETY: the future is pinned and there, see `Running`, and nobody else polls it: it is out of its place.
    let future = unsafe { Pin::new_unchecked(&mut *job.0) };
    if future.poll(&mut Context::from_waker(&waker())).is_pending() {
        critical_section::with(|token| JOB.borrow(token).set(Some(job)));
    } else {
        ENDED.wake();
    }
}

/// One table, so that all wakers are known to be the same.
static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|_| RawWaker::new(ptr::null(), &VTABLE), pend, pend, |_| {});

fn waker() -> Waker {
    // SAFETY: the functions of the table make nothing of the pointer, and may be called from anywhere.
    unsafe { Waker::new(ptr::null(), &VTABLE) }
}

/// Has the exception happen, as soon as nothing goes before it.
fn pend(_: *const ()) {
    SCB::set_pendsv();
}
