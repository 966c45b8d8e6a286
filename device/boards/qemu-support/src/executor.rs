//! Runs two futures, each woken by itself, and sleeps while both wait.
//!
//! Two, because embassy-net's sockets wake the network's future whenever they are looked at: joined to one
//! future with it, the emitter would wake itself for ever. embassy-executor would do, but its idle loop waits
//! with `wfe`, which returns at once in QEMU (it is a mere hint there), so that an idle machine would keep a
//! whole core busy.

use core::cell::Cell;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use cortex_m::asm::wfi;
use cortex_m::interrupt;
use critical_section::Mutex;

use crate::time;

/// Whether a future is to be polled.
type Woken = AtomicBool;

static FOREGROUND: Woken = AtomicBool::new(true);
static BACKGROUND: Woken = AtomicBool::new(true);

/// Processor cycles spent asleep so far.
static ASLEEP_CYCLES: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

/// Polls each future whenever one of its wakers was used, until `foreground` ends; once only.
///
/// Not inlined: in one frame with what is polled, which is above 4 KB, variables would be beyond the reach of
/// a load's offset. 800 bytes of flash.
#[inline(never)]
pub(crate) fn run<F: Future>(foreground: F, background: impl Future) -> F::Output {
    let (mut foreground, mut background) = (pin!(foreground), pin!(background));
    loop {
        if let Some(Poll::Ready(output)) = poll_if_woken(&FOREGROUND, foreground.as_mut()) {
            return output;
        }
        if poll_if_woken(&BACKGROUND, background.as_mut()).is_none() {
            sleep();
        }
    }
}

fn poll_if_woken<F: Future>(woken: &'static Woken, future: Pin<&mut F>) -> Option<Poll<F::Output>> {
    let waker = waker(woken);
    let mut context = Context::from_waker(&waker);
    woken.swap(false, Ordering::Acquire).then(|| future.poll(&mut context))
}

/// Processor cycles that were not spent asleep since the start: work, interrupts among it.
pub(crate) fn awake_cycles() -> u64 {
    let asleep = critical_section::with(|token| ASLEEP_CYCLES.borrow(token).get());
    time::cycles().saturating_sub(asleep)
}

/// One table, so that wakers of the same future are known to be the same.
static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|woken| RawWaker::new(woken, &VTABLE), wake, wake, |_| {});

#[expect(unsafe_code, reason = "a waker is made of raw parts")]
fn waker(woken: &'static Woken) -> Waker {
    // SAFETY: the functions of the table take a shared reference to an atomic that is always there, so they
    // may be called from anywhere and any number of times.
    unsafe { Waker::new((&raw const *woken).cast(), &VTABLE) }
}

#[expect(unsafe_code, reason = "a waker is made of raw parts")]
fn wake(woken: *const ()) {
    // SAFETY: `waker` made the pointer from a `&'static Woken`.
    unsafe { &*woken.cast::<Woken>() }.store(true, Ordering::Release);
}

/// Sleeps until the next interrupt, unless there was one since the last look.
///
/// The look is taken with interrupts masked; a pending one ends `wfi` all the same (ARMv7-M architecture
/// reference manual, B1.5.19), and its handler runs once they are unmasked.
fn sleep() {
    interrupt::free(|_| {
        if !FOREGROUND.load(Ordering::Acquire) && !BACKGROUND.load(Ordering::Acquire) {
            let before = time::cycle_in_tick();
            wfi();
            let slept = time::cycles_since(before);
            critical_section::with(|token| {
                let asleep = ASLEEP_CYCLES.borrow(token);
                asleep.set(asleep.get() + u64::from(slept));
            });
        }
    });
}
