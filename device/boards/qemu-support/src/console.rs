//! The serial line: the log goes out, a request to stop comes in.

use core::cell::Cell;
use core::fmt::{self, Write};
use core::future::poll_fn;
use core::task::Poll;

use critical_section::Mutex;
use embassy_sync::waitqueue::AtomicWaker;
use log::{LevelFilter, Log, Metadata, Record};

/// What a terminal sends for Ctrl-C: ASCII's "end of text".
const CTRL_C: u8 = 0x03;

/// Sends one byte, waiting for room where the UART has none.
pub type Put = fn(u8);

static PUT: Mutex<Cell<Option<Put>>> = Mutex::new(Cell::new(None));
static STOP_ASKED: Mutex<Cell<bool>> = Mutex::new(Cell::new(false));
static STOP_WAKER: AtomicWaker = AtomicWaker::new();
static LOGGER: Logger = Logger;

/// Starts logging through `put`.
pub fn init(put: Put) {
    critical_section::with(|token| PUT.borrow(token).set(Some(put)));
    // It fails only when a logger is there already.
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// What a machine's UART interrupt does with each byte that it received.
pub fn received(byte: u8) {
    if byte == CTRL_C {
        critical_section::with(|token| STOP_ASKED.borrow(token).set(true));
        STOP_WAKER.wake();
    }
}

/// Completes once Ctrl-C was received.
pub(crate) async fn stop_asked() {
    poll_fn(|context| {
        // The waker is registered before the look, so no byte falls between the two.
        STOP_WAKER.register(context.waker());
        if critical_section::with(|token| STOP_ASKED.borrow(token).get()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// The serial line as a place to write text to. Before [`init`], text is lost.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(put) = critical_section::with(|token| PUT.borrow(token).get()) {
            text.bytes().for_each(put);
        }
        Ok(())
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("rollcall")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = Console.write_str(record.level().as_str());
            let _ = writeln!(Console, ": {}", record.args());
        }
    }

    fn flush(&self) {}
}
