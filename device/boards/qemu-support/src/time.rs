//! Time: SysTick at 1 kHz counts milliseconds in 64 bits, for embassy-time and for the emitter.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_time_driver::{Driver, time_driver_impl};
use embassy_time_queue_utils::queue_generic::ConstGenericQueue;
use rollcall_device::Clock;

/// Ticks a second: embassy-time's feature `tick-hz-1_000` says the same.
const TICK_HZ: u32 = 1_000;

/// The executor's two futures have a waker each, and with TLS the sampler has one of its own.
const ALARMS: usize = if cfg!(feature = "tls") { 3 } else { 2 };

time_driver_impl!(static DRIVER: SysTickDriver = SysTickDriver {
    first_tick: Mutex::new(Cell::new(0)),
    cycles_per_tick: Mutex::new(Cell::new(1)),
    state: Mutex::new(RefCell::new(State { now: 0, next_alarm: u64::MAX, alarms: ConstGenericQueue::new() })),
});

struct SysTickDriver {
    first_tick: Mutex<Cell<u64>>,
    cycles_per_tick: Mutex<Cell<u32>>,
    state: Mutex<RefCell<State>>,
}

struct State {
    now: u64,
    next_alarm: u64,
    alarms: ConstGenericQueue<ALARMS>,
}

impl State {
    fn ring(&mut self) {
        self.next_alarm = self.alarms.next_expiration(self.now);
    }
}

impl Driver for SysTickDriver {
    fn now(&self) -> u64 {
        critical_section::with(|token| self.state.borrow_ref(token).now)
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|token| {
            let mut state = self.state.borrow_ref_mut(token);
            if state.alarms.schedule_wake(at, waker) {
                state.ring();
            }
        });
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|token| {
        let mut state = DRIVER.state.borrow_ref_mut(token);
        state.now += 1;
        if state.now >= state.next_alarm {
            state.ring();
        }
    });
}

/// Starts the clock at `start_ms`, on a processor of `core_hz`.
pub(crate) fn start(mut syst: SYST, core_hz: u32, start_ms: u64) {
    let cycles = core_hz / TICK_HZ;
    critical_section::with(|token| {
        DRIVER.first_tick.borrow(token).set(start_ms);
        DRIVER.cycles_per_tick.borrow(token).set(cycles);
        DRIVER.state.borrow_ref_mut(token).now = start_ms;
    });
    syst.set_clock_source(SystClkSource::Core);
    // It counts from the reload value down to 0, both included.
    syst.set_reload(cycles - 1);
    syst.clear_current();
    syst.enable_interrupt();
    syst.enable_counter();
}

/// Milliseconds since [`start`].
pub(crate) fn uptime_ms() -> u64 {
    DRIVER.now() - critical_section::with(|token| DRIVER.first_tick.borrow(token).get())
}

/// Processor cycles since [`start`], to the last whole tick.
pub(crate) fn cycles() -> u64 {
    uptime_ms() * u64::from(cycles_per_tick())
}

fn cycles_per_tick() -> u32 {
    critical_section::with(|token| DRIVER.cycles_per_tick.borrow(token).get())
}

/// Where in a tick the processor stands: SysTick's counter, which counts down.
pub(crate) fn cycle_in_tick() -> u32 {
    SYST::get_current()
}

/// Processor cycles since SysTick's counter stood at `before`, less than a tick ago.
pub(crate) fn cycles_since(before: u32) -> u32 {
    let now = cycle_in_tick();
    if now <= before { before - now } else { before + cycles_per_tick() - now }
}

/// The emitter's clock.
pub(crate) struct BoardClock;

impl Clock for BoardClock {
    fn now_ms(&self) -> u64 {
        DRIVER.now()
    }

    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> {
        poll_fn(move |context| poll_until(at_ms, context))
    }
}

/// Not inlined: the emitter waits for time in a dozen places.
#[inline(never)]
fn poll_until(at_ms: u64, context: &mut Context<'_>) -> Poll<()> {
    if DRIVER.now() >= at_ms {
        return Poll::Ready(());
    }
    DRIVER.schedule_wake(at_ms, context.waker());
    Poll::Pending
}
