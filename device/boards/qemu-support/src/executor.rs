//! Runs one future, and sleeps while it waits.
//!
//! embassy-executor would do, but its idle loop waits with `wfe`, which returns at once in QEMU (it is a mere
//! hint there), so that an idle machine keeps a whole core busy. One future needs no queue of tasks either.

use core::cell::Cell;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use cortex_m::asm::wfi;
use cortex_m::interrupt;
use critical_section::Mutex;

use crate::time;

static WOKEN: AtomicBool = AtomicBool::new(true);

/// Processor cycles spent asleep so far.
static ASLEEP_CYCLES: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

const VTABLE: RawWakerVTable = RawWakerVTable::new(|_| RAW_WAKER, |_| wake(), |_| wake(), |_| {});
const RAW_WAKER: RawWaker = RawWaker::new(core::ptr::null(), &VTABLE);

fn wake() {
    WOKEN.store(true, Ordering::Release);
}

/// Polls `future` whenever one of its wakers was used, to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = waker();
    let mut context = Context::from_waker(&waker);
    loop {
        if WOKEN.swap(false, Ordering::Acquire) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
        } else {
            sleep();
        }
    }
}

/// Processor cycles that were not spent asleep since the start: work, interrupts among it.
pub(crate) fn awake_cycles() -> u64 {
    let asleep = critical_section::with(|token| ASLEEP_CYCLES.borrow(token).get());
    time::cycles().saturating_sub(asleep)
}

#[expect(unsafe_code, reason = "a waker is made of raw parts")]
fn waker() -> Waker {
    // SAFETY: the functions of the table use no data and may be called from interrupts.
    unsafe { Waker::from_raw(RAW_WAKER) }
}

/// Sleeps until the next interrupt, unless there was one since the last look.
///
/// The look is taken with interrupts masked; a pending one ends `wfi` all the same (ARMv7-M architecture
/// reference manual, B1.5.19), and its handler runs once they are unmasked.
fn sleep() {
    interrupt::free(|_| {
        if !WOKEN.load(Ordering::Acquire) {
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
